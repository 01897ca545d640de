"""The fingerprint of a dataset: a digest per split that changes when its annotations or images do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from sam3_lora.data.records import Split
from sam3_lora.errors import DataError
from sam3_lora.files import open_regular


def fingerprint(splits: Iterable[Split]) -> dict[str, str]:
    """By the split's name, a digest of its annotation files, its edits, and its images' names and sizes in bytes.

    Pixels are not read: that would take minutes where the rest takes a second.

    Raises:
        DataError: the dataset was removed since it was opened.
    """
    try:
        return {split.name: _digest(split) for split in splits}
    except OSError as error:
        raise DataError(
            f"The dataset cannot be read any more: {error.filename or error}: {error.strerror or 'it was removed'}",
            "Move it back, or correct data.path",
        ) from error


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names of the splits whose digest differs or is new."""
    return [name for name, digest in now.items() if before.get(name) != digest]


def _digest(split: Split) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in _annotation_files(split.json_path):
        digest.update(f"\0{path.name}\0".encode("utf-8", "replace"))
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    if split.edits:  # else as in versions without edits
        digest.update(f"\0{split.edits}".encode())
    for name, path in zip(split.images.names, split.images.paths, strict=True):
        size = path.stat().st_size if path.exists() else -1
        digest.update(f"\0{name}\0{size}".encode("utf-8", "replace"))
    return digest.hexdigest()


def _annotation_files(path: Path) -> list[Path]:
    """The one file, or those of single images in a folder (Segment Anything's JSON, YOLO's labels)."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in (".json", ".txt") and file.is_file())
