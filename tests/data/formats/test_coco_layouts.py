"""COCO files open in every layout, with the same objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation, encode_rle
from tests.data.formats.helpers import classic, picture, sizes, write_json
from tests.factories import SIZE_HW, coco, ellipse, kinds, write_dataset, write_split

HEIGHT, WIDTH = SIZE_HW


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ({"instances_val2017.json": "val2017", "instances_train2017.json": "train2017"}, ["train", "val"]),
        ({"instances_train2017.json": "images/train2017"}, ["train"]),
        ({"instances_train.json": "images/train", "instances_valid.json": "images/valid"}, ["train", "valid"]),
        ({"train.json": "train", "test.json": "test"}, ["train", "test"]),
        ({"coco_train.json": "images/train", "coco_val.json": "images/val"}, ["train", "val"]),
        ({"instances_default.json": "images/default"}, ["train"]),
        ({"instances_train2014.json": "train2014", "instances_train2017.json": "a"}, ["train2014", "train2017"]),
        ({"labels.json": "images"}, ["train"]),
    ],
)
def test_classic_layout(tmp_path, names, splits):
    classic(tmp_path, names)
    for name in ("captions_train2017.json", "person_keypoints_train2017.json"):
        if any("instances_" in file for file in names):
            write_json(tmp_path / "annotations" / name, {"annotations": []})
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == splits and dataset.format.startswith("COCO JSON")
    if "a" not in names.values():
        assert kinds(dataset) == []
        assert all(image.path.is_file() for split in dataset.splits.values() for image in split.images)


NAMES_2017 = {f"instances_{name}2017.json": f"{name}2017" for name in ("train", "val")}


@pytest.mark.parametrize(
    ("opened", "splits"),
    [
        ("annotations", ["train", "val"]),
        ("annotations/instances_val2017.json", ["val"]),
        ("annotations/instances_train2017.json", ["train"]),
    ],
)
def test_classic_layout_opened_by_its_annotations(tmp_path, opened, splits):
    classic(tmp_path, NAMES_2017)
    dataset = open_dataset(tmp_path / opened)
    assert list(dataset.splits) == splits and kinds(dataset) == [] and dataset.root == tmp_path


def test_a_single_file_is_the_split_that_its_name_says(tmp_path):
    write_split(tmp_path, coco())
    (tmp_path / "_annotations.coco.json").rename(tmp_path / "instances_val2017.json")
    dataset = open_dataset(tmp_path / "instances_val2017.json")
    assert list(dataset.splits) == ["val"] and kinds(dataset) == []


def test_two_files_side_by_side(tmp_path):
    for name in ("train", "val"):
        write_json(tmp_path / f"{name}.json", coco())
    for entry in coco()["images"]:
        picture(tmp_path / "images" / entry["file_name"])
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "val": (5, 8)} and kinds(dataset) == []


@pytest.mark.parametrize("folder", [".", "images", "photos of 2024"])
def test_one_file_and_a_folder(tmp_path, folder):
    write_json(tmp_path / "labels.json", coco())
    for entry in coco()["images"]:
        picture(tmp_path / folder / entry["file_name"])
    for path in (tmp_path, tmp_path / "labels.json"):
        dataset = open_dataset(path)
        assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == []
        assert dataset.root == tmp_path


def test_images_lie_where_the_user_points(tmp_path):
    write_json(tmp_path / "set" / "train" / "_annotations.coco.json", coco())
    for entry in coco()["images"]:
        picture(tmp_path / "elsewhere" / entry["file_name"])
    assert kinds(open_dataset(tmp_path / "set")) == ["image-missing"]
    dataset = open_dataset(tmp_path / "set", images=tmp_path / "elsewhere")
    assert kinds(dataset) == []
    assert {image.path.parent for image in dataset.split("train").images} == {tmp_path / "elsewhere"}
    with pytest.raises(DataError, match="There is no folder"):
        open_dataset(tmp_path / "set", images=tmp_path / "no such folder")


def test_objects_of_many_parts_crowds_and_names_in_other_case(tmp_path):
    data = coco(images=2, objects=2, kinds=("polygon",), categories=("Crack", "crack"))
    first, second, third, _ = data["annotations"]
    first["segmentation"] = [[2, 2, 12, 2, 12, 12, 2, 12], [20, 2, 30, 2, 30, 12, 20, 12]]
    first["bbox"] = [2, 2, 28, 10]
    ring = ellipse(SIZE_HW, (30, 24), (16, 16)) & ~ellipse(SIZE_HW, (30, 24), (8, 8))
    second |= {"segmentation": encode_rle(ring), "bbox": [14, 8, 32, 32]}
    third["iscrowd"] = 1
    write_split(tmp_path / "train", data)
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["crowds", "same-phrase"]
    a, b = dataset.split("train").images[0].annotations
    assert decode_segmentation(a.segmentation, SIZE_HW).sum() == 200
    assert (decode_segmentation(b.segmentation, SIZE_HW) == ring).all()
    assert dataset.split("train").num_objects == 3


def test_progress_runs_from_nothing_to_all(tmp_path):
    for name in ("train", "valid"):
        write_split(tmp_path / name, coco())
    told: list[tuple[float, str]] = []
    open_dataset(tmp_path, lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert any("valid" in what for _, what in told)


def test_no_annotation_file_is_passed_over_in_silence(tmp_path):
    for name in ("instances_train.json", "instances_Train.json", "val.json", "instances_extra.json", "notes.json"):
        write_json(tmp_path / "annotations" / name, coco(images=2, empty_images=0))
    dataset = open_dataset(tmp_path)
    assert len(dataset.splits) == 3
    told = next(finding for finding in dataset.findings if finding.kind == "annotation-file-not-read")
    assert told.count == 2
    assert {place.detail for place in told.locations} == {
        repr(str(Path("annotations") / name)) for name in ("notes.json", "instances_extra.json")
    }


def test_a_file_above_the_splits_is_told(tmp_path):
    write_dataset(tmp_path, splits=("train",))
    write_json(tmp_path / "_annotations.coco.json", coco())
    assert "annotation-file-not-read" in kinds(open_dataset(tmp_path))
