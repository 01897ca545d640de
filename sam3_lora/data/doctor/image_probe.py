"""Looks into one image file: is it whole, of which kind is it, and what tells it from others."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.images import LAB, LAB_FIX, MAX_PIXELS, size_fault
from sam3_lora.data.records import ImageRecord

THUMB = 16  # pixels a side of the picture by which two images are compared
_HASH = 8  # differences a side and direction: 2 * 8 * 8 = 128 bits
_FLATTEST = 2.0  # deviation of grey values below which a picture has nothing to compare
_LARGE = 8_000_000  # pixels; of images above, one is decoded at a time, which bounds the memory
_one_large_image = threading.Lock()
# What Pillow's decoders raise on damaged files, among them some that were made to do harm.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError)
_BROKEN += (MemoryError, RuntimeError, struct.error, zlib.error)


@dataclass(slots=True)
class ImageProbe:
    """What one look into a file showed.

    faults: kinds of findings with what stands there; size: (width, height) in the file, None if it is no image;
    orientation: EXIF's, 1 = upright; digest: of the file's bytes, None if it cannot be read; differences: uint8
    (16,), bits that similar pictures share, None where nothing can be compared; thumb: uint8 (THUMB, THUMB) grey.
    """

    faults: dict[str, str]
    size: tuple[int, int] | None = None
    orientation: int = 1
    digest: bytes | None = None
    differences: np.ndarray | None = None
    thumb: np.ndarray | None = None


def look(path: Path) -> ImageProbe:
    """Reads a file once, in a small size where the format allows it. Never raises; safe in threads."""
    seen = ImageProbe({})
    try:
        if not path.is_file():  # a pipe would wait for ever
            seen.faults["image-unreadable"] = "it is no file"
            return seen
        with open(path, "rb") as file:
            seen.digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
            file.seek(0)
            _look_into(file, seen)
    except Image.DecompressionBombError:
        seen.faults["image-gigantic"] = ""
    except _BROKEN as error:
        kind = "image-unreadable" if seen.size is None else "image-truncated"
        seen.faults[kind] = "" if kind == "image-unreadable" else str(error)
    return seen


def _look_into(file: BinaryIO, seen: ImageProbe) -> None:
    with Image.open(file) as picture:
        seen.size = picture.size
        width, height = picture.size
        if width * height > MAX_PIXELS:
            seen.faults["image-gigantic"] = f"{width} x {height}"
            return
        with _one_large_image if width * height > _LARGE else contextlib.nullcontext():
            if picture.mode == "LAB":
                seen.faults["image-unreadable"] = f"it has {LAB}; {LAB_FIX[0].lower()}{LAB_FIX[1:]}"
                return
            _note_kind(picture, seen)
            grey = _grey(picture, seen)
            seen.orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)  # decodes a PNG, so not before
        _compare_by(grey, seen)


def _note_kind(picture: Image.Image, seen: ImageProbe) -> None:
    mode = picture.mode
    # A phone's MPO has a second picture for stereo or depth, which nobody misses.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        seen.faults["image-animated"] = f"{getattr(picture, 'n_frames', 'several')} frames"
        picture.seek(0)
    if mode.startswith("I;16"):
        seen.faults["image-16-bit"] = ""
    elif mode in ("I", "F"):
        seen.faults["image-32-bit"] = "floating point" if mode == "F" else ""
    elif mode == "CMYK":
        seen.faults["image-cmyk"] = ""
    elif mode in ("P", "PA"):
        seen.faults["image-palette"] = ""


def _grey(picture: Image.Image, seen: ImageProbe) -> Image.Image:
    """The picture in shades of grey, decoded to its end."""
    if picture.mode in ("RGBA", "LA"):
        if picture.getchannel("A").getextrema()[0] < 255:
            seen.faults["image-transparent"] = ""
        return picture.convert("L")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture.resize((4 * THUMB, 4 * THUMB), Image.Resampling.BOX), np.float32)
        values = np.nan_to_num(values - np.nanmin(values), posinf=0, neginf=0)
        return Image.fromarray((255 * values / max(float(values.max()), 1e-9)).astype(np.uint8))
    picture.draft("L", (4 * THUMB, 4 * THUMB))  # JPEG only: decoded at an eighth of the size, four times as fast
    return picture.convert("L")


def _compare_by(grey: Image.Image, seen: ImageProbe) -> None:
    seen.thumb = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX))
    if seen.thumb.std() < _FLATTEST:
        return
    grid = np.asarray(grey.resize((_HASH + 1, _HASH + 1), Image.Resampling.BOX)).astype(np.int16)
    rises = np.stack([grid[:-1, 1:] > grid[:-1, :-1], grid[1:, :-1] > grid[:-1, :-1]])  # 2, HASH, HASH
    # Each byte takes its bits from all over the picture, so that a plain sky does not make whole bytes equal.
    seen.differences = np.packbits(rises.reshape(8, -1).T.reshape(-1))


def note(record: ImageRecord, seen: ImageProbe, faults: FindingCollector) -> None:
    """Writes what a look showed into a split's faults, in place of what was noted when the dataset was opened."""
    for kind in ("image-unreadable", "size-mismatch", "image-scaled"):
        _forget(faults, kind, record.file_name)
    for kind, detail in seen.faults.items():
        faults.add(kind, record.file_name, detail=detail)
    if seen.size is None:
        return
    expected, turned = (record.width, record.height), seen.orientation in (5, 6, 7, 8)
    follows = turned and seen.size != expected == seen.size[::-1]
    if seen.orientation in range(2, 9):
        sized = record.file_name not in faults.image_names.get("bad-image-size", ())
        detail = "followed" if follows else "not followed" if sized else "the annotation file gives no size"
        faults.add("image-rotated", record.file_name, detail=detail)
        if turned and sized and seen.size != seen.size[::-1]:  # the size tells which way the annotations were made
            faults.severities.setdefault("image-rotated", "info")
        else:
            faults.severities["image-rotated"] = "warning"
    if not follows and (kind := size_fault(seen.size, expected)):
        detail = f"{seen.size[0]} x {seen.size[1]} instead of {record.width} x {record.height}"
        faults.add(kind, record.file_name, detail=detail)


def _forget(faults: FindingCollector, kind: str, image: str) -> None:
    if image not in faults.image_names.get(kind, ()):
        return
    del faults.image_names[kind][image]
    faults.locations[kind] = [place for place in faults.locations[kind] if place.image != image]
    faults.counts[kind] = len(faults.image_names[kind])
    if not faults.counts[kind]:
        del faults.counts[kind]
