"""Images that are not where file_name says are found by their names, if it is certain which ones are meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.records import Dataset
from tests.data.formats.helpers import picture, write_json
from tests.factories import coco, kinds


def opened(root: Path, names: list[str], *, there: list[str], file: str = "labels.json") -> Dataset:
    """A dataset whose annotation file gives these names, with these images."""
    data = coco(images=len(names), empty_images=0, categories=("crack",))
    for entry, name in zip(data["images"], names, strict=True):
        entry["file_name"] = name
    write_json(root / file, data)
    for path in there:
        picture(root / path)
    return open_dataset(root)


def used(dataset: Dataset, split: str = "train") -> list[str]:
    """The image files in use, as paths from the dataset's folder."""
    records = [record for record in dataset.split(split).images if not record.missing]
    return [os.path.relpath(record.path, dataset.root).replace(os.sep, "/") for record in records]


@pytest.mark.parametrize(
    "name",
    [
        "/home/someone/data/images/a b.jpg",
        "..\\..\\label-studio\\media\\upload\\4\\a b.jpg",
        "C:\\Users\\me\\set\\a b.jpg",
        "D:a b.jpg",
        "\\\\server\\share\\a b.jpg",
        "images\\1/a b.jpg",
        "../../elsewhere/a b.jpg",
        "train2017/a b.jpg",
        "https://host/bucket/a%20b.jpg?token=x&y=z/w.jpg",
        "https://host/o/set%2Fa%20b.jpg?alt=media",
        "s3://bucket/set/a b.jpg",
        "file:///C:/data/a b.jpg",
        "/data/local-files/?d=upload/a b.jpg",
        "a b",
        "a b.png",
        "A B.JPG",
        "old/A%20b.jpeg",
        "old/a b.jpg ",
        "/data/upload/3/0f12cd34-a b.jpg",
        "/data/upload/3/0f12cd34-a_b.jpg",
        "..\\upload\\0f12cd34-a b.png",
    ],
)
def test_the_only_image_of_that_name_is_used(tmp_path, name):
    dataset = opened(tmp_path, [name], there=["images/deeper/a b.jpg", "images/deeper/b.jpg"])
    assert used(dataset) == ["images/deeper/a b.jpg"]
    assert kinds(dataset) == ["image-elsewhere"]
    (finding,) = dataset.findings
    assert (finding.severity, finding.count, finding.image_names) == ("info", 1, (name,))


def test_many_are_told_once(tmp_path):
    names = [f"{number}.jpg" for number in range(6)]
    dataset = opened(tmp_path, names, there=[f"images/{number % 2}/{name}" for number, name in enumerate(names)])
    assert used(dataset) == [f"images/{number % 2}/{name}" for number, name in enumerate(names)]
    assert [(finding.kind, finding.count) for finding in dataset.findings] == [("image-elsewhere", 6)]


@pytest.mark.parametrize("composed", [True, False])
def test_accents_may_be_written_in_either_way(tmp_path, composed):
    pair = ("straße é.jpg", "straße e\u0301.jpg")
    dataset = opened(tmp_path, [f"/old/{pair[composed]}"], there=[f"images/x/{pair[not composed]}"])
    assert kinds(dataset) == ["image-elsewhere"]


def test_of_two_images_none_is_guessed(tmp_path):
    dataset = opened(tmp_path, ["/old/0.jpg", "c/0.jpg"], there=["images/a/0.jpg", "images/b/0.jpg"])
    assert kinds(dataset) == ["image-ambiguous"] and dataset.findings[0].count == 2
    assert dataset.findings[0].severity == "error" and used(dataset) == []
    assert [image.file_name for image in dataset.split("train").images] == ["/old/0.jpg", "c/0.jpg"]
    assert all(image.path.is_relative_to(tmp_path) for image in dataset.split("train").images)


@pytest.mark.parametrize("name", ["/home/u/set/b/0.jpg", "C:\\set\\B\\0.jpg", "https://host/images/b/0.jpg"])
def test_the_folders_decide_between_images(tmp_path, name):
    dataset = opened(tmp_path, [name], there=["images/a/0.jpg", "images/b/0.jpg"])
    assert kinds(dataset) == ["image-elsewhere"] and used(dataset) == ["images/b/0.jpg"]


def test_the_same_spelling_comes_before_others(tmp_path):
    dataset = opened(tmp_path, ["/old/a.jpg"], there=["images/x/a.png", "images/y/a.jpg"])
    assert used(dataset) == ["images/y/a.jpg"]


def test_an_image_of_another_entry_is_not_used(tmp_path):
    dataset = opened(tmp_path, ["a/0.jpg", "b/0.jpg"], there=["images/a/0.jpg"])
    assert kinds(dataset) == ["image-missing"] and used(dataset) == ["images/a/0.jpg"]


def test_one_image_is_not_used_for_two_entries(tmp_path):
    dataset = opened(tmp_path / "tie", ["v1/0.jpg", "v2/0.jpg"], there=["images/deeper/0.jpg"])
    assert kinds(dataset) == ["image-ambiguous"] and dataset.findings[0].count == 2
    dataset = opened(tmp_path / "v2", ["v1/0.jpg", "v2/0.jpg"], there=["images/deeper/v2/0.jpg"])
    assert sorted(kinds(dataset)) == ["image-elsewhere", "image-missing"]
    assert used(dataset) == ["images/deeper/v2/0.jpg"]


def test_the_name_that_differs_least_has_the_image(tmp_path):
    dataset = opened(tmp_path / "ending", ["old/0.png", "old/0.jpg"], there=["images/x/0.jpg"])
    assert used(dataset) == ["images/x/0.jpg"] and not dataset.split("train").images[1].missing
    assert sorted(kinds(dataset)) == ["image-elsewhere", "image-missing"]
    dataset = opened(tmp_path / "uploads", ["old/0f12cd34-0.jpg", "old/aa12cd34-0.jpg"], there=["x/aa12cd34-0.jpg"])
    assert used(dataset) == ["x/aa12cd34-0.jpg"] and not dataset.split("train").images[1].missing
    assert sorted(kinds(dataset)) == ["image-elsewhere", "image-missing"]


@pytest.mark.parametrize("place", ["masks/0.png", "images/0.txt", ".cache/0.jpg", "__MACOSX/x/0.jpg"])
def test_masks_and_litter_are_no_images(tmp_path, place):
    dataset = opened(tmp_path, ["/old/0.jpg"], there=["images/1.jpg"])
    assert kinds(dataset) == ["path-outside-dataset"]
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images" / "1.jpg").rename(tmp_path / place)
    assert kinds(open_dataset(tmp_path)) == ["path-outside-dataset"]


def test_images_of_another_split_are_not_used(tmp_path):
    data = coco(images=1, empty_images=0, categories=("crack",))
    data["images"][0]["file_name"] = "/old/0.jpg"
    for name in ("train", "val"):
        write_json(tmp_path / "annotations" / f"instances_{name}2017.json", data)
    picture(tmp_path / "pictures" / "val2017" / "0.jpg")
    dataset = open_dataset(tmp_path)
    assert used(dataset, "train") == [] and used(dataset, "val") == ["pictures/val2017/0.jpg"]
    assert sorted(kinds(dataset)) == ["image-elsewhere", "path-outside-dataset"]


def test_an_address_that_gives_the_folder_of_another_split_means_it(tmp_path):
    """The validation split of LVIS has images of COCO's train2017, and only their addresses."""
    for split, folders in (("train", ["train2017"]), ("val", ["train2017", "val2017"])):
        data = coco(images=len(folders), empty_images=0, categories=("crack",))
        for entry, folder in zip(data["images"], folders, strict=True):
            entry["coco_url"] = f"http://host/{folder}/{split}.jpg"
            del entry["file_name"]
            picture(tmp_path / folder / f"{split}.jpg")
        write_json(tmp_path / f"lvis_v1_{split}.json", data)
    (tmp_path / "val2017" / "val.jpg").rename(tmp_path / "val2017" / "other.jpg")
    data["images"][1]["coco_url"] = "http://host/val2017/other.jpg"
    write_json(tmp_path / "lvis_v1_val.json", data)
    dataset = open_dataset(tmp_path)
    assert used(dataset, "val") == ["train2017/val.jpg", "val2017/other.jpg"]
    assert kinds(dataset) == ["image-elsewhere"]


def test_it_is_a_warning_where_others_are_in_their_place(tmp_path):
    dataset = opened(tmp_path, ["images/0.jpg", "images/1.jpg"], there=["images/0.jpg", "runs/predict/1.jpg"])
    assert [(finding.kind, finding.severity) for finding in dataset.findings] == [("image-elsewhere", "warning")]


def test_nothing_outside_the_folder_is_used(tmp_path):
    picture(tmp_path / "outside" / "0.jpg")
    (tmp_path / "set" / "images").mkdir(parents=True)
    try:
        (tmp_path / "set" / "images" / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
        (tmp_path / "set" / "images" / "deeper").mkdir()
        (tmp_path / "set" / "images" / "deeper" / "0.jpg").symlink_to(tmp_path / "outside" / "0.jpg")
    except OSError as error:
        pytest.skip(f"no links here: {error}")
    name = str(tmp_path / "outside" / "0.jpg")
    assert kinds(opened(tmp_path / "set", [name], there=[])) == ["path-outside-dataset"]


def test_the_further_folder_is_searched_too(tmp_path):
    picture(tmp_path / "pool" / "deeper" / "0.jpg")
    data = opened(tmp_path / "set", ["/old/0.jpg"], there=["x.jpg"])
    assert kinds(data) == ["path-outside-dataset"]
    dataset = open_dataset(tmp_path / "set", images=tmp_path / "pool")
    assert kinds(dataset) == ["image-elsewhere"]
    assert dataset.split("train").images[0].path == tmp_path / "pool" / "deeper" / "0.jpg"


def test_the_size_of_a_found_image_is_read_where_the_file_gives_none(tmp_path):
    data = coco(images=1, empty_images=0, categories=("crack",))
    data["images"][0] |= {"file_name": "/old/0.jpg", "width": 0}
    write_json(tmp_path / "labels.json", data)
    picture(tmp_path / "images" / "deeper" / "0.jpg")
    dataset = open_dataset(tmp_path)
    assert sorted(kinds(dataset)) == ["bad-image-size", "image-elsewhere"]
    assert dataset.split("train").num_objects == 2
    with Image.open(tmp_path / "images" / "deeper" / "0.jpg") as image:
        assert image.size == (dataset.split("train").images[0].width, dataset.split("train").images[0].height)


def test_an_address_is_to_be_downloaded(tmp_path):
    (finding,) = opened(tmp_path, ["https://host/a.jpg"], there=["b.jpg"]).findings
    assert (finding.kind, finding.variant) == ("image-missing", "address")
    (finding,) = opened(tmp_path, ["a.jpg"], there=[]).findings
    assert (finding.kind, finding.variant) == ("image-missing", "")


def test_a_cached_index_notices_that_a_lost_image_moved(tmp_path, monkeypatch):
    monkeypatch.setattr("sam3_lora.data.formats.sources.KEPT_FROM", 0)
    dataset = opened(tmp_path, ["/old/0.jpg"], there=["images/a/0.jpg"])
    assert used(dataset) == ["images/a/0.jpg"]
    (tmp_path / "images" / "b").mkdir()
    (tmp_path / "images" / "a" / "0.jpg").rename(tmp_path / "images" / "b" / "0.jpg")
    assert used(open_dataset(tmp_path)) == ["images/b/0.jpg"]


@pytest.mark.parametrize("name", ["images/0.jpg", "0.jpg", "old/0.jpg"])
def test_files_of_a_windows_archive_without_its_folders(tmp_path, name):
    dataset = opened(tmp_path, [name], there=["images\\0.jpg", "images\\10.jpg"])
    assert used(dataset) == ["images\\0.jpg"] and kinds(dataset) == ["image-elsewhere"]
