"""Datasets of one split with one change to their files, and their examination."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.doctor import Report, examine
from tests.factories import SIZE_HW, write_split

HEIGHT, WIDTH = SIZE_HW
Change = Callable[[dict[str, Any], Path], None]


def examined(folder: Path, data: dict[str, Any], change: Change) -> Report:
    data = copy.deepcopy(data)
    train = write_split(folder / "train", data)
    change(data, train)
    (train / "_annotations.coco.json").write_text(json.dumps(data))
    return examine(open_dataset(folder))


def file_of(data: dict[str, Any], folder: Path, index: int = 0) -> Path:
    return folder / data["images"][index]["file_name"]


def noise(size_hw: tuple[int, int] = SIZE_HW, channels: int = 3, seed: int = 7) -> np.ndarray:
    shape = (*size_hw, channels) if channels > 1 else size_hw
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def saved(picture: Image.Image, format: str = "PNG", **options) -> Change:
    """Puts another picture in the place of the first image, whatever the file is called."""
    return lambda data, folder: picture.save(file_of(data, folder), format, **options)


def orientation(value: int, swapped: bool = False) -> Change:
    def change(data, folder):
        exif = Image.Exif()
        exif[0x0112] = value
        size = (HEIGHT, WIDTH)[:: -1 if swapped else 1]
        Image.fromarray(noise(size)).save(file_of(data, folder), "JPEG", exif=exif)

    return change


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def renamed(name: str, index: int = 0) -> Change:
    return lambda data, _: data["categories"][index].update(name=name)


def by_kind(report: Report) -> dict[str, Any]:
    assert len({(finding.kind, finding.split) for finding in report.findings}) == len(report.findings)
    return {finding.kind: finding for finding in report.findings}


def write_other(folder: Path, data: dict[str, Any], seed: int) -> None:
    """A split whose images are no others', as those of write_split are."""
    write_split(folder, data)
    for index in range(len(data["images"])):
        Image.fromarray(noise(seed=1000 * seed + index)).save(file_of(data, folder, index))
