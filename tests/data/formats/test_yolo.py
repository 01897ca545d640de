"""YOLO labels hold the same objects as COCO JSON, and every line that cannot be read is a finding."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation
from tests.data.formats.helpers import YOLO_NAMES, sizes, yolo
from tests.factories import CATEGORIES, SIZE_HW, coco, kinds, write_split

HEIGHT, WIDTH = SIZE_HW


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
        ("0 0.1 0.1 0.2 0.2 0.3", "label-line-odd"),
        ("0 0.5 0.5 0.2 0.2 45", "label-line-odd"),
        ("0 0.1 0.1 0.3 0.1 0.2 0.3 0.97", "label-line-odd"),
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


@pytest.mark.parametrize("content", [b"\xff\x00\x80", "0 0.5 0.5 0.2 0.2\n".encode("utf-16") + b"\x00"])
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
    labels, images = tmp_path / "train" / "labels", tmp_path / "train" / "images"
    yolo(tmp_path, labels, images, polygons=False, yaml=settings + YOLO_NAMES)
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
    text = f"train: images/train\nval: images/val\n{YOLO_NAMES}"
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


class TestYoloLists:
    """data.yaml may name lists of images, or several folders, instead of one folder per split."""

    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        yolo(tmp_path, tmp_path / "labels" / "all", tmp_path / "images" / "all", yaml=YOLO_NAMES)
        return tmp_path

    @pytest.mark.parametrize("start", ["", "./", "/somebody/else/set/", "../set/"])
    def test_a_list_is_followed(self, folder, start):
        names = sorted(path.name for path in (folder / "images" / "all").iterdir())
        (folder / "train.txt").write_text("".join(f"{start}images/all/{name}\n" for name in names[:3]) + "\n")
        (folder / "lists").mkdir()
        (folder / "lists" / "val.txt").write_text("".join(f"{start}images/all/{name}\n" for name in names[3:]))
        (folder / "data.yaml").write_text(f"train: train.txt\nval: ./lists/val.txt\n{YOLO_NAMES}")
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
        (folder / "data.yaml").write_text(f"train: train.txt\n{YOLO_NAMES}")
        dataset = open_dataset(folder)
        assert kinds(dataset) == ["image-missing", "unused-category"] and dataset.findings[0].count == 2
        assert [image.file_name for image in dataset.split("train").images] == ["images/all/0_000.png"]

    def test_several_folders_are_one_split(self, folder):
        shutil.copytree(folder / "images" / "all", folder / "images" / "more")
        shutil.copytree(folder / "labels" / "all", folder / "labels" / "more")
        (folder / "data.yaml").write_text(f"train: [images/all, images/more]\n{YOLO_NAMES}")
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
        yolo(tmp_path, tmp_path / "photos", tmp_path / "photos", yaml=YOLO_NAMES)
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
        ["names: {0: {1: x}}\n", "names: [[crack], pothole]\n"],
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
