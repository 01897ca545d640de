"""Probes one image file: whether it is intact, its kind, and the hashes by which it is compared with others."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.images import BROKEN, LAB, LAB_FIX, MAX_PIXELS, ImageHeader, orientation_of, unreadable_kind
from sam3_lora.data.index.cache import state_of
from sam3_lora.data.records import ImageRecord
from sam3_lora.files import open_regular

# Also looked for when a dataset is opened.
SIZE_KINDS = ("image-unreadable", "image-heic", "size-mismatch", "image-scaled", "image-orientation-unclear")
THUMB = 16  # pixels a side of the thumbnail by which two images are compared
_HASH = 8  # gradients a side and direction: 2 * 8 * 8 = 128 bits
_FLATTEST = 2.0  # standard deviation of gray values below which an image has nothing to compare
_LARGE = 8_000_000  # pixels; of images above, one is decoded at a time, which bounds the memory
_one_large_image = threading.Lock()
_MAX_KEPT = 50_000  # probes, of some 700 bytes each


@dataclass(slots=True)
class ImageProbe:
    """What is known of one image file.

    Attributes:
        problems: kind of finding -> detail.
        size: (width, height) in the file, None if it is no image.
        orientation: EXIF's, 1 = upright.
        digest: BLAKE2 of the file's bytes, None if it cannot be read.
        gradient_hash: uint8 (16,), a difference hash (dHash) in both directions, whose bits similar images share; None
            where nothing can be compared.
        thumb: uint8 (THUMB, THUMB), gray.
    """

    problems: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    orientation: int = 1
    digest: bytes | None = None
    gradient_hash: np.ndarray | None = None
    thumb: np.ndarray | None = None


_kept: dict[tuple[str, int, int], ImageProbe] = {}  # by path, size and time of change
_keeping = threading.Lock()


def probe(path: Path) -> ImageProbe:
    """Reads a file once, in a small size where the format allows it. Never raises; safe in threads.

    What was found is kept in memory, so that a dataset is examined fast once its edits have changed; a file is read
    again when its size or time of change is another.
    """
    key = str(path.absolute()), *state_of(str(path))
    if (kept := _kept.get(key)) is not None:
        return kept
    found = _probe(path)
    if found.digest is not None:  # else it may be readable the next time, unchanged
        with _keeping:
            _kept[key] = found
            while len(_kept) > _MAX_KEPT:
                del _kept[next(iter(_kept))]
    return found


def _probe(path: Path) -> ImageProbe:
    found = ImageProbe()
    try:
        with open_regular(path) as file:
            found.digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
            file.seek(0)
            _decode(file, found)
    except Image.DecompressionBombError:
        found.problems["image-gigantic"] = ""
    except BROKEN as error:
        kind = unreadable_kind(path) if found.size is None else "image-truncated"
        found.problems[kind] = str(getattr(error, "strerror", None) or ("" if found.size is None else error))
    return found


def _decode(file: BinaryIO, found: ImageProbe) -> None:
    with Image.open(file) as picture:
        found.size = picture.size
        width, height = picture.size
        if width * height > MAX_PIXELS:
            found.problems["image-gigantic"] = f"{width} x {height}"
            return
        with _one_large_image if width * height > _LARGE else contextlib.nullcontext():
            if picture.mode == "LAB":
                found.problems["image-unreadable"] = f"it has {LAB}; {LAB_FIX[0].lower()}{LAB_FIX[1:]}"
                return
            _find_color_mode(picture, found)
            gray = _as_gray(picture, found)
            found.orientation = orientation_of(picture)  # decodes a PNG, so not before
        _set_hashes(gray, found)


def _find_color_mode(picture: Image.Image, found: ImageProbe) -> None:
    mode = picture.mode
    # A phone's MPO has a second picture for stereo or depth, which is not needed.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        found.problems["image-animated"] = f"{getattr(picture, 'n_frames', 'several')} frames"
        picture.seek(0)
    if mode.startswith("I;16"):
        found.problems["image-16-bit"] = ""
    elif mode in ("I", "F"):
        found.problems["image-32-bit"] = "floating point" if mode == "F" else ""
    elif mode == "CMYK":
        found.problems["image-cmyk"] = ""
    elif mode in ("P", "PA"):
        found.problems["image-palette"] = ""


def _as_gray(picture: Image.Image, found: ImageProbe) -> Image.Image:
    """The image in shades of gray, decoded to its end."""
    if picture.mode in ("RGBA", "LA"):
        if np.asarray(picture.getchannel("A")).min() < 255:
            found.problems["image-transparent"] = ""
        return picture.convert("L")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture.resize((4 * THUMB, 4 * THUMB), Image.Resampling.BOX), np.float32)
        values = np.nan_to_num(values - np.nanmin(values), posinf=0, neginf=0)
        return Image.fromarray((255 * values / max(float(values.max()), 1e-9)).astype(np.uint8))
    picture.draft("L", (4 * THUMB, 4 * THUMB))  # JPEG only: decoded at an eighth of the size, four times as fast
    return picture.convert("L")


def _set_hashes(gray: Image.Image, found: ImageProbe) -> None:
    found.thumb = np.asarray(gray.resize((THUMB, THUMB), Image.Resampling.BOX))
    if found.thumb.std() < _FLATTEST:
        return
    grid = np.asarray(gray.resize((_HASH + 1, _HASH + 1), Image.Resampling.BOX)).astype(np.int16)
    gradients = np.stack([grid[:-1, 1:] > grid[:-1, :-1], grid[1:, :-1] > grid[:-1, :-1]])  # 2, HASH, HASH
    # Each byte takes its bits from all over the image, so that a clear sky does not make bytes equal.
    found.gradient_hash = np.packbits(gradients.reshape(8, -1).T.reshape(-1))


def check(record: ImageRecord, probe: ImageProbe, findings: FindingCollector) -> None:
    """Adds what a probe showed to the findings, in place of what was found when the dataset was opened.

    Args:
        record: the image.
        probe: of its file.
        findings: of its split.
    """
    for kind in SIZE_KINDS:
        findings.forget(kind, record.file_name)
    for kind, detail in probe.problems.items():
        findings.add(kind, record.file_name, detail=detail)
    findings.describe("image-gigantic", max_megapixels=MAX_PIXELS // 10**6)
    if probe.size is None:
        return
    header, expected = ImageHeader(probe.size, probe.orientation), (record.width, record.height)
    if probe.orientation > 1:
        has_size = not findings.concerns("bad-image-size", record.file_name)
        if record.orientation or (has_size and header.annotated(expected)):
            is_applied = header.is_applied(expected, record.orientation)
            findings.add("image-rotated", record.file_name, detail="applied" if is_applied else "not applied")
        else:
            findings.add("image-orientation-unclear", record.file_name)
    if kind := header.size_finding(expected, record.orientation):
        width, height = header.used_size(expected, record.orientation)
        detail = f"{width} x {height} instead of {record.width} x {record.height}"
        findings.add(kind, record.file_name, detail=detail)
