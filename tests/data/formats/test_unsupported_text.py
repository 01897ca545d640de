"""Text files of KITTI, DOTA and others are named as what they are, not as YOLO with unreadable lines."""

from __future__ import annotations

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import picture, yolo

KITTI = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
KITTI += "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
DOTA = "184.0 2875.0 193.0 2923.0 146.0 2932.0 137.0 2885.0 plane 0\n66 95 75 142 21 154 11 107 small-vehicle 1\n"
FILES = {
    "KITTI": [KITTI, KITTI.replace("\n", " 0.95\n")],
    "DOTA": [DOTA, "imagesource:GoogleEarth\ngsd:0.146\n" + DOTA, "gsd:null\n", "\ufeff" + DOTA.replace(" 0\n", "\n")],
    "OIDv4": ["helmet 0.0 73.04 355.2 463.23\n", "Traffic light 2.56 95.4 86.4 213.3\nApple 1 2 30 40\n"],
    "VisDrone": ["684,8,273,116,0,0,0,0\n406,119,265,70,1,5,0,1,\n"],
    "ICDAR": ["377,117,463,117,465,130,378,130,Genaxis Theatre\n493,115,519,115,519,131,493,131,[06]\n"],
}
CASES = [(name, text) for name, texts in FILES.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), CASES)
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train/images", "train/labels"),
        ("images", "labels"),
        ("training/image_2", "training/label_2"),
        ("train/images", "train/labelTxt"),
        ("train/Apple", "train/Apple/Label"),
        (".", "."),
    ],
)
def test_other_text_files_are_named(tmp_path, name, text, images, labels):
    for number in range(3):
        picture(tmp_path / images / f"{number}.png")
        (tmp_path / labels).mkdir(parents=True, exist_ok=True)
        (tmp_path / labels / f"{number}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    assert name in error.value.message


@pytest.mark.parametrize(
    "line", ["crack 0.5 0.5 0.2 0.2\n", "0 0.5 0.5 0.2 0.2\n", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"]
)
def test_lines_of_yolo_are_none_of_them(tmp_path, line):
    yolo(tmp_path, tmp_path / "labels", tmp_path / "images")
    for path in (tmp_path / "labels").iterdir():
        path.write_text(line)
    assert len(open_dataset(tmp_path).split("train").images) == 5


@pytest.mark.parametrize("folder", ["labels/train", "obj_train_data", "."])
def test_labels_without_any_image_are_told(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "obj.data").write_text("classes = 1\nnames = data/obj.names\n")
    (tmp_path / "obj.names").write_text("crack\n")
    with pytest.raises(DataError, match="there is no image"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("imgs", "labels"), ("JPEGImages", "labels"), ("images", "labels_road_2024"), ("train/img", "train/ann")],
)
def test_labels_that_are_not_beside_images_are_found_and_told(tmp_path, images, labels):
    picture(tmp_path / images / "a.png")
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / labels / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match=f"{labels}/a.txt holds YOLO's labels, while images are in {images}/"):
        open_dataset(tmp_path)
