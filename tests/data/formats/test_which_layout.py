"""Which files decide the layout: COCO files by their keys, whatever else is beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import picture, sizes, write_json, yolo
from tests.factories import coco, kinds, write_dataset, write_split

STRAYS = {
    "notes.json": {"categories": [{"id": 0, "name": "crack"}], "info": {"year": 2025, "version": "1.0"}},
    "dataset-metadata.json": {"title": "cracks", "id": "me/cracks", "licenses": [{"name": "CC0-1.0"}]},
    "package.json": {"name": "x", "version": "1.0.0", "scripts": {}},
    "info.json": {"images": 40, "classes": ["crack"]},
    "README.json": ["a", "b"],
    "empty.json": {},
}
LITTER = ("._labels.json", ".DS_Store", "__MACOSX/._labels.json", ".ipynb_checkpoints/labels-checkpoint.json")
LITTER += ("@eaDir/a.json", "Thumbs.db", "images/._0_000.png")


def with_images(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    for entry in data["images"]:
        picture(folder / entry["file_name"])
    return data


@pytest.fixture(params=["labels.json", "annotations/labels.json", "train/coco.json"])
def single(request, tmp_path) -> Path:
    """A dataset with one COCO file."""
    images = tmp_path / "train" / "images" if "train" in request.param else tmp_path / "images"
    write_json(tmp_path / request.param, with_images(coco(), images))
    return tmp_path


@pytest.mark.parametrize("name", LITTER)
def test_litter_does_not_decide(single, name):
    (single / name).parent.mkdir(parents=True, exist_ok=True)
    (single / name).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    dataset = open_dataset(single)
    assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == []


@pytest.mark.parametrize("name", STRAYS)
@pytest.mark.parametrize("folder", [".", "annotations", "train"])
def test_a_stray_file_beside_coco_does_not_decide(single, folder, name):
    write_json(single / folder / name, STRAYS[name])
    dataset = open_dataset(single)
    assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == []


@pytest.mark.parametrize("name", ["images/a.json", "masks/a.json"])
def test_a_file_of_one_image_beside_coco_does_not_decide(tmp_path, name):
    write_json(tmp_path / "labels.json", with_images(coco(), tmp_path / "images"))
    write_json(tmp_path / name, {"image": {"file_name": "0_000.png"}, "annotations": [{"bbox": [1, 2, 9, 9]}]})
    assert sizes(open_dataset(tmp_path)) == {"train": (5, 8)}


@pytest.mark.parametrize("name", [*STRAYS, *LITTER])
def test_a_stray_file_beside_yolo_does_not_decide(tmp_path, name):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(json.dumps(STRAYS.get(name, "\0")))
    dataset = open_dataset(tmp_path)
    assert dataset.format.startswith("YOLO") and sizes(dataset) == {"train": (5, 8)}


@pytest.mark.parametrize(
    "encoded",
    [
        lambda data: json.dumps(data).encode("utf-16-le"),
        lambda data: json.dumps(data).encode("utf-16"),
        lambda data: json.dumps({"info": {"description": "x" * 200_000}} | data).encode(),
        lambda data: json.dumps({"licenses": [], "categories": data["categories"] * 2000} | data).encode(),
    ],
)
def test_a_coco_file_whose_beginning_does_not_tell_is_known_beside_a_stray_one(single, encoded):
    (path,) = (path for path in single.rglob("*.json"))
    path.write_bytes(encoded(json.loads(path.read_text())))
    write_json(path.with_name("notes.json"), STRAYS["notes.json"])
    assert sizes(open_dataset(single)) == {"train": (5, 8)}


def test_a_coco_file_beside_yolo_decides(tmp_path):
    data = yolo(tmp_path, tmp_path / "labels", tmp_path / "images")
    write_json(tmp_path / "annotations.json", data)
    write_json(tmp_path / "notes.json", STRAYS["notes.json"])
    dataset = open_dataset(tmp_path)
    assert dataset.format.startswith("COCO") and "data.yaml" in dataset.format and sizes(dataset) == {"train": (5, 8)}
    assert open_dataset(tmp_path / "data.yaml").format.startswith("YOLO")


@pytest.mark.parametrize("first", ["images", "annotations", "categories"])
def test_keys_decide_in_any_order_and_in_large_files(tmp_path, first):
    data = with_images(coco(images=300), tmp_path / "images")
    data["info"] = {"description": 'brackets ] } and "quotes" in text: ' + "x" * 500}
    write_json(tmp_path / "a.json", dict(sorted(data.items(), key=lambda item: item[0] != first)))
    assert (tmp_path / "a.json").stat().st_size > 2**17
    write_json(tmp_path / "b.json", STRAYS["notes.json"])
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (301, 600)} and kinds(dataset) == []


def test_cocos_own_files_for_other_tasks_are_passed_over(tmp_path):
    for split in ("train2017", "val2017"):
        data = with_images(coco(), tmp_path / split)
        captions = [{"id": number, "image_id": 0, "caption": "a road " * 9} for number in range(2000)]
        for prefix, entries in (("instances", None), ("captions", captions), ("person_keypoints", None)):
            other = data if entries is None else data | {"annotations": entries}
            write_json(tmp_path / "annotations" / f"{prefix}_{split}.json", other)
        write_json(tmp_path / "annotations" / f"stuff_{split}.json", data)
    write_json(tmp_path / "annotations" / "image_info_test2017.json", {**coco(), "annotations": []})
    write_json(tmp_path / "results.json", [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}])
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "val": (5, 8)} and kinds(dataset) == []


def test_keypoints_are_read_where_they_are_the_only_file(tmp_path):
    for split in ("train2017", "val2017"):
        data = with_images(coco(), tmp_path / split)
        write_json(tmp_path / "annotations" / f"person_keypoints_{split}.json", data)
    assert sizes(open_dataset(tmp_path)) == {"train": (5, 8), "val": (5, 8)}


@pytest.mark.parametrize("images", [".", "images", "img", "data", "pictures"])
@pytest.mark.parametrize(
    "name",
    ["annotation_coco.json", "annotations.json", "coco.json", "labels.json", "instances.json", "_annotations.json"]
    + ["{split}.json", "{split}_annotations.coco.json", "export 3.json", "annotations/instances_{split}.json"],
)
def test_a_folder_per_split_with_a_file_of_any_name(tmp_path, name, images):
    for seed, split in enumerate(("train", "val", "test")):
        folder = tmp_path / split
        write_json(folder / name.format(split=split), with_images(coco(seed=seed), folder / images))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "val": (5, 8), "test": (5, 8)} and kinds(dataset) == []
    assert all(image.path.is_file() for split in dataset.splits.values() for image in split.images)


@pytest.mark.parametrize("images", ["{split}", "images/{split}", "data/{split}"])
def test_a_folder_of_annotations_per_split(tmp_path, images):
    for split in ("train", "val"):
        write_json(
            tmp_path / "annotations" / split / "boxes.json", with_images(coco(), tmp_path / images.format(split=split))
        )
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "val": (5, 8)} and kinds(dataset) == []
    used = {name: {image.path.parent.name for image in split.images} for name, split in dataset.splits.items()}
    assert used == {"train": {"train"}, "val": {"val"}}


@pytest.mark.parametrize("images", ["{}2017", "images/{}ing", "data/{}-2024/images"])
def test_the_only_folder_of_a_split_is_that_of_its_file(tmp_path, images):
    for split in ("train", "test"):
        write_json(tmp_path / f"lvis_v1_{split}.json", with_images(coco(), tmp_path / images.format(split)))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "test": (5, 8)} and kinds(dataset) == []
    assert all(name in str(image.path) for name, split in dataset.splits.items() for image in split.images)


def test_the_only_file_is_of_the_folder_of_its_split(tmp_path):
    write_json(tmp_path / "train.json", with_images(coco(), tmp_path / "train"))
    with_images(coco(), tmp_path / "test")
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == []
    assert {image.path.parent.name for image in dataset.split("train").images} == {"train"}


def test_of_several_files_in_the_folder_of_a_split_the_usual_one_is_read(tmp_path):
    write_json(tmp_path / "train" / "annotations.json", with_images(coco(), tmp_path / "train"))
    write_json(tmp_path / "train" / "old.json", coco(images=1))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == ["annotation-file-not-read"]


@pytest.mark.parametrize("content", ["", "{", '{"images": [{"id": 1, '])
def test_a_split_whose_file_cannot_be_read_is_an_error(tmp_path, content):
    for name in ("folders/train/coco.json", "folders/val/coco.json", "files/a/train.json", "files/a/val.json"):
        path = tmp_path / name.replace("/a/", "/annotations/")
        write_json(path, with_images(coco(), path.parent / "images"))
        if "val" in name:
            path.write_text(content)
    for root in ("folders", "files"):
        dataset = open_dataset(tmp_path / root)
        assert list(dataset.splits) == ["train"] and "split-unreadable" in kinds(dataset)


NAMES = {
    ("instances_train2017.json", "instances_val2017.json", "image_info_test-dev2017.json"): ["train", "val"],
    ("train.json", "val.json", "test-dev.json"): ["train", "val", "test"],
    ("train_coco.json", "val_coco.json"): ["train", "val"],
    ("annotations_train.json", "annotations_val.json"): ["train", "val"],
    ("train_annotations.json", "test_annotations.json"): ["train", "test"],
    ("potholes-train.json", "potholes-valid.json"): ["train", "valid"],
    ("lvis_v1_train.json", "lvis_v1_val.json"): ["train", "val"],
    ("_annotations.train.coco.json", "_annotations.valid.coco.json"): ["train", "valid"],
    ("Training.json", "Validation.json", "Testing.json"): ["train", "validation", "test"],
    ("instances_train_small.json", "instances_train.json"): ["train", "train_small"],
}


@pytest.mark.parametrize("folder", [".", "annotations", "Annotations", "labels"])
@pytest.mark.parametrize("names", NAMES)
def test_a_file_per_split(tmp_path, names, folder):
    for name in names:
        write_json(tmp_path / folder / name, with_images(coco(), tmp_path / "images"))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == dict.fromkeys(NAMES[names], (5, 8)) and kinds(dataset) == []


@pytest.mark.parametrize("names", [("validated.json", "trainee.json"), ("a.json", "b.json")])
def test_several_files_that_are_no_splits_are_left_to_the_user(tmp_path, names):
    for name in names:
        write_json(tmp_path / name, with_images(coco(), tmp_path / "images"))
    with pytest.raises(DataError, match="2 other JSON files"):
        open_dataset(tmp_path)
    assert sizes(open_dataset(tmp_path / names[0])) == {"train": (5, 8)}


def test_images_of_the_same_name_in_several_folders_are_not_guessed(tmp_path):
    for folder in ("a", "b"):
        with_images(coco(), tmp_path / folder)
    write_json(tmp_path / "labels.json", coco())
    assert kinds(open_dataset(tmp_path)) == ["image-ambiguous"]


def test_masks_are_not_taken_for_the_images(tmp_path):
    for folder in ("masks", "rgb"):
        with_images(coco(), tmp_path / folder)
    write_json(tmp_path / "labels.json", coco())
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == []
    assert {image.path.parent.name for image in dataset.split("train").images} == {"rgb"}


def test_roboflow_comes_first(tmp_path):
    write_dataset(tmp_path)
    write_split(tmp_path, coco())
    write_json(tmp_path / "train" / "coco.json", coco())
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["train", "valid"] and "Roboflow" in dataset.format


@pytest.mark.parametrize("name", ["meta/a.json", "images/a.json", "export/labels.json", "export/annotations/a.json"])
def test_the_only_file_may_be_in_any_folder(tmp_path, name):
    images = tmp_path / "export" / "images" if "export" in name else tmp_path / "images"
    write_json(tmp_path / name, with_images(coco(), images))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == []


def test_no_file_in_the_folder_of_a_split_is_passed_over_in_silence(tmp_path):
    for name in ("train/x.json", "train/y.json", "val/x.json"):
        write_json(tmp_path / name, with_images(coco(), (tmp_path / name).parent))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": (5, 8), "val": (5, 8)}
    (told,) = dataset.findings
    assert told.kind == "annotation-file-not-read" and "y.json" in told.locations[0].detail
    (tmp_path / "val" / "x.json").rename(tmp_path / "val" / "y.json")
    (tmp_path / "train" / "z.json").write_text((tmp_path / "train" / "x.json").read_text())
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["train", "val"] and dataset.findings[0].count == 2


def test_the_only_file_that_may_be_meant_tells_what_is_wrong_with_it(tmp_path):
    write_json(tmp_path / "notes.json", STRAYS["notes.json"])
    write_json(tmp_path / "dataset-metadata.json", STRAYS["dataset-metadata.json"])
    for content, words in (("", "is empty"), ("{", "cut off"), ('{"anns": [], "imgs": []}', "its keys are")):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(DataError, match=words):
            open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["coco", "annotations", "labels", "json", "train", "images"])
def test_the_name_of_the_folder_that_is_opened_does_not_matter(tmp_path, name):
    roots = [tmp_path / str(number) / name for number in range(4)]
    write_json(roots[0] / "labels.json", with_images(coco(), roots[0] / "images"))
    write_json(roots[1] / "annotations" / "instances_train2017.json", with_images(coco(), roots[1] / "train2017"))
    write_split(roots[2] / "train", coco())
    write_json(roots[3] / "train" / "coco.json", with_images(coco(), roots[3] / "train"))
    for root in roots:
        dataset = open_dataset(root)
        assert sizes(dataset) == {"train": (5, 8)} and kinds(dataset) == [] and dataset.root == root
