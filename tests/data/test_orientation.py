"""Boxes lie on the objects of photographs with an EXIF orientation, or it is told that nobody knows."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import Dataset, load_image, open_dataset
from sam3_lora.data.doctor import examine
from sam3_lora.data.images import read_image

WIDE, SQUARE = (48, 32), (40, 40)  # (width, height)
# How a picture is stored that viewers show upright by its EXIF orientation.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
BOX = (4, 6, 12, 10)  # of the dark object in the shown picture


def photograph(path: Path, orientation: int, shown: tuple[int, int]) -> tuple[int, int]:
    """Writes a picture that is shown with a dark object in BOX; returns (width, height) as stored."""
    x, y, w, h = BOX
    pixels = np.full((shown[1], shown[0], 3), 220, np.uint8)
    pixels[y : y + h, x : x + w] = 20
    picture = Image.fromarray(pixels)
    stored = picture if STORED[orientation] is None else picture.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif)
    return stored.size


def write_coco(root: Path, images: list[tuple[str, tuple[int, int] | None]]) -> Dataset:
    entries = [{"id": number, "file_name": name} for number, (name, _) in enumerate(images)]
    for entry, (_, size) in zip(entries, images, strict=True):
        entry |= {} if size is None else {"width": size[0], "height": size[1]}
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": BOX, "iscrowd": 0} for n in range(len(images))]
    data = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "crack"}]}
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    return open_dataset(root)


def write_yolo(root: Path, orientation: int, shown: tuple[int, int], ending: str = ".jpg") -> Dataset:
    photograph(root / "images" / f"a{ending}", orientation, shown)
    x, y, w, h = BOX
    numbers = [(x + w / 2) / shown[0], (y + h / 2) / shown[1], w / shown[0], h / shown[1]]
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text(f"0 {' '.join(map(str, numbers))}\n")
    (root / "data.yaml").write_text("names: [crack]\n")
    return open_dataset(root)


def fits(dataset: Dataset, image: int = 0) -> bool:
    """Whether the object in the loaded picture is dark where the box is, and nowhere else."""
    record = dataset.split("train").images[image]
    pixels = load_image(record).mean(2) < 120
    x, y, w, h = map(round, record.annotations[0].bbox_xywh)
    return bool(pixels[y : y + h, x : x + w].mean() > 0.9 and pixels.mean() < 1.2 * w * h / pixels.size)


def found(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The kinds of findings about orientations and sizes, and their images."""
    kinds = ("image-rotated", "image-orientation-unclear", "size-mismatch", "image-scaled")
    return {finding.kind: finding.image_names for finding in examine(dataset).findings if finding.kind in kinds}


@pytest.mark.parametrize("shown", [WIDE, SQUARE])
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_yolo_labels_are_made_on_the_picture_as_shown(tmp_path, orientation, shown, ending):
    dataset = write_yolo(tmp_path, orientation, shown, ending)
    assert fits(dataset) and dataset.findings == ()
    turned = orientation > 1 and ending != ".tif"  # Pillow turns a TIFF itself
    assert found(dataset) == ({"image-rotated": (f"a{ending}",)} if turned else {})


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("name", [b"eXIf", b"zTXt"])
def test_the_orientation_of_a_png_may_come_after_its_pixels(tmp_path, orientation, name):
    path = tmp_path / "images" / "a.png"
    write_yolo(tmp_path, orientation, WIDE, ".png")
    content = path.read_bytes()
    at = content.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", content[at : at + 4])
    exif = content[at + 8 : at + 8 + length]
    if name == b"zTXt":  # as ImageMagick writes it
        raw = b"\nexif\n" + f"{len(exif) + 6:8d}".encode() + b"\n" + (b"Exif\0\0" + exif).hex().encode() + b"\n"
        exif = b"Raw profile type exif\0\0" + zlib.compress(raw)
    chunk = struct.pack(">I", len(exif)) + name + exif + struct.pack(">I", zlib.crc32(name + exif))
    content = content[:at] + content[at + 12 + length :]
    path.write_bytes(content[:-12] + chunk + content[-12:])
    dataset = open_dataset(tmp_path)
    record = dataset.split("train").images[0]
    assert (record.width, record.height) == WIDE and fits(dataset)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_tells_how_coco_annotations_were_made(tmp_path, orientation):
    stored = photograph(tmp_path / "train" / "a.jpg", orientation, WIDE)
    assert stored == WIDE[::-1]
    shown = write_coco(tmp_path, [("a.jpg", WIDE)])
    assert fits(shown) and shown.findings == () and found(shown) == {"image-rotated": ("a.jpg",)}
    halved = write_coco(tmp_path, [("a.jpg", (WIDE[0] // 2, WIDE[1] // 2))])
    assert load_image(halved.split("train").images[0]).shape[:2] == WIDE[::-1]
    as_stored = write_coco(tmp_path, [("a.jpg", stored)])
    assert load_image(as_stored.split("train").images[0]).shape[:2] == stored[::-1] and as_stored.findings == ()


@pytest.mark.parametrize(
    ("orientation", "shown", "size"),
    [*((number, WIDE, WIDE) for number in (2, 3, 4)), *((number, SQUARE, SQUARE) for number in (3, 5, 6, 7, 8))]
    + [(6, WIDE, None), (3, WIDE, None), (8, SQUARE, None)],
)
def test_where_the_size_does_not_tell_the_picture_is_used_as_shown_and_this_is_told(tmp_path, orientation, shown, size):
    photograph(tmp_path / "train" / "a.jpg", orientation, shown)
    photograph(tmp_path / "train" / "b.jpg", 1, shown)
    dataset = write_coco(tmp_path, [("a.jpg", size), ("b.jpg", shown)])
    assert fits(dataset)
    (finding,) = [finding for finding in dataset.findings if finding.kind != "bad-image-size"]
    assert (finding.kind, finding.severity) == ("image-orientation-unclear", "warning")
    assert finding.image_names == ("a.jpg",) == found(dataset)["image-orientation-unclear"]
    assert np.array_equal(load_image(dataset.split("train").images[0]), read_image(tmp_path / "train" / "a.jpg"))


@pytest.mark.parametrize("as_shown", [True, False])
def test_other_pictures_of_the_split_tell_how_the_annotations_were_made(tmp_path, as_shown):
    photograph(tmp_path / "train" / "a.jpg", 3, WIDE)
    stored = photograph(tmp_path / "train" / "b.jpg", 6, WIDE)
    dataset = write_coco(tmp_path, [("a.jpg", WIDE), ("b.jpg", WIDE if as_shown else stored)])
    assert dataset.findings == () and found(dataset) == {"image-rotated": ("a.jpg", "b.jpg")}
    assert fits(dataset) == as_shown


def test_one_photograph_among_many_is_found(tmp_path):
    sizes = [(f"{number:03}.jpg", WIDE) for number in range(60)]
    for number, (name, _) in enumerate(sizes):
        photograph(tmp_path / "train" / name, 3 if number == 31 else 1, WIDE)
    (finding,) = write_coco(tmp_path, sizes).findings
    assert (finding.kind, finding.image_names) == ("image-orientation-unclear", ("031.jpg",))
