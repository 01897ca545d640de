"""What files say about whole categories, and which phrases may be asked of an image because of it."""

from __future__ import annotations

import random

import pytest

from sam3_lora.config import Negatives
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrases_for
from sam3_lora.words import foreign_words
from tests.data.findings.helpers import opened
from tests.factories import coco, kinds, write_split

CRACK, POTHOLE, JOINT = 1, 2, 3  # ids of the factory's categories


def asked(dataset, phrases=None, split="train"):
    """Of each image: positive phrase -> whether it is exhaustive; and all phrases that may be negative."""
    found = []
    for image in dataset.split(split).images:
        positives, negatives = phrases_for(image, dataset.prompt_categories, Negatives(999), random.Random(0), phrases)
        found.append(({one.phrase: one.exhaustive for one in positives}, set(negatives)))
    return found


def with_categories(*categories, objects):
    """A change of a file: its categories as (name, supercategory), and the category ids of image 0's objects."""

    def change(data):
        data["categories"] = [
            {"id": number, "name": name, "supercategory": above} for number, (name, above) in enumerate(categories)
        ]
        data["annotations"] = [
            {**data["annotations"][0], "id": number, "category_id": category, "bbox": [number * 9, 5, 8, 8]}
            for number, category in enumerate(objects)
        ]
        data["images"] = data["images"][:2]

    return change


class TestSupercategories:
    def test_a_parent_without_objects_is_never_asked(self, tmp_path):
        names = [("road-damage", "none"), ("pothole", "road-damage"), ("crack", "Road Damage")]
        dataset = opened(tmp_path, with_categories(*names, objects=[1]))
        (positives, negatives), (_, of_empty) = asked(dataset)
        assert positives == {"pothole": True} and "crack" in negatives
        assert "road damage" not in negatives | of_empty and {"crack", "pothole"} <= of_empty
        assert sorted(kinds(dataset)) == ["parent-without-objects", "unused-category"]
        assert dataset.categories[0] == "road-damage"  # still listed

    def test_a_parent_named_like_its_children_does_not_keep_them_from_being_asked(self, tmp_path):
        names = [("fire-smoke", "none"), ("fire", "fire-smoke"), ("smoke", "fire-smoke")]
        (_, negatives), (_, of_empty) = asked(opened(tmp_path, with_categories(*names, objects=[1])))
        assert "smoke" in negatives and {"fire", "smoke"} <= of_empty

    def test_a_parent_with_objects_is_asked_where_no_child_is(self, tmp_path):
        def change(data):
            with_categories(("vehicle", "none"), ("taxi", "vehicle"), ("tree", "plant"), objects=[1, 2])(data)
            data["annotations"] += [{**data["annotations"][0], "id": 9, "image_id": 2, "category_id": 0}]
            data["images"] += [{**data["images"][0], "id": 2, "file_name": "0_002.png"}]

        dataset = opened(tmp_path, change)
        (_, with_taxi), (_, of_empty), (of_parent, with_parent) = asked(dataset)
        assert "vehicle" not in with_taxi and "vehicle" in of_empty
        assert of_parent == {"vehicle": True} and "taxi" not in with_parent and "tree" in with_parent
        assert kinds(dataset) == ["parent-category"]
        assert dataset.findings[0].image_names == ("0_000.png",)  # that have a taxi

    def test_a_parent_beside_its_child_is_not_exhaustive(self, tmp_path):
        names = [("vehicle", ""), ("taxi", "vehicle"), ("tree", "")]
        dataset = opened(tmp_path, with_categories(*names, objects=[0, 1, 2]))
        assert asked(dataset)[0][0] == {"vehicle": False, "taxi": True, "tree": True}
        merged = asked(dataset, {"taxi": "vehicle"})[0]
        assert merged[0] == {"vehicle": True, "tree": True}

    def test_chains(self, tmp_path):
        names = [("damage", ""), ("surface damage", "damage"), ("pothole", "surface damage"), ("graffiti", "damage")]
        dataset = opened(tmp_path, with_categories(*names, objects=[0, 1, 2, 3]))
        ancestors = dataset.split("train").images[0].ancestors
        assert list(ancestors["pothole"]) == ["surface damage", "damage"]
        assert asked(dataset)[0][0] == {"damage": False, "surface damage": False, "pothole": True, "graffiti": True}

    def test_categories_above_each_other(self, tmp_path):
        dataset = opened(tmp_path, with_categories(("pit", "hole"), ("hole", "pit"), ("crack", "crack"), objects=[0]))
        positives, negatives = asked(dataset)[0]
        assert positives == {"pit": True} and "hole" not in negatives and "crack" in negatives

    @pytest.mark.parametrize("above", ["none", "", "pothole", "POTHOLE", "vehicle", None, 3, 0, ["vehicle"], {}])
    def test_a_supercategory_that_is_no_other_category_says_nothing(self, tmp_path, above):
        dataset = opened(tmp_path, with_categories(("pothole", above), ("crack", "none"), objects=[0, 1]))
        assert not dataset.split("train").images.ancestors and kinds(dataset) == []

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("supercategory", "Road_Damages"),
            ("supercategory", "roaddamage"),
            ("supercategory", 0),
            ("supercategory", ["none", "road damage"]),
            ("parent", "road damage"),
            ("parent_id", 0),
        ],
    )
    def test_spellings_of_a_parent(self, tmp_path, key, value):
        def change(data):
            with_categories(("road damage", None), ("crack", None), ("tree", None), objects=[1, 2])(data)
            data["categories"][1][key] = value
            data["annotations"].append({**data["annotations"][0], "id": 9, "image_id": 1, "category_id": 0})

        dataset = opened(tmp_path, change)
        (positives, negatives), (_, of_parent) = asked(dataset)
        assert positives == {"crack": True, "tree": True} and "road damage" not in negatives
        assert "crack" not in of_parent and "tree" in of_parent
        assert kinds(dataset) == ["parent-category"]

    def test_the_plural_of_the_own_name_is_no_parent(self, tmp_path):
        dataset = opened(tmp_path, with_categories(("pothole", "potholes"), ("crack", "cracks"), objects=[0]))
        assert "crack" in asked(dataset)[0][1] and not dataset.split("train").images.ancestors

    def test_a_parent_with_objects_in_another_split_is_asked(self, tmp_path):
        for split, objects in (("train", [1]), ("valid", [0])):
            data = opened_data(with_categories(("vehicle", ""), ("taxi", "vehicle"), objects=objects))
            write_split(tmp_path / split, data)
        dataset = open_dataset(tmp_path)
        assert "vehicle" in dataset.prompt_categories and "vehicle" not in dataset.split("train").prompt_categories


def opened_data(change):
    data = coco()
    change(data)
    return data


def listing(**values):
    """A change of a file: image 0 has these keys; it holds a crack and a pothole."""
    return lambda data: data["images"][0].update(values)


class TestLists:
    def test_only_listed_categories_are_negatives(self, tmp_path):
        dataset = opened(tmp_path, listing(neg_category_ids=[JOINT]))
        first, second, *_ = asked(dataset)
        assert first == ({"crack": True, "pothole": True}, {"joint"})
        assert set(foreign_words()) < second[1]  # its entry lists nothing
        assert kinds(dataset) == ["negatives-listed"] and dataset.findings[0].image_names == ("0_000.png",)

    def test_a_listed_category_is_a_negative_however_it_reads(self, tmp_path):
        def change(data):
            data["categories"][2]["name"] = "deep pothole"
            data["images"][0]["neg_category_ids"] = [JOINT]

        assert asked(opened(tmp_path, change))[0][1] == {"deep pothole"}

    def test_an_annotated_category_is_no_negative_although_listed(self, tmp_path):
        assert asked(opened(tmp_path, listing(neg_category_ids=[CRACK, JOINT])))[0][1] == {"joint"}

    def test_categories_with_one_phrase_are_negative_only_if_all_are_listed(self, tmp_path):
        def change(data):
            data["categories"].append({"id": 4, "name": "seam"})
            data["images"][0]["neg_category_ids"] = [JOINT]
            data["images"][4]["neg_category_ids"] = [JOINT, 4]

        found = asked(opened(tmp_path, change), {"joint": "gap", "seam": "gap"})
        assert found[0][1] == set() and found[4][1] == {"gap"}

    def test_categories_that_are_not_exhaustive(self, tmp_path):
        dataset = opened(tmp_path, listing(not_exhaustive_category_ids=[POTHOLE]))
        assert asked(dataset)[0][0] == {"crack": True, "pothole": False}
        assert kinds(dataset) == ["not-exhaustive"]

    def test_a_category_that_is_not_exhaustive_is_no_negative(self, tmp_path):
        dataset = opened(tmp_path, listing(neg_category_ids=[JOINT], not_exhaustive_category_ids=[JOINT, CRACK]))
        assert asked(dataset)[0] == ({"crack": False, "pothole": True}, set())

    def test_image_level_labels_are_no_negatives(self, tmp_path):
        _, negatives = asked(opened(tmp_path, listing(pos_category_ids=[JOINT])))[0]
        assert "joint" not in negatives and negatives

    @pytest.mark.parametrize("flag", [False, 0, "false"])
    def test_an_image_that_is_not_exhaustive(self, tmp_path, flag):
        found = asked(opened(tmp_path, listing(is_instance_exhaustive=flag)))
        assert found[0] == ({"crack": False, "pothole": False}, set())

    @pytest.mark.parametrize("flag", [False, 0, "false"])
    def test_an_annotation_that_is_not_exhaustive(self, tmp_path, flag):
        def change(data):
            for entry in data["annotations"]:
                entry["is_instance_exhaustive"] = True
            data["annotations"][1]["is_instance_exhaustive"] = flag

        dataset = opened(tmp_path, change)
        assert asked(dataset)[0][0] == {"crack": True, "pothole": False} and "joint" in asked(dataset)[0][1]
        assert kinds(dataset) == ["not-exhaustive"] and dataset.findings[0].count == 1

    @pytest.mark.parametrize("flag", [True, 1, None])
    def test_an_image_that_is_exhaustive(self, tmp_path, flag):
        found = asked(opened(tmp_path, listing(is_instance_exhaustive=flag)))
        assert all(found[0][0].values()) and "joint" in found[0][1]

    @pytest.mark.parametrize("ids", [[99], ["tree"], [None], [[1]], "3", 3, {}])
    @pytest.mark.parametrize("key", ["neg_category_ids", "not_exhaustive_category_ids", "pos_category_ids"])
    def test_values_that_are_no_categories(self, tmp_path, key, ids):
        dataset = opened(tmp_path, listing(**{key: ids}))
        assert "listed-category-unknown" in kinds(dataset)
        assert all(finding.message and finding.fix for finding in dataset.findings)
        assert all(asked(dataset)[0][0].values())

    @pytest.mark.parametrize("spelled", [str, lambda number: f"0{number}", {1: "crack", 2: "Pothole", 3: "joint"}.get])
    def test_ids_as_text_or_as_names(self, tmp_path, spelled):
        values = {"neg_category_ids": [spelled(JOINT)], "not_exhaustive_category_ids": [spelled(POTHOLE)]}
        dataset = opened(tmp_path, listing(**values))
        assert asked(dataset)[0] == ({"crack": True, "pothole": False}, {"joint"})
        assert "listed-category-unknown" not in kinds(dataset)

    def test_ids_as_text(self, tmp_path):
        def change(data):
            for entry in data["categories"]:
                entry["id"] = str(entry["id"])
            for entry in data["annotations"]:
                entry["category_id"] = str(entry["category_id"])
            data["images"][0]["neg_category_ids"] = ["3"]

        assert asked(opened(tmp_path, change))[0][1] == {"joint"}

    def test_an_image_of_which_nothing_is_known_is_left_out(self, tmp_path):
        def change(data):  # the last image has no objects
            data["images"][-1]["neg_category_ids"] = []
            data["images"][0]["neg_category_ids"] = []

        dataset = opened(tmp_path, change)
        assert [image.id for image in dataset.split("train").present().images] == [0, 1, 2, 3]
        assert {finding.kind: finding.count for finding in dataset.findings} == {
            "negatives-listed": 1,
            "image-unknown": 1,
        }
        assert dataset.split("train").images[1:].unknown.tolist() == [False, False, False, True]

    def test_lists_are_kept_with_their_images(self, tmp_path):
        def change(data):
            data["images"].insert(0, {"id": 77})  # is left out
            for number, entry in enumerate(data["images"][1:]):
                entry["neg_category_ids"] = [JOINT] * (number % 2)

        images = opened(tmp_path, change).split("train").images
        wanted = [frozenset(), frozenset(("joint",)), frozenset(), frozenset(("joint",)), frozenset()]
        assert [image.absent_categories for image in images] == wanted
        assert images[1:3][0].absent_categories == wanted[1]


def test_crowds_and_unusable_annotations_leave_a_phrase_not_exhaustive(tmp_path):
    def change(data):
        data["annotations"].append({**data["annotations"][0], "id": 50, "bbox": [1, 1, 30, 30], "iscrowd": 1})
        data["annotations"].append({**data["annotations"][1], "id": 51, "bbox": [1, 1, 0, 0], "segmentation": []})

    assert asked(opened(tmp_path, change))[0][0] == {"crack": False, "pothole": False}
