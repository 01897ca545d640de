"""Opening image files as RGB pictures the way the annotations mean them."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError

# What Pillow's decoders raise on files that are missing, cut off or no images.
BROKEN = (OSError, ValueError, TypeError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
MAX_PIXELS = 64_000_000  # of an image that is shown or examined: decoding more takes gigabytes
# Pillow speaks of odd metadata and of large sizes to programmers; here they are findings, or nothing. For good,
# since warnings.catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
LAB, LAB_FIX = "the colour mode LAB, which cannot be read", "Convert it to RGB"


def load_image(record: ImageRecord, enough: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """An image's pixels, uint8 (H, W, 3) RGB.

    A camera's note to turn the picture (EXIF) is followed only if the annotation file gives the
    turned size. The size may still differ from the record's: annotations refer to the record's.

    Args:
        record: the image.
        enough: pixels of the longer side that are enough: a JPEG is then decoded at a half, a quarter or an
            eighth of its size as long as that leaves as many, which is much faster.
        max_pixels: an image with more is not decoded; None: any is.

    Raises:
        DataError: the file is missing, has too many pixels or cannot be decoded.
    """
    try:
        if record.path.exists() and not record.path.is_file():  # a pipe would be waited for for ever
            raise OSError("it is no file")
        with Image.open(record.path) as picture:
            _require_pixels(picture, record, max_pixels)
            turn = is_turned(picture) and picture.size != (record.width, record.height) == picture.size[::-1]
            if enough is not None:
                scale = enough / max(picture.size)
                picture.draft(None, tuple(math.ceil(side * scale) for side in picture.size))
            if turn:
                picture = ImageOps.exif_transpose(picture)
            return np.array(to_rgb(picture))
    except FileNotFoundError:
        raise DataError(
            f"Expected the image {record.path}, but it is not there",
            "Put it there, or delete its entry from the annotation file",
        ) from None
    except BROKEN as error:
        raise DataError(
            f"Expected an image in {record.path}, but it cannot be decoded ({error})",
            "Replace the file, or delete its entry from the annotation file",
        ) from None


def _require_pixels(picture: Image.Image, record: ImageRecord, most: int | None) -> None:
    if most is not None and picture.width * picture.height > most:
        raise DataError(
            f"Expected an image of at most {most // 10**6} million pixels to show, but {record.path} has "
            f"{picture.width} x {picture.height}",
            "Cut the image into tiles of about 1,000 to 2,000 pixels a side, and the annotations with it",
        )


def size_on_disk(path: Path) -> tuple[tuple[int, int], bool] | None:
    """(width, height) from a file's header and whether EXIF turns it by a quarter; None if it is no image."""
    try:
        with Image.open(path) as picture:
            in_header = picture.format != "PNG" or "exif" in picture.info  # to find it elsewhere takes decoding all
            return picture.size, in_header and is_turned(picture)
    except BROKEN:
        return None


def size_finding(size: tuple[int, int], expected: tuple[int, int]) -> str:
    """The finding of an image whose (width, height) is not what the annotation file says; "" if it is.

    Of equal proportions (up to a pixel of rounding) it was scaled, which training follows: it divides by the size in
    the annotation file.
    """
    if size == expected:
        return ""
    (width, height), (file_width, file_height) = size, expected
    equal = abs(width * file_height - height * file_width) <= max(expected)
    return "image-scaled" if equal else "size-mismatch"


def is_turned(picture: Image.Image) -> bool:
    """Whether a camera's note (EXIF) turns the picture by a quarter."""
    return picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)


def to_rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB of a picture; deeper grey is scaled, which Pillow's own conversion does not do.

    Raises:
        DataError: the picture has the colour mode LAB.
    """
    if picture.mode == "LAB":
        raise DataError(f"The image {getattr(picture, 'filename', '')} has {LAB}", LAB_FIX)
    if picture.mode.startswith("I;16"):  # 16 bits per pixel: Pillow would cut off everything above 255
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    elif picture.mode in ("I", "F"):  # whole numbers or fractions of any range: the least becomes black
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = min(values.min(), 0.0), values.max()
        full = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
        picture = Image.fromarray(((values - low) / max(full - low, 1e-12) * 255).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")
