"""Faults of the image files, in the split "files"."""

from __future__ import annotations

import shutil

import numpy as np
from PIL import ExifTags, Image

from sam3_lora.demo.faults.fault import Case


def image_missing(case: Case) -> None:
    """An image named in the annotation file is missing."""
    case.path.unlink()


def image_elsewhere(case: Case) -> None:
    """An image is in a folder that its file_name does not give."""
    (case.path.parent / "moved").mkdir()
    case.path.rename(case.path.parent / "moved" / case.path.name)


def image_ambiguous(case: Case) -> None:
    """Two images in folders that file_name does not give have its name."""
    for name in ("first", "second"):
        (case.path.parent / name).mkdir()
        shutil.copyfile(case.path, case.path.parent / name / case.path.name)
    case.path.unlink()


def image_unreadable(case: Case) -> None:
    """A file with the name of an image contains text."""
    case.path.write_text("Not Found\n", encoding="utf-8")


def size_mismatch(case: Case) -> None:
    """The annotation file gives an image twice its true width."""
    case.image["width"] *= 2
    _without_run_lengths(case)


def image_scaled(case: Case) -> None:
    """An image was scaled to half its size after it was annotated: the annotations are for twice its size."""
    case.image["width"] *= 2
    case.image["height"] *= 2
    _without_run_lengths(case)
    for entry in case.annotations:
        entry["bbox"] = [2 * value for value in entry["bbox"]]
        if "segmentation" in entry:
            entry["segmentation"] = [[2 * value for value in polygon] for polygon in entry["segmentation"]]


def _without_run_lengths(case: Case) -> None:
    for entry in case.annotations:
        if isinstance(entry["segmentation"], dict):  # the size in run lengths would be another finding
            del entry["segmentation"]


def image_truncated(case: Case) -> None:
    """A file ends in the middle of the image."""
    content = case.path.read_bytes()
    case.path.write_bytes(content[: len(content) // 2])


def image_gigantic(case: Case) -> None:
    """An image has 66 million pixels."""
    case.put(Image.new("1", (8200, 8000)), ".png")
    case.drop_annotations()


def image_32_bit(case: Case) -> None:
    """An image has 32 bits per pixel, and values up to 65,280."""
    case.put(Image.fromarray(np.asarray(case.picture().convert("L")).astype(np.int32) * 256), ".tiff")


def image_16_bit(case: Case) -> None:
    """An image has 16 bits per pixel, of which it uses the lower 12."""
    case.put(Image.fromarray(np.asarray(case.picture().convert("L")).astype(np.uint16) * 16), ".png")


def image_animated(case: Case) -> None:
    """An image has two frames."""
    first = case.picture()
    case.put(first, ".png", save_all=True, append_images=[first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])


def image_orientation_unclear(case: Case) -> None:
    """The EXIF orientation says that the image, a square, is to be rotated by 90 degrees."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    case.put(case.picture(), ".jpg", exif=exif)


def image_cmyk(case: Case) -> None:
    """An image has CMYK colors."""
    case.put(case.picture().convert("CMYK"), ".jpg")


def image_transparent(case: Case) -> None:
    """An image becomes transparent towards the right."""
    picture = case.picture()
    fading = np.broadcast_to(np.linspace(255, 0, picture.width).astype(np.uint8), (picture.height, picture.width))
    picture.putalpha(Image.fromarray(fading))
    case.put(picture, ".png")


def image_palette(case: Case) -> None:
    """An image has a palette of 64 colors."""
    case.put(case.picture().quantize(64), ".png")
