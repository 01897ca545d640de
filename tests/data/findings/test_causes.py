"""Findings name their most likely cause, and what can be used of a faulty dataset stays."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.findings.findings import MAX_LOCATIONS
from tests.data.findings.helpers import HEIGHT, WIDTH, again, append, every_annotation, first, image, opened
from tests.factories import SIZE_HW, coco, kinds, write_split


class TestFoundingBugs:
    """Three mistakes that once cost days each, named within a second and named first."""

    @pytest.mark.parametrize("key", ["bboxes", "masks", "annotation", "Annotations", "objects"])
    def test_annotations_under_another_key(self, tmp_path, key):
        dataset = opened(tmp_path, lambda data: data.update({key: data.pop("annotations")}))
        assert kinds(dataset) == ["annotations-wrong-key"]
        finding = dataset.findings[0]
        assert (finding.variant, finding.facts["keys"], finding.severity) == ("", (key,), "error")
        assert f"under '{key}'" in finding.message and "Rename" in finding.fix

    def test_boxes_and_masks_in_lists_of_their_own(self, tmp_path):
        def change(data):
            entries = data.pop("annotations")
            data["bboxes"] = [entry["bbox"] for entry in entries]
            data["masks"] = [entry["segmentation"] for entry in entries]

        dataset = opened(tmp_path, change)
        assert kinds(dataset)[0] == "annotations-wrong-key"
        assert dataset.findings[0].facts["keys"] == ("bboxes", "masks")
        assert "'bboxes', 'masks'" in dataset.findings[0].message

    def test_boxes_inside_the_image_entries(self, tmp_path):
        def change(data):
            data["annotations"] = []
            for entry in data["images"]:
                entry["bboxes"] = [[1, 2, 30, 40]]

        dataset = opened(tmp_path, change)
        finding = dataset.findings[0]
        assert (finding.kind, finding.variant) == ("annotations-wrong-key", "in-images")
        assert finding.facts["keys"] == ("bboxes",)

    def test_boxes_and_masks_under_other_keys_in_every_annotation(self, tmp_path):
        def change(entry):
            entry["bboxes"], entry["masks"] = entry.pop("bbox"), entry.pop("segmentation")

        dataset = opened(tmp_path, every_annotation(change))
        assert kinds(dataset) == ["annotations-wrong-key"]
        assert dataset.findings[0].count == 8

    def test_the_key_that_matters_is_named_behind_many_others(self, tmp_path):
        def change(entry):
            for key in "abcdefgh":
                entry[key] = 1
            entry["bboxes"] = entry.pop("bbox")
            del entry["segmentation"]

        dataset = opened(tmp_path, every_annotation(change))
        assert dataset.findings[0].variant == "in-annotations" and dataset.findings[0].facts["keys"] == ("bboxes",)

    @pytest.mark.parametrize("key", ["polygon", "Segmentation", "rle"])
    def test_masks_under_another_key(self, tmp_path, key):
        dataset = opened(tmp_path, every_annotation(lambda entry: entry.update({key: entry.pop("segmentation")})))
        assert kinds(dataset) == ["masks-wrong-key"] and dataset.split("train").num_objects == 8
        assert dataset.findings[0].facts["keys"] == (key,)

    def test_annotations_as_an_object(self, tmp_path):
        dataset = opened(tmp_path, lambda data: data.update(annotations={"0": data["annotations"]}))
        assert (dataset.findings[0].kind, dataset.findings[0].variant) == ("annotations-wrong-key", "no-list")

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.update(annotations=[]),
            lambda data: data.pop("annotations"),
            lambda data: data.update(annotations=None),
            lambda data: data.update(annotations="none"),
        ],
    )
    def test_no_objects(self, tmp_path, change):
        dataset = opened(tmp_path, change)
        assert kinds(dataset) == ["no-objects"]
        assert dataset.findings[0].severity == "error"
        assert len(dataset.split("train").images) == 5

    @pytest.mark.parametrize("with_masks", [True, False])
    def test_boxes_in_fractions_of_the_image(self, tmp_path, with_masks):
        def change(entry):
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
            if not with_masks:
                del entry["segmentation"]

        dataset = opened(tmp_path, every_annotation(change))
        assert kinds(dataset) == ["boxes-normalized"]
        finding = dataset.findings[0]
        assert (finding.count, finding.facts["boxes"], finding.severity) == (8, 8, "error")
        assert finding.message.startswith("8 of 8 annotations have a box between 0 and 1")
        assert dataset.split("train").num_objects == (8 if with_masks else 0)

    def test_boxes_of_another_image_size(self, tmp_path):
        def change(entry):
            entry["bbox"] = [20 * value for value in entry["bbox"]]

        dataset = opened(tmp_path, every_annotation(change), kinds=("box",))
        finding = next(finding for finding in dataset.findings if finding.kind == "boxes-outside-image")
        assert finding.severity == "error"
        for record in dataset.split("train").images:
            for item in record.annotations:
                x, y, w, h = item.bbox_xywh
                assert 0 <= x < x + w <= record.width and 0 <= y < y + h <= record.height


def test_corners_instead_of_sizes_are_recognized(tmp_path):
    def change(entry):
        x, y, w, _ = entry["bbox"]
        entry["bbox"] = [x + 0.4 * (WIDTH - w), y, WIDTH, HEIGHT]

    dataset = opened(tmp_path, every_annotation(change), kinds=("box",))
    assert (dataset.findings[0].kind, dataset.findings[0].variant) == ("boxes-outside-image", "as-corners")
    assert "[left, top, right, bottom]" in dataset.findings[0].fix


def test_a_box_in_another_place_than_its_mask_is_kept_but_a_lost_one_comes_from_the_mask(tmp_path):
    polygon = [[10.0, 12.0, 30.0, 12.0, 30.0, 40.0, 10.0, 40.0]]
    for bbox in (None, [math.nan, 0, 1, 1], [500, 500, 10, 10], [0.1, 0.1, 0.2, 0.2]):
        dataset = opened(tmp_path, first(bbox=bbox, segmentation=polygon))
        assert dataset.split("train").images[0].annotations[0].bbox_xywh == (10, 12, 20, 28)


def test_box_from_run_lengths(tmp_path):
    def change(data):
        for entry in data["annotations"]:
            del entry["bbox"]

    wanted = {entry["id"]: entry["bbox"] for entry in coco()["annotations"]}
    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["box-from-mask"]
    for item in (item for record in dataset.split("train").images for item in record.annotations):
        assert item.bbox_xywh == pytest.approx(wanted[item.id], abs=1)


def test_overhang_of_rounding_is_cut_off_without_a_word(tmp_path):
    dataset = opened(tmp_path, first(bbox=[-1.5, 3, 20, HEIGHT - 2], segmentation=None))
    assert dataset.findings == ()
    assert dataset.split("train").images[0].annotations[0].bbox_xywh == (0, 3, 18.5, HEIGHT - 3)


def test_one_overhang_among_many_boxes_is_only_a_warning(tmp_path):
    dataset = opened(tmp_path, first(bbox=[-5, 3, 20, 10]), images=15)
    assert [(finding.kind, finding.severity) for finding in dataset.findings] == [("boxes-outside-image", "warning")]


def test_images_that_share_an_id_are_left_out_with_their_annotations(tmp_path):
    dataset = opened(tmp_path, lambda data: data["images"][-1].update(id=0))
    assert [record.id for record in dataset.split("train").images] == [1, 2, 3]
    assert dataset.split("train").num_objects == 6


def test_categories_that_share_an_id_make_their_annotations_unusable(tmp_path):
    dataset = opened(tmp_path, append("categories", {"id": 1, "name": "dent"}))
    assert kinds(dataset) == ["duplicate-category-id"]
    assert dataset.categories == ("crack", "pothole", "joint", "dent")
    assert dataset.split("train").images[0].unusable_categories == {"crack", "dent"}
    assert dataset.split("train").objects_per_category()["crack"] == 0


def test_the_same_category_twice_is_no_fault(tmp_path):
    assert opened(tmp_path, again("categories")).findings == ()


def test_no_usable_image(tmp_path):
    dataset = opened(tmp_path, lambda data: data.update(images=[], annotations=[]))
    assert kinds(dataset) == ["no-images"]


def test_unreadable_image_among_those_looked_into(tmp_path):
    data = coco()
    folder = write_split(tmp_path / "train", data)
    (folder / data["images"][1]["file_name"]).write_bytes(b"no image")
    finding = open_dataset(tmp_path).findings[0]
    assert finding.kind == "image-unreadable" and finding.locations[0].image == data["images"][1]["file_name"]


def test_size_is_taken_from_the_picture_where_the_file_gives_none(tmp_path):
    record = opened(tmp_path, image(width=None, height="tall")).split("train").images[0]
    assert (record.height, record.width) == SIZE_HW and len(record.annotations) == 2


def test_missing_images_stay_and_are_marked(tmp_path):
    data = coco()
    folder = write_split(tmp_path / "train", data)
    (folder / data["images"][0]["file_name"]).unlink()
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["image-missing"]
    assert [record.missing for record in dataset.split("train").images] == [True, False, False, False, False]


def test_crowds_are_shown_but_not_counted(tmp_path):
    dataset = opened(tmp_path, first(iscrowd=1))
    assert kinds(dataset) == ["crowds"]
    assert dataset.split("train").num_objects == 7
    assert dataset.split("train").images[0].annotations[0].iscrowd


def test_errors_come_first_and_whole_file_faults_before_single_ones(tmp_path):
    def change(data):
        data["annotations"][0]["bbox"] = [1, 2, 0, 0]
        data["annotations"][1]["bbox"] = [0.1, 0.1, 0.1, 0.1]
        data["annotations"][2]["segmentation"] = "x"
        data["annotations"][3].pop("id")

    assert kinds(opened(tmp_path, change)) == [
        "boxes-normalized",
        "bad-bbox",
        "bad-segmentation",
        "annotation-without-id",
    ]


def test_at_most_fifty_places_are_kept(tmp_path):
    dataset = opened(tmp_path, every_annotation(lambda entry: entry.update(image_id=99)), images=40)
    finding = next(finding for finding in dataset.findings if finding.kind == "unknown-image")
    assert finding.count == 80 and len(finding.locations) == MAX_LOCATIONS


def test_wild_text_in_a_file_is_harmless(tmp_path):
    data = coco()
    write_split(tmp_path / "train", data)
    data["categories"][0]["name"] = "crack \ud800"
    data["images"][0]["file_name"] = "\udfff\0.png"
    data["annotations"][0]["id"] = "\ud800{braces}"
    data["annotations"][0]["bbox"] = "\ud800" * 1000
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = open_dataset(tmp_path)
    assert set(kinds(dataset)) == {"image-missing", "bad-bbox"}
    for finding in dataset.findings:
        (finding.message + finding.fix + "".join(map(str, finding.locations))).encode("utf-8")
        assert len(finding.message) < 600
    "".join(dataset.categories).encode("utf-8")


def test_image_of_one_pixel_is_fine(tmp_path):
    data = coco(images=0, empty_images=1)
    data["images"][0] |= {"width": 1, "height": 1}
    folder = write_split(tmp_path / "train", data)
    assert Image.open(folder / data["images"][0]["file_name"]).size == (1, 1)
    assert set(kinds(open_dataset(tmp_path))) == {"no-objects"}


def test_objects_of_one_box_whose_masks_cannot_be_used_are_no_copies(tmp_path):
    def change(data):
        entry = data["annotations"][0]
        entry["segmentation"] = [[1, 2]]
        data["annotations"].append(entry | {"id": 1000, "segmentation": [[3, 4]]})

    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["bad-segmentation"] and dataset.findings[0].count == 2
    assert dataset.split("train").num_objects == 9


def test_no_objects_is_told_by_what_was_dropped(tmp_path):
    dataset = opened(tmp_path / "crowds", every_annotation(lambda entry: entry.update(iscrowd=1)))
    assert kinds(dataset) == ["no-objects"] and dataset.findings[0].variant == "crowds"
    for number, bbox in enumerate(([10, 10, 0, 10], [0.1, 0.1, 0.2, 0.2])):
        dataset = opened(
            tmp_path / str(number), every_annotation(lambda entry, b=bbox: entry.update(bbox=b)), kinds=("box",)
        )
        assert len(dataset.findings) == 1 and dataset.findings[0].kind in ("bad-bbox", "boxes-normalized")


def test_one_box_in_fractions_among_many_is_a_stray(tmp_path):
    finding = opened(tmp_path, first(bbox=[0, 0, 1, 1]), images=15).findings[0]
    assert (finding.kind, finding.variant, finding.severity) == ("boxes-normalized", "stray", "warning")


def test_of_an_entry_that_is_there_twice_nothing_is_missing(tmp_path):
    assert opened(tmp_path / "a", again("images")).findings[0].variant == "same-id"
    assert opened(tmp_path / "b", again("images", id=50)).findings[0].variant == ""


def test_a_number_as_a_category_is_its_name_and_faults_are_told_in_plain_words(tmp_path):
    dataset = opened(tmp_path / "a", lambda data: data["categories"][0].update(name=5))
    assert dataset.findings == () and dataset.categories[0] == "5" and dataset.split("train").num_objects == 8
    message = opened(tmp_path / "b", first(segmentation=[3])).findings[0].message
    assert "a number in the list of polygons" in message
