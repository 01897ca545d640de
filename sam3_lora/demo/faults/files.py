"""Faults of the image files, in the split "files"."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from sam3_lora.demo.faults.fault import Case, FaultTable

_fault = FaultTable("files")
FAULTS = _fault.faults


@_fault("image-missing")
def _not_there(case: Case) -> None:
    """An image named in the annotation file is missing."""
    case.path.unlink()


@_fault("image-unreadable")
def _no_image(case: Case) -> None:
    """A file with the name of an image contains text."""
    case.path.write_text("Not Found\n", encoding="utf-8")


@_fault("size-mismatch")
def _of_another_size(case: Case) -> None:
    """The annotation file gives an image twice its true width."""
    case.image["width"] *= 2
    _without_run_lengths(case)


@_fault("image-scaled")
def _made_smaller(case: Case) -> None:
    """The annotation file gives an image twice its true width and height, as if it was scaled down later."""
    case.image["width"] *= 2
    case.image["height"] *= 2
    _without_run_lengths(case)


def _without_run_lengths(case: Case) -> None:
    for entry in case.annotations:
        if isinstance(entry["segmentation"], dict):  # the size in run lengths would be another finding
            del entry["segmentation"]


@_fault("image-truncated")
def _cut_off(case: Case) -> None:
    """A file ends in the middle of the image."""
    content = case.path.read_bytes()
    case.path.write_bytes(content[: len(content) // 2])


@_fault("image-gigantic")
def _of_a_scanner(case: Case) -> None:
    """An image has 66 million pixels."""
    case.put(Image.new("1", (8200, 8000)), ".png")
    case.drop_annotations()


@_fault("image-32-bit")
def _of_a_microscope(case: Case) -> None:
    """An image has 32 bits per pixel, and values up to 65,280."""
    case.put(Image.fromarray(np.asarray(case.picture().convert("L")).astype(np.int32) * 256), ".tiff")


@_fault("image-16-bit")
def _of_a_thermal_camera(case: Case) -> None:
    """An image has 16 bits per pixel, of which it uses the lower 12."""
    case.put(Image.fromarray(np.asarray(case.picture().convert("L")).astype(np.uint16) * 16), ".png")


@_fault("image-animated")
def _of_two_frames(case: Case) -> None:
    """An image has two frames."""
    first = case.picture()
    case.put(first, ".png", save_all=True, append_images=[first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])


@_fault("image-rotated")
def _held_upright(case: Case) -> None:
    """The EXIF orientation says that the image is to be rotated by 90 degrees."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    case.put(case.picture(), ".jpg", exif=exif)


@_fault("image-cmyk")
def _for_print(case: Case) -> None:
    """An image has CMYK colors."""
    case.put(case.picture().convert("CMYK"), ".jpg")


@_fault("image-transparent")
def _fading(case: Case) -> None:
    """An image becomes transparent towards the right."""
    picture = case.picture()
    fading = np.broadcast_to(np.linspace(255, 0, picture.width).astype(np.uint8), (picture.height, picture.width))
    picture.putalpha(Image.fromarray(fading))
    case.put(picture, ".png")


@_fault("image-palette")
def _of_few_colors(case: Case) -> None:
    """An image has a palette of 64 colors."""
    case.put(case.picture().quantize(64), ".png")
