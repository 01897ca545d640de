"""Opens image files as RGB pixels, in the size and orientation that the annotations refer to."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError

# What Pillow's decoders raise on files that are missing, truncated or not images.
BROKEN = (OSError, ValueError, TypeError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
MAX_PIXELS = 64_000_000  # of an image that is shown or examined: decoding more takes gigabytes
# Pillow warns of odd metadata and of large sizes; here these are findings, or nothing. Switched off for the whole
# process, since warnings.catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
LAB, LAB_FIX = "the color mode LAB, which cannot be read", "Convert it to RGB"


def load_image(record: ImageRecord, enough: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """An image's pixels, uint8 (H, W, 3) RGB.

    An EXIF orientation is applied only if the annotation file gives the rotated size. The size may still differ from
    the record's: annotations refer to the record's.

    Args:
        record: the image.
        enough: pixels of the longer side that are enough: a JPEG is then decoded at a half, a quarter or an
            eighth of its size as long as that leaves as many, which is much faster.
        max_pixels: of an image that is decoded; None: no limit.

    Raises:
        DataError: the file is missing, has too many pixels or cannot be decoded.
    """
    try:
        if record.path.exists() and not record.path.is_file():  # a pipe would block for ever
            raise OSError("it is not a file")
        with Image.open(record.path) as picture:
            _require_pixels(picture, record, max_pixels)
            rotate = is_turned(picture) and picture.size != (record.width, record.height) == picture.size[::-1]
            if enough is not None:
                scale = enough / max(picture.size)
                picture.draft(None, (math.ceil(picture.width * scale), math.ceil(picture.height * scale)))
            return np.array(to_rgb(ImageOps.exif_transpose(picture) if rotate else picture))
    except FileNotFoundError:
        raise DataError(
            f"Expected the image {record.path}, but it is missing",
            "Put it there, or delete its entry from the annotation file",
        ) from None
    except BROKEN as error:
        raise DataError(
            f"Expected an image in {record.path}, but it cannot be decoded ({error})",
            "Replace the file, or delete its entry from the annotation file",
        ) from None


def _require_pixels(picture: Image.Image, record: ImageRecord, limit: int | None) -> None:
    if limit is not None and picture.width * picture.height > limit:
        raise DataError(
            f"Expected an image of at most {limit // 10**6} million pixels to show, but {record.path} has "
            f"{picture.width} x {picture.height}",
            "Cut the image into tiles of about 1,000 to 2,000 pixels a side, and the annotations with it",
        )


def size_on_disk(path: Path) -> tuple[tuple[int, int], bool] | None:
    """(width, height) from a file's header and whether EXIF rotates it by 90 degrees; None if it is not an image."""
    try:
        with Image.open(path) as picture:
            in_header = picture.format != "PNG" or "exif" in picture.info  # to find it elsewhere takes decoding all
            return picture.size, in_header and is_turned(picture)
    except BROKEN:
        return None


def size_finding(size: tuple[int, int], expected: tuple[int, int]) -> str:
    """The kind of finding of an image whose size is not what the annotation file says; "" if it is.

    If the proportions are equal (up to a pixel of rounding) the image was scaled, which training takes into account: it
    divides by the size in the annotation file.

    Args:
        size: (width, height) of the image file.
        expected: (width, height) in the annotation file.
    """
    if size == expected:
        return ""
    (width, height), (file_width, file_height) = size, expected
    equal = abs(width * file_height - height * file_width) <= max(expected)
    return "image-scaled" if equal else "size-mismatch"


def is_turned(picture: Image.Image) -> bool:
    """Whether the EXIF orientation rotates the picture by 90 degrees."""
    return picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture as 8-bit RGB; deeper gray values are scaled, which Pillow's own conversion does not do.

    Raises:
        DataError: the picture has the color mode LAB.
    """
    if picture.mode == "LAB":
        raise DataError(f"The image {getattr(picture, 'filename', '')} has {LAB}", LAB_FIX)
    if picture.mode.startswith("I;16"):  # 16 bits per pixel: Pillow would cut off everything above 255
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    elif picture.mode in ("I", "F"):  # integers or floats of any range: the lowest becomes black
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = min(values.min(), 0.0), values.max()
        full = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
        picture = Image.fromarray(((values - low) / max(full - low, 1e-12) * 255).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")
