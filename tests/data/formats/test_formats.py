"""Every layout opens by its folder, says what it is, and holds the same objects however they are written."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation, encode_rle
from tests.factories import CATEGORIES, SIZE_HW, coco, ellipse, write_dataset, write_split

HEIGHT, WIDTH = SIZE_HW


def picture(path: Path, size_hw: tuple[int, int] = SIZE_HW) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), 90, np.uint8)).save(path)


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def kinds(dataset: Dataset) -> list[str]:
    return [finding.kind for finding in dataset.findings]


def sizes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {name: (len(split.images), split.num_objects) for name, split in dataset.splits.items()}


def classic(root: Path, names: dict[str, str]) -> dict[str, Any]:
    """COCO's layout: annotation file -> folder of its images."""
    data = coco()
    for file, folder in names.items():
        write_json(root / "annotations" / file, data)
        for entry in data["images"]:
            picture(root / folder / entry["file_name"])
    return data


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


def per_image(folder: Path, count: int = 3) -> None:
    """Files as Segment Anything writes them: an image, and objects of its two masks without categories."""
    for number in range(count):
        picture(folder / f"sa_{number}.jpg")
        objects = []
        for place, radius in enumerate((5, 9)):
            mask = ellipse(SIZE_HW, (20 + 15 * place, 20), (radius, radius))
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [int(columns[0]), int(rows[0]), len(columns), len(rows)]
            objects.append({"id": place, "bbox": box, "segmentation": encode_rle(mask), "predicted_iou": 0.9})
        image = {"image_id": number, "width": WIDTH, "height": HEIGHT, "file_name": f"sa_{number}.jpg"}
        write_json(folder / f"sa_{number}.json", {"image": image, "annotations": objects})


@pytest.mark.parametrize("count", [1, 3])
def test_one_json_per_image_with_the_users_phrase_or_the_folders_name(tmp_path, count):
    per_image(tmp_path / "pothole", count)
    dataset = open_dataset(tmp_path / "pothole")
    assert "Segment Anything" in dataset.format
    assert dataset.categories == ("pothole",) and kinds(dataset) == ["phrase-from-folder"]
    assert sizes(dataset) == {"train": (count, 2 * count)}
    dataset = open_dataset(tmp_path / "pothole", phrase="hole in the road")
    assert dataset.categories == ("hole in the road",) and kinds(dataset) == []
    mask = decode_segmentation(dataset.split("train").images[0].annotations[1].segmentation, SIZE_HW)
    assert (mask == ellipse(SIZE_HW, (35, 20), (9, 9))).all()


def test_one_json_per_image_in_splits(tmp_path):
    for split, count in (("valid", 1), ("train", 2)):
        per_image(tmp_path / split, count)
    dataset = open_dataset(tmp_path, phrase="hole")
    assert sizes(dataset) == {"train": (2, 4), "valid": (1, 2)} and list(dataset.splits) == ["train", "valid"]


def test_a_damaged_file_of_one_image_is_a_finding(tmp_path):
    per_image(tmp_path)
    (tmp_path / "sa_1.json").write_text('{"image": {')
    dataset = open_dataset(tmp_path, phrase="hole")
    assert kinds(dataset) == ["bad-label-file"] and sizes(dataset) == {"train": (2, 4)}
    assert dataset.findings[0].image_names == ("sa_1.json",)


def yolo(root: Path, labels: Path, images: Path, *, polygons: bool = True, yaml: str | None = None) -> dict[str, Any]:
    """The same objects as COCO data (returned) and as YOLO labels."""
    data = coco(kinds=("polygon",))
    for entry in data["images"]:
        picture(images / entry["file_name"])
        lines = []
        for item in data["annotations"]:
            if item["image_id"] == entry["id"]:
                x, y, w, h = item["bbox"]
                numbers = item["segmentation"][0] if polygons else [x + w / 2, y + h / 2, w, h]
                scaled = [value / (HEIGHT if place % 2 else WIDTH) for place, value in enumerate(numbers)]
                lines.append(" ".join([str(item["category_id"] - 1), *(f"{value:.6f}" for value in scaled)]))
        labels.mkdir(parents=True, exist_ok=True)
        (labels / entry["file_name"]).with_suffix(".txt").write_text("".join(line + "\n" for line in lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CATEGORIES))
    (root / "data.yaml").write_text(yaml if yaml is not None else f"path: ../x\ntrain: train/images\nnames:\n{names}")
    return data


@pytest.mark.parametrize(
    ("labels", "images"), [("train/labels", "train/images"), ("labels/train", "images/train"), ("labels", "images")]
)
@pytest.mark.parametrize("polygons", [True, False])
def test_yolo_reads_like_coco(tmp_path, labels, images, polygons):
    root = tmp_path / "yolo"
    data = yolo(root, root / labels, root / images, polygons=polygons)
    write_split(tmp_path / "coco" / "train", data)
    ours, theirs = open_dataset(root), open_dataset(tmp_path / "coco")
    assert "YOLO" in ours.format and kinds(ours) == kinds(theirs) == []
    assert ours.categories == theirs.categories and sizes(ours) == sizes(theirs)
    by_name = {image.file_name: image for image in ours.split("train").images}
    for image in theirs.split("train").images:
        for a, b in zip(by_name[image.file_name].annotations, image.annotations, strict=True):
            assert a.category == b.category and a.bbox_xywh == pytest.approx(b.bbox_xywh, abs=1)
            if polygons:
                masks = [decode_segmentation(item.segmentation, SIZE_HW) for item in (a, b)]
                assert (masks[0] & masks[1]).sum() > 0.98 * (masks[0] | masks[1]).sum()
            else:
                assert a.segmentation is None


def test_yolo_folders_that_only_data_yaml_names(tmp_path):
    text = "train: ../photos/images\nnames: [crack, pothole, joint]\n"
    yolo(tmp_path, tmp_path / "photos" / "labels", tmp_path / "photos" / "images", yaml=text)
    assert sizes(open_dataset(tmp_path)) == {"photos": (5, 8)}


def test_yolo_labels_beside_coco_files_are_read_where_their_settings_are_opened(tmp_path):
    data = yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    write_split(tmp_path / "train", data)
    assert "COCO" in open_dataset(tmp_path).format
    dataset = open_dataset(tmp_path / "data.yaml")
    assert "YOLO" in dataset.format and dataset.root == tmp_path and sizes(dataset) == {"train": (5, 8)}


def test_yolo_without_names_counts_classes(tmp_path):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images", yaml="")
    dataset = open_dataset(tmp_path)
    assert dataset.categories == ("class 0", "class 1", "class 2") and kinds(dataset) == ["class-without-name"]
    (tmp_path / "classes.txt").write_text("\ufeffcrack\npothole\njoint\n", encoding="utf-8")
    assert open_dataset(tmp_path).categories == CATEGORIES


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.2", "bad-label-line"),
        ("0 0.1 0.1 0.2 0.2 0.3", "bad-label-line"),
        ("0 0.1 0.1 0.2 0.2 nan 0.3", "bad-label-line"),
        ("crack 0.5 0.5 0.2 0.2", "bad-label-line"),
        ("7 0.5 0.5 0.2 0.2", "unknown-category"),
        ("0 0.5 0.5 0.2 0", "bad-bbox"),
        ("0 30 20 10 10", "labels-in-pixels"),
        ("0 1.5 0.5 0.2 0.2", "boxes-outside-image"),
        ("0 0.001 0.001 0.001 0.001", "boxes-normalized"),
    ],
)
def test_a_faulty_line_is_a_finding_and_the_others_stay(tmp_path, line, kind):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    path = sorted((tmp_path / "train" / "labels").iterdir())[0]
    path.write_text(path.read_text() + line + "\n")
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == [kind] and dataset.findings[0].locations[0].annotation == f"{path.stem}:3"
    assert dataset.split("train").num_objects == 8
    words = dataset.findings[0].message + dataset.findings[0].fix
    assert not re.search(r"COCO|JSON|Multiply", words)


@pytest.mark.parametrize(
    ("line", "unusable"),
    [
        ("0 0.3 0.4 0.2 0.2 0.9", {"crack"}),
        ("0 30 20 10 10", {"crack"}),
        ("9 0.3 0.4 0.2 0.2", set(CATEGORIES)),
        ("crack 0.3 0.4 0.2 0.2", set(CATEGORIES)),
    ],
)
def test_what_a_line_means_that_cannot_be_used_is_no_negative(tmp_path, line, unusable):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    path = sorted((tmp_path / "train" / "labels").iterdir())[0]
    path.write_text(line + "\n")
    image = open_dataset(tmp_path).split("train").images[0]
    assert image.annotations == () and image.unusable_categories == unusable


@pytest.mark.parametrize("content", [b"\xff\x00\x80", "0 0.5 0.5 0.2 0.2\n".encode("utf-16")])
def test_an_image_whose_label_file_cannot_be_read_is_left_out(tmp_path, content):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    path = sorted((tmp_path / "train" / "labels").iterdir())[0]
    path.write_bytes(content)
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["bad-label-file"] and sizes(dataset) == {"train": (4, 6)}
    assert path.stem not in {Path(image.file_name).stem for image in dataset.split("train").images}


def test_a_byte_order_mark_is_read_over(tmp_path):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    for path in (tmp_path / "train" / "labels").iterdir():
        path.write_text(path.read_text(), encoding="utf-8-sig")
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == [] and sizes(dataset) == {"train": (5, 8)}


@pytest.mark.parametrize(
    ("settings", "points"),
    [("kpt_shape: [3, 2]\n", "0.1 0.1 0.2 0.2 0.3 0.3"), ("", "0.1 0.1 2 0.2 0.2 1"), ("", "0.1 0.1 0 0.2 0.2 2")],
)
def test_poses_give_their_box_and_no_mask(tmp_path, settings, points):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images", yaml=settings + TestYoloLists.NAMES)
    path = sorted((tmp_path / "train" / "labels").iterdir())[0]
    path.write_text(f"0 0.5 0.5 0.25 0.5 {points}\n")
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["keypoints-not-read"]
    (item,) = dataset.split("train").images[0].annotations
    assert item.bbox_xywh == (24, 12, 16, 24) and item.segmentation is None


def test_an_image_without_a_label_file_is_told_to_be_without_objects(tmp_path):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    sorted((tmp_path / "train" / "labels").iterdir())[0].unlink()
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["image-without-label-file"] and dataset.findings[0].severity == "info"
    assert sizes(dataset) == {"train": (5, 6)}


@pytest.mark.parametrize("also", [True, False])
def test_a_split_whose_labels_are_not_there_is_told(tmp_path, also):
    text = f"train: images/train\nval: images/val\n{TestYoloLists.NAMES}"
    yolo(tmp_path, tmp_path / "labels" / "train", tmp_path / "images" / "train", yaml=text)
    shutil.rmtree(tmp_path / "labels")
    if not also:
        with pytest.raises(DataError, match="of labels is missing"):
            open_dataset(tmp_path)
        return
    yolo(tmp_path, tmp_path / "labels" / "val", tmp_path / "images" / "val", yaml=text)
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["split-unreadable"] and list(dataset.splits) == ["val"]
    assert "of labels is missing" in dataset.findings[0].message and dataset.findings[0].split == "train"


def test_yolo_files_that_do_not_fit_together(tmp_path):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images")
    (tmp_path / "train" / "labels" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "train" / "images" / "0_000.png").write_bytes(b"no image")
    assert sorted(kinds(open_dataset(tmp_path))) == ["image-unreadable", "label-without-image"]


@pytest.mark.parametrize("text", ["names: [", "a: &a [1]\nb: [*a", "\0"])
def test_a_damaged_data_yaml_is_told(tmp_path, text):
    yolo(tmp_path, tmp_path / "train" / "labels", tmp_path / "train" / "images", yaml=text)
    with pytest.raises(DataError, match="YAML"):
        open_dataset(tmp_path)


class TestLinks:
    """Nothing outside the dataset's folder is read, whatever leads there."""

    @pytest.fixture
    def outside(self, tmp_path) -> Path:
        return write_split(tmp_path / "outside", coco())

    def link(self, at: Path, to: Path) -> None:
        at.parent.mkdir(parents=True, exist_ok=True)
        try:
            at.symlink_to(to, target_is_directory=to.is_dir())
        except OSError as error:
            pytest.skip(f"no links here: {error}")

    def test_a_linked_image(self, tmp_path, outside):
        train = write_split(tmp_path / "set" / "train", coco())
        image = next(train.glob("*.png"))
        image.unlink()
        self.link(image, outside / image.name)
        dataset = open_dataset(tmp_path / "set")
        assert kinds(dataset) == ["link-outside-dataset"] and len(dataset.split("train").images) == 4

    def test_a_linked_folder_of_images(self, tmp_path, outside):
        write_json(tmp_path / "set" / "train" / "_annotations.coco.json", coco())
        self.link(tmp_path / "set" / "train" / "images", outside)
        dataset = open_dataset(tmp_path / "set")
        assert kinds(dataset) == ["link-outside-dataset"] and dataset.findings[0].count == 5

    def test_a_linked_split_and_a_linked_file(self, tmp_path, outside):
        self.link(tmp_path / "set" / "train", outside)
        with pytest.raises(DataError, match="link"):
            open_dataset(tmp_path / "set")
        write_split(tmp_path / "set" / "valid", coco())
        assert kinds(open_dataset(tmp_path / "set")) == ["split-unreadable"]

    @pytest.mark.parametrize("name", ["images", "labels"])
    def test_linked_yolo_folders(self, tmp_path, name):
        away, root = tmp_path / "away", tmp_path / "set"
        yolo(away, away / "train" / "labels", away / "train" / "images")
        shutil.copytree(away, root)
        shutil.rmtree(root / "train" / name)
        self.link(root / "train" / name, away / "train" / name)
        with pytest.raises(DataError, match="link"):
            open_dataset(root)

    def test_a_linked_file_of_one_image(self, tmp_path):
        per_image(tmp_path / "set")
        per_image(tmp_path / "away")
        (tmp_path / "set" / "sa_0.json").unlink()
        self.link(tmp_path / "set" / "sa_0.json", tmp_path / "away" / "sa_0.json")
        assert kinds(open_dataset(tmp_path / "set", phrase="hole")) == ["bad-label-file"]

    def test_links_within_the_dataset_are_followed(self, tmp_path):
        train = write_split(tmp_path / "set" / "train", coco())
        (tmp_path / "set" / "pool").mkdir()
        for image in list(train.glob("*.png")):
            image.rename(tmp_path / "set" / "pool" / image.name)
            self.link(image, tmp_path / "set" / "pool" / image.name)
        self.link(tmp_path / "link", tmp_path / "set")
        assert kinds(open_dataset(tmp_path / "set")) == kinds(open_dataset(tmp_path / "link")) == []


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
    assert kinds(dataset) == ["same-phrase"]
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


def test_splits_of_one_name_stay_apart(tmp_path):
    per_image(tmp_path, 2)
    per_image(tmp_path / "train", 3)
    assert sorted(len(split.images) for split in open_dataset(tmp_path).splits.values()) == [2, 3]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nobody_waits_for_a_pipe(tmp_path):
    write_dataset(tmp_path / "set", splits=("train",))
    image = next((tmp_path / "set" / "train").glob("*.png"))
    image.unlink()
    os.mkfifo(image)
    assert kinds(open_dataset(tmp_path / "set")) == ["image-missing"]
    for name in ("train/_annotations.coco.json", "x.json"):
        folder = tmp_path / name.partition("/")[0].removesuffix(".json") / "of pipes"
        (folder / name).parent.mkdir(parents=True)
        os.mkfifo(folder / name)
        with pytest.raises(DataError):
            open_dataset(folder)


class TestNames:
    """On the disk a name may be any bytes, and in a file any text."""

    @pytest.fixture
    def odd(self) -> str:
        name = os.fsdecode(b"od\xffd")
        if name.isprintable():
            pytest.skip("here any bytes are text")
        return name

    def make(self, path: Path) -> Path:
        try:
            path.mkdir(parents=True)
        except (OSError, UnicodeError) as error:
            pytest.skip(f"no such names here: {error}")
        return path

    def test_a_folder_whose_name_is_no_text(self, tmp_path, odd):
        folder = self.make(tmp_path / odd)
        write_dataset(folder)
        with pytest.raises(DataError, match=r"od\?d is not"):
            open_dataset(folder)

    def test_a_split_whose_name_is_no_text(self, tmp_path, odd):
        self.make(tmp_path / odd)
        write_split(tmp_path / odd, coco())
        write_split(tmp_path / "train", coco())
        dataset = open_dataset(tmp_path)
        assert kinds(dataset) == ["split-unreadable"] and list(dataset.splits) == ["train"]
        dataset.findings[0].message.encode()

    @pytest.mark.parametrize("kept", [True, False])
    def test_an_image_whose_name_is_no_text(self, tmp_path, monkeypatch, odd, kept):
        monkeypatch.setattr("sam3_lora.data.formats.yolo.MANY_FILES", 0 if kept else 500)
        self.make(tmp_path / "probe" / odd)
        root = tmp_path / "set"
        yolo(root, root / "train" / "labels", root / "train" / "images")
        (image,) = list((root / "train" / "images").glob("0_000*"))[:1]
        image.rename(image.with_stem(odd))
        assert sorted(kinds(open_dataset(root))) == ["image-unreadable", "label-without-image"]

    def test_a_file_of_one_image_whose_name_is_no_text(self, tmp_path, odd):
        self.make(tmp_path / "probe" / odd)
        per_image(tmp_path / "set")
        (tmp_path / "set" / "sa_0.json").rename(tmp_path / "set" / f"{odd}.json")
        assert kinds(open_dataset(tmp_path / "set", phrase="hole")) == ["bad-label-file"]


class TestYoloLists:
    """data.yaml may name lists of images, or several folders, instead of one folder per split."""

    NAMES = "names: [crack, pothole, joint]\n"

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        yolo(tmp_path, tmp_path / "labels" / "all", tmp_path / "images" / "all", yaml=self.NAMES)
        return tmp_path

    @pytest.mark.parametrize("start", ["", "./", "/somebody/else/set/", "../set/"])
    def test_a_list_is_followed(self, folder, start):
        names = sorted(path.name for path in (folder / "images" / "all").iterdir())
        (folder / "train.txt").write_text("".join(f"{start}images/all/{name}\n" for name in names[:3]) + "\n")
        (folder / "lists").mkdir()
        (folder / "lists" / "val.txt").write_text("".join(f"{start}images/all/{name}\n" for name in names[3:]))
        (folder / "data.yaml").write_text(f"train: train.txt\nval: ./lists/val.txt\n{self.NAMES}")
        dataset = open_dataset(folder)
        assert kinds(dataset) == [] and {name: len(split.images) for name, split in dataset.splits.items()} == {
            "train": 3,
            "valid": len(names) - 3,
        }
        whole = tmp_whole(folder)
        assert sum(split.num_objects for split in dataset.splits.values()) == whole
        for image in dataset.split("valid").images:
            assert image.path.is_file() and not image.missing

    def test_what_a_list_names_and_is_not_there_is_told(self, folder):
        (folder / "train.txt").write_text("images/all/gone.png\nimages/all/0_000.png\n../../../etc/passwd\n")
        (folder / "data.yaml").write_text(f"train: train.txt\n{self.NAMES}")
        dataset = open_dataset(folder)
        assert kinds(dataset) == ["image-missing", "unused-category"] and dataset.findings[0].count == 2
        assert [image.file_name for image in dataset.split("train").images] == ["images/all/0_000.png"]

    def test_several_folders_are_one_split(self, folder):
        shutil.copytree(folder / "images" / "all", folder / "images" / "more")
        shutil.copytree(folder / "labels" / "all", folder / "labels" / "more")
        (folder / "data.yaml").write_text(f"train: [images/all, images/more]\n{self.NAMES}")
        dataset = open_dataset(folder)
        assert kinds(dataset) == [] and sizes(dataset) == {"train": (10, 16)}

    def test_folders_in_folders_are_read(self, folder):
        for kind in ("images", "labels"):
            (folder / kind / "all").rename(folder / "moved")
            (folder / kind / "all").mkdir()
            (folder / "moved").rename(folder / kind / "all" / "site")
        dataset = open_dataset(folder)
        assert kinds(dataset) == [] and sizes(dataset) == {"all": (5, 8)}

    def test_labels_beside_the_images(self, tmp_path):
        yolo(tmp_path, tmp_path / "photos", tmp_path / "photos", yaml=self.NAMES)
        (tmp_path / "photos" / "README.txt").write_text("Taken in May.")
        assert sizes(open_dataset(tmp_path)) == {"photos": (5, 8)} and kinds(open_dataset(tmp_path)) == []
        assert sizes(open_dataset(tmp_path / "photos"))["train"] == (5, 8)

    def test_captions_beside_images_are_no_labels(self, tmp_path):
        write_split(tmp_path, coco())
        (tmp_path / "_annotations.coco.json").unlink()
        for image in tmp_path.glob("*.png"):
            image.with_suffix(".txt").write_text("a crack in the road")
        with pytest.raises(DataError, match="no annotation file"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize(
        "names",
        ["a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n", "names: {0: {1: x}}\n", "names: [[crack], pothole]\n"],
    )
    def test_names_that_are_no_names_are_told(self, folder, names):
        (folder / "data.yaml").write_text(names)
        with pytest.raises(DataError, match="each class a name"):
            open_dataset(folder)

    def test_an_endless_class_number_is_told(self, folder):
        path = sorted((folder / "labels" / "all").iterdir())[0]
        path.write_text("9" * 5000 + " 0.5 0.5 0.1 0.1\n")
        (folder / "data.yaml").write_text('names:\n  ? "' + "1" * 5000 + '"\n  : a\n')
        assert "bad-label-line" in kinds(open_dataset(folder))


def tmp_whole(folder: Path) -> int:
    """Lines in all label files: objects."""
    return sum(len(path.read_text().split("\n")) - 1 for path in (folder / "labels" / "all").glob("*.txt"))


class TestSentences:
    def test_a_dataset_one_folder_deeper_is_pointed_at(self, tmp_path):
        yolo(
            tmp_path / "unpacked",
            tmp_path / "unpacked" / "labels" / "train",
            tmp_path / "unpacked" / "images" / "train",
        )
        with pytest.raises(DataError, match=r"deeper\. Open .*unpacked"):
            open_dataset(tmp_path)

    def test_a_data_yaml_without_labels_is_no_call_for_coco(self, tmp_path):
        (tmp_path / "data.yaml").write_text("names: [crack]\n")
        with pytest.raises(DataError, match="YOLO's labels"):
            open_dataset(tmp_path)

    @pytest.mark.parametrize("phrase", ["~", "  ... "])
    def test_a_phrase_needs_a_letter(self, tmp_path, phrase):
        per_image(tmp_path)
        with pytest.raises(DataError, match="phrase of words"):
            open_dataset(tmp_path, phrase=phrase)

    def test_a_folder_named_without_a_letter_asks_for_a_phrase(self, tmp_path):
        per_image(tmp_path / "~~")
        with pytest.raises(DataError, match="Give a phrase"):
            open_dataset(tmp_path / "~~")
        assert open_dataset(tmp_path / "~~", phrase="hole").categories == ("hole",)

    def test_files_of_single_images_are_known_among_others(self, tmp_path):
        per_image(tmp_path)
        for number in range(12):
            (tmp_path / f"a{number}.json").write_text('{"version": 1}')
        dataset = open_dataset(tmp_path, phrase="hole")
        assert dataset.findings[0].kind == "bad-label-file" and dataset.findings[0].count == 12

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ('{"images": [{"id": ' + "9" * 5000 + "}]}", "thousands of digits"),
            ('{"images": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
            (b'{"images": [], "name": "\xff"}', "not UTF-8"),
        ],
    )
    def test_what_python_cannot_read_is_told_apart(self, tmp_path, text, why):
        (tmp_path / "_annotations.coco.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=why):
            open_dataset(tmp_path)
