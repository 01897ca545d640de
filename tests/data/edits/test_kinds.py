"""Every kind of edit does what it says when a dataset is opened with it, and a list of them survives its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.file import parse_edits, read_edits, write_edits
from sam3_lora.data.edits.kinds import EditList
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation
from tests.factories import SIZE_HW, coco, write_dataset, write_split

HEIGHT, WIDTH = SIZE_HW


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("sound"))


def spoiled(folder: Path, change: Any = lambda data: None, **options: Any) -> Path:
    data = coco(**options)
    write_split(folder / "train", data)
    change(data)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def with_edits(folder: Path, *edits: kinds.AnyEdit) -> Dataset:
    return open_dataset(folder, edits=EditList(edits))


def boxes(dataset: Dataset, split: str = "train") -> list[list[float]]:
    return dataset.split(split).images.boxes_xywh.tolist()


def found(dataset: Dataset) -> dict[str, int]:
    return {finding.kind: finding.count for finding in dataset.findings}


def test_without_edits_nothing_changes(sound):
    plain, edited = open_dataset(sound), with_edits(sound)
    assert boxes(plain) == boxes(edited) and plain.split("train").edits == edited.split("train").edits == ""


def test_exclude_images_and_objects(sound):
    table = open_dataset(sound).split("train").images
    name, kept = table[0].file_name, table[1]
    dataset = with_edits(
        sound,
        kinds.ExcludeImages("train", (name,)),
        kinds.ExcludeObjects("train", {kept.file_name: (kept.annotations[0].id,)}),
    )
    images = dataset.split("train").images
    assert images.names == table.names[1:] and [item.id for item in images[0].annotations] == [kept.annotations[1].id]
    assert images[0].unusable_categories == frozenset() and dataset.findings == ()
    assert boxes(dataset, "valid") == boxes(open_dataset(sound), "valid")


def test_masks_and_boxes(sound):
    record = open_dataset(sound).split("train").images[0]
    polygon, rle = record.annotations  # in turn a polygon and run lengths
    objects = {record.file_name: (polygon.id,)}
    (without, _) = with_edits(sound, kinds.RemoveMask("train", objects)).split("train").images[0].annotations
    assert without.segmentation is None and without.bbox_xywh == polygon.bbox_xywh
    (filled, same) = with_edits(sound, kinds.MaskAsRunLengths("train", objects)).split("train").images[0].annotations
    assert isinstance(filled.segmentation, dict) and same.segmentation == rle.segmentation
    np.testing.assert_array_equal(
        decode_segmentation(filled.segmentation, SIZE_HW), decode_segmentation(polygon.segmentation, SIZE_HW)
    )


def test_box_from_mask_and_short_parts(tmp_path):
    def change(data: dict) -> None:
        data["annotations"][0]["bbox"] = [0, 0, 5, 5]
        data["annotations"][0]["segmentation"] = [[10, 12, 30, 12, 30, 32, 10, 32], [1, 1, 3, 3]]

    folder = spoiled(tmp_path, change)
    objects = {"0_000.png": (0,)}
    edits = kinds.DropShortParts("train", objects), kinds.BoxFromMask("train", objects)
    item = with_edits(folder, *edits).split("train").images[0].annotations[0]
    assert item.bbox_xywh == (10, 12, 20, 20) and item.segmentation == [[10, 12, 30, 12, 30, 32, 10, 32]]
    assert with_edits(folder, *edits[1:]).split("train").images[0].annotations[0].bbox_xywh == (1, 1, 29, 31)


def test_objects_with_the_same_id_are_told_apart(tmp_path):
    def change(data: dict) -> None:
        for entry in data["annotations"]:
            entry["id"] = 1
        del data["annotations"][1]["id"]

    folder = spoiled(tmp_path, change, images=2, objects=4)
    table = open_dataset(folder).split("train").images
    assert [[item.id for item in image.annotations] for image in table[:2]] == [
        [1, "1#2", "1#3", "1#4"],  # the second one has none, and is known by its position
        [1, "1#2", "1#3", "1#4"],
    ]
    dataset = with_edits(folder, kinds.ExcludeObjects("train", {table[1].file_name: (1, "1#3")}))
    assert [item.id for item in dataset.split("train").images[1].annotations] == ["1#2", "1#4"]
    assert len(dataset.split("train").images[0].annotations) == 4 and "edits-unfit" not in found(dataset)


def test_an_object_of_which_a_piece_is_gone_is_made_of_the_others(tmp_path):
    folder = spoiled(tmp_path, objects=3, categories=("crack",))
    record = open_dataset(folder).split("train").images[0]
    keys = tuple(item.id for item in record.annotations)
    dataset = with_edits(folder, kinds.MergeObjects("train", record.file_name, (keys[0], 77)))
    assert sorted(item.id for item in dataset.split("train").images[0].annotations) == [*keys]
    assert found(dataset) == {"edits-unfit": 1}
    dataset = with_edits(folder, kinds.MergeObjects("train", record.file_name, (keys[0], keys[2], 77)))
    assert len(dataset.split("train").images[0].annotations) == 2


def test_an_object_that_two_edits_name_is_there(sound):
    record = open_dataset(sound).split("train").images[0]
    objects = kinds.ExcludeObjects("train", {record.file_name: (record.annotations[0].id,)})
    category = kinds.ExcludeCategories((record.annotations[0].category,))
    assert with_edits(sound, objects, category, objects).findings == ()
    assert with_edits(sound, kinds.ExcludeImages("train", (record.file_name,)), objects).findings == ()


@pytest.mark.parametrize("masks", ["polygon", "rle", "box"])
def test_merge_objects(tmp_path, masks):
    folder = spoiled(tmp_path, kinds=(masks,), categories=("crack",))
    record = open_dataset(folder).split("train").images[0]
    one, other = record.annotations
    dataset = with_edits(folder, kinds.MergeObjects("train", record.file_name, (one.id, other.id)))
    (whole,) = dataset.split("train").images[0].annotations
    around = np.array([one.bbox_xywh, other.bbox_xywh])
    left_top, right_bottom = around[:, :2].min(0), (around[:, :2] + around[:, 2:]).max(0)
    np.testing.assert_allclose(whole.bbox_xywh, [*left_top, *(right_bottom - left_top)], atol=1)
    if masks != "box":
        union = np.logical_or(*(decode_segmentation(item.segmentation, SIZE_HW) for item in (one, other)))
        np.testing.assert_array_equal(decode_segmentation(whole.segmentation, SIZE_HW), union)


def test_crowds_to_objects(tmp_path):
    def change(data: dict) -> None:
        for entry in data["annotations"][:3]:
            entry["iscrowd"] = 1

    folder = spoiled(tmp_path, change)
    assert open_dataset(folder).split("train").num_crowds == 3
    dataset = with_edits(folder, kinds.CrowdsToObjects("train"))
    assert dataset.split("train").num_crowds == 0 and "crowds" not in found(dataset)
    one = with_edits(folder, kinds.CrowdsToObjects("train", {"0_000.png": (0,)}))
    assert one.split("train").num_crowds == 2


def test_read_boxes_as_fractions_and_centers(tmp_path):
    wanted = boxes(open_dataset(spoiled(tmp_path / "sound", kinds=("polygon",))))

    def change(data: dict) -> None:
        for entry in data["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [(x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT]
            entry["segmentation"] = [
                [value / (HEIGHT if number % 2 else WIDTH) for number, value in enumerate(part)]
                for part in entry["segmentation"]
            ]

    folder = spoiled(tmp_path / "fractions", change, kinds=("polygon",))
    assert open_dataset(folder).split("train").num_objects == 0
    dataset = with_edits(folder, kinds.ReadBoxes("train", "as-centers", fractions=True))
    np.testing.assert_allclose(boxes(dataset), wanted)
    assert dataset.findings == () and dataset.split("train").has_masks


def test_read_keys(tmp_path):
    def change(data: dict) -> None:
        data["objects"] = [
            {("outline" if key == "segmentation" else key): value for key, value in entry.items()}
            for entry in data.pop("annotations")
        ]

    folder = spoiled(tmp_path, change)
    dataset = with_edits(folder, kinds.ReadKeys("train", {"annotations": "objects", "segmentation": "outline"}))
    assert dataset.split("train").num_objects == 8 and dataset.split("train").images.has_segmentation.all()


@pytest.mark.parametrize("mask", ["polygon", "rle"])
def test_fit_to_image_scales_annotations(tmp_path, mask):
    folder = spoiled(tmp_path, kinds=(mask,))
    before = open_dataset(folder).split("train").images[0]
    path = folder / "train" / before.file_name
    Image.open(path).resize((2 * WIDTH, 2 * HEIGHT)).save(path)
    assert found(open_dataset(folder)) == {"image-scaled": 1}
    dataset = with_edits(folder, kinds.FitToImage("train"))
    after = dataset.split("train").images[0]
    assert dataset.findings == () and (after.width, after.height) == (2 * WIDTH, 2 * HEIGHT)
    for old, new in zip(before.annotations, after.annotations, strict=True):
        np.testing.assert_allclose(new.bbox_xywh, 2 * np.array(old.bbox_xywh))
        small, large = (
            decode_segmentation(item.segmentation, (one.height, one.width)).sum()
            for item, one in ((old, before), (new, after))
        )
        assert large == pytest.approx(4 * small, rel=0.1)
    stretched = with_edits(folder, kinds.FitToImage("train", (before.file_name,), "file")).split("train").images[0]
    assert stretched.annotations[0].bbox_xywh == before.annotations[0].bbox_xywh
    given = with_edits(folder, kinds.FitToImage("train", (before.file_name,), (WIDTH // 2, HEIGHT // 2)))
    assert given.split("train").images[0].annotations[0].bbox_xywh[0] == 4 * before.annotations[0].bbox_xywh[0]


def test_merge_entries(tmp_path):
    def change(data: dict) -> None:
        data["images"].append({**data["images"][0], "id": 50})
        data["annotations"][1]["image_id"] = 50

    folder = spoiled(tmp_path, change)
    assert "duplicate-file" in found(open_dataset(folder))
    dataset = with_edits(folder, kinds.MergeEntries("train", ("0_000.png",)))
    images = dataset.split("train").images
    assert dataset.findings == () and len(images) == 5 and images.counts.tolist() == [2, 2, 2, 2, 0]


def test_categories_renamed_merged_and_left_out(sound):
    names = {"crack": "fissure", "joint": "pothole"}
    dataset = with_edits(sound, kinds.RenameCategories(names))
    before = open_dataset(sound).split("train").objects_per_category()
    after = dataset.split("train").objects_per_category()
    assert after == {"fissure": before["crack"], "pothole": before["pothole"] + before["joint"]}
    again = with_edits(
        sound, kinds.RenameCategories({"crack": "fissure"}), kinds.ExcludeCategories(("fissure", "joint"))
    )
    assert again.categories == ("pothole",) and again.findings == ()
    assert again.split("train").num_objects == before["pothole"]
    assert not again.split("train").images[0].unusable_categories


def test_move_images_to_a_split_old_or_new(sound):
    plain = open_dataset(sound)
    names = plain.split("train").images.names[:2]
    for to in ("valid", "test"):
        dataset = with_edits(sound, kinds.MoveImages("train", tuple(names), to))
        assert dataset.split("train").images.names == plain.split("train").images.names[2:]
        assert dataset.split(to).images.names[-2:] == [f"train/{name}" for name in names]
        for moved, original in zip(dataset.split(to).images[-2:], plain.split("train").images[:2], strict=True):
            assert moved.annotations == original.annotations and moved.path == original.path.absolute()
        assert sum(split.num_objects for split in dataset.splits.values()) == 16 and dataset.findings == ()


def test_images_that_were_moved_are_edited_by_their_new_names(sound):
    plain = open_dataset(sound)
    one, other, third = plain.split("train").images.names[:3]
    move = kinds.MoveImages("train", (one, other, third), "valid"), kinds.MoveImages("valid", (f"train/{one}",), "test")
    dataset = with_edits(
        sound,
        *move,
        kinds.ExcludeImages("valid", (f"train/{other}", plain.split("valid").images.names[0])),
        kinds.RemoveMask("test", {f"valid/train/{one}": (0, 1)}),
        kinds.MergeObjects("valid", f"train/{third}", (4, 5)),
    )
    assert dataset.findings == () and not dataset.split("test").images.has_segmentation.any()
    assert dataset.split("valid").images.names == [*plain.split("valid").images.names[1:], f"train/{third}"]
    assert dataset.split("valid").images.counts[-1] == 1
    # By the names in the files, as findings of reading give them, they are not there any more.
    again = with_edits(sound, *move, kinds.ExcludeImages("train", (other,)))
    assert again.findings == () and f"train/{other}" not in again.split("valid").images.names


def test_objects_of_yolo_are_named_too(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "train" / name).mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "train" / "images" / "a.png")
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n1 .3 .3 .1 .1 .4 .1 .4 .5\n")
    (tmp_path / "data.yaml").write_text("names: [crack, joint]\ntrain: train/images\n")
    (image,) = open_dataset(tmp_path).split("train").images
    exclude = kinds.ExcludeObjects("train", {image.file_name: (image.annotations[0].id,)})
    (edited,) = with_edits(tmp_path, exclude).split("train").images
    assert edited.annotations == image.annotations[1:]


def test_a_split_without_objects_is_found_whatever_emptied_it(sound):
    train = open_dataset(sound).split("train").images
    edits = (
        kinds.ExcludeCategories(("crack", "pothole", "joint")),
        kinds.MoveImages("train", tuple(train.names[:4]), "valid"),
        kinds.ExcludeImages("train", tuple(train.names[:4])),
    )
    for edit in edits:
        dataset = with_edits(sound, edit)
        assert ("no-objects", "train") in {(finding.kind, finding.split) for finding in dataset.findings}


def test_accept(tmp_path):
    folder = spoiled(tmp_path, lambda data: data["annotations"].append({**data["annotations"][0], "id": 99}))
    assert found(open_dataset(folder)) == {"duplicate-annotation": 1}
    assert with_edits(folder, kinds.Accept(("duplicate-annotation",), "train")).findings == ()
    assert with_edits(folder, kinds.Accept(("duplicate-annotation",), "valid")).findings != ()


def test_what_does_not_fit_any_more_is_named_and_the_rest_applies(sound):
    name = open_dataset(sound).split("train").images.names[0]
    dataset = with_edits(
        sound,
        kinds.ExcludeImages("train", ("gone.png", name)),
        kinds.ExcludeObjects("train", {name: (5,), "1.png": (7, "x")}),
        kinds.ExcludeImages("no split", ("a.png",)),
        kinds.RenameCategories({"no category": "crack"}),
        kinds.MoveImages("train", ("2.png",), "valid"),
        kinds.KeepPerCategory("nowhere", 3),
    )
    assert name not in dataset.split("train").images.names and len(dataset.split("train").images) == 4
    unfit = [finding for finding in dataset.findings if finding.kind == "edits-unfit"]
    assert {finding.split: finding.count for finding in unfit} == {"train": 3, "": 4} and len(dataset.findings) == 2
    assert {place.image for finding in unfit for place in finding.locations} == {"gone.png", "1.png", "2.png", None}


EVERY = EditList(
    (
        kinds.ExcludeImages("train", ("a b, c.png", "'x'.png", "1.png", "é\n.png")),
        kinds.ExcludeObjects("1", {"1": (1, "1", "true")}),
        kinds.BoxFromMask("train", {}),
        kinds.RemoveMask("train", {}),
        kinds.MaskAsRunLengths("train", {}),
        kinds.DropShortParts("train", {}),
        kinds.RelabelObjects("train", {"a.jpg": (1,)}, "crack"),
        kinds.MergeObjects("train", "a", (1, "b")),
        kinds.CrowdsToObjects("train"),
        kinds.ReadBoxes("train", "as-corners", True),
        kinds.ReadKeys("train", {"segmentation": "polygon"}),
        kinds.FitToImage("train", (), (3, 4)),
        kinds.MergeEntries("train", ("a",)),
        kinds.RenameCategories({"null": "no", "2": "on"}),
        kinds.ExcludeCategories(("~",)),
        kinds.KeepPerCategory("train", 5, 7),
        kinds.MoveImages("train", ("a",), "valid"),
        kinds.Accept(("crowds",)),
    )
)


def test_a_list_survives_its_file(tmp_path):
    write_edits(tmp_path / "edits.yaml", EVERY)
    assert read_edits(tmp_path / "edits.yaml") == EVERY
    assert {type(edit) for edit in EVERY.edits} == set(kinds.ReadingEdit.__args__) | {
        kinds.KeepPerCategory,
        kinds.MoveImages,
        kinds.Accept,
    }
    write_edits(tmp_path / "edits.yaml", EditList())
    assert read_edits(tmp_path / "edits.yaml") == EditList() and not parse_edits("", "nothing")


def test_a_list_is_added_to_once_and_undone():
    edit = kinds.ExcludeImages("train", ("a",))
    edits = EVERY.plus([edit, edit])
    assert edits.edits == (*EVERY.edits, edit) and edits.plus([edit]) == edits and edits.without(-1) == EVERY
    assert edits.digest != EVERY.digest != ""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("edits: {", "line"),
        ("edits: [{edit: nothing}]", "edit 1"),
        ("edits: [{edit: exclude-images, split: train, images: [a]}, {edit: accept}]", "edit 2"),
        ("edits: [{edit: exclude-images, split: train, images: [3]}]", "edit 1"),
        ("edits: [{edit: read-boxes, split: train, layout: sideways}]", "layout"),
        ("edits: [{edit: keep-per-category, split: train, images: 0}]", "edit 1"),
        ("- a", "object"),
        ("other: 1", "other"),
    ],
)
def test_what_is_no_list_of_edits_is_one_sentence(tmp_path, text, place):
    (tmp_path / "edits.yaml").write_text(text)
    with pytest.raises(DataError, match=place) as caught:
        read_edits(tmp_path / "edits.yaml")
    assert "\n" not in str(caught.value) and "$" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path, sound):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(DataError):
            open_dataset(sound, edits=path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary"):
        open_dataset(sound, edits=tmp_path / "binary")


def test_objects_get_another_category(sound):
    record = open_dataset(sound).split("train").images[0]
    one, other = (item.id for item in record.annotations)
    dataset = with_edits(
        sound,
        kinds.RelabelObjects("train", {record.file_name: (one, other)}, "patch"),
        kinds.RelabelObjects("train", {record.file_name: (other,)}, "crack"),
        kinds.RenameCategories({"patch": "repair"}),
        kinds.RelabelObjects("train", {record.file_name: (77,)}, "patch"),
    )
    assert [item.category for item in dataset.split("train").images[0].annotations] == ["repair", "crack"]
    assert found(dataset)["edits-unfit"] == 1 and dataset.categories[-1] == "patch"
    left = with_edits(
        sound,
        kinds.RelabelObjects("train", {record.file_name: (one,)}, "patch"),
        kinds.ExcludeCategories(("patch",)),
        kinds.RelabelObjects("train", {record.file_name: (other,)}, "patch"),
    )
    assert [item.category for item in left.split("train").images[0].annotations] == ["patch"]


def test_an_object_of_an_unknown_category_gets_one(tmp_path):
    folder = spoiled(tmp_path, lambda data: data["annotations"][0].update(category_id=99))
    assert "unknown-category" in found(open_dataset(folder))
    dataset = with_edits(folder, kinds.RelabelObjects("train", {"0_000.png": (0,)}, "crack"))
    assert dataset.findings == () and dataset.split("train").images[0].annotations[0].category == "crack"
