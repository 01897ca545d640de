"""The folders in a folder, for a person who looks for a dataset: bounded, without hidden ones."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sam3_lora.data.folders import ANNOTATION_FILE, explain_unreadable, is_folder, is_litter, is_text
from sam3_lora.data.splits.names import split_word

MAX_SCANNED = 20_000  # entries of a folder that are looked at
MAX_SHOWN = 60
_MAX_SCANNED_INSIDE = 60  # entries of each folder that is shown
_PATIENCE_S = 0.3  # for all looks inside: a network drive may be slow
_NAMES = frozenset((ANNOTATION_FILE, "data.yaml", "data.yml", "annotations"))


@dataclass(frozen=True)
class Subfolder:
    """A folder in the one that is looked at."""

    path: Path
    looks_like_dataset: bool  # by the names in it; its files are not read


@dataclass(frozen=True)
class Browsed:
    """What a folder holds.

    Attributes:
        subfolders: by name, at most MAX_SHOWN.
        found: how many there are among the entries looked at.
        complete: all entries were looked at.
    """

    subfolders: tuple[Subfolder, ...]
    found: int
    complete: bool


def browse(folder: Path, containing: str = "") -> Browsed:
    """The folders in a folder, without hidden ones and what systems leave behind.

    Args:
        folder: any.
        containing: only names with this in them, in upper or lower case.

    Raises:
        DataError: there is no such folder, or it cannot be read.
    """
    wanted = containing.strip().casefold()
    with explain_unreadable(folder), os.scandir(folder) as entries:
        scanned = list(islice(entries, MAX_SCANNED + 1))
    usable = (entry for entry in scanned[:MAX_SCANNED] if is_text(entry.name) and not is_litter(entry.name))
    names = [entry.name for entry in usable if wanted in entry.name.casefold() and is_folder(entry)]
    names.sort(key=str.casefold)
    until = time.monotonic() + _PATIENCE_S
    shown = (folder / name for name in names[:MAX_SHOWN])
    subfolders = tuple(Subfolder(path, time.monotonic() < until and looks_like_dataset(path)) for path in shown)
    return Browsed(subfolders, len(names), len(scanned) <= MAX_SCANNED)


def looks_like_dataset(folder: Path) -> bool:
    """Whether names in a folder are those of a dataset's: splits, annotations. Reads no file; False if unreadable."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name.casefold() for entry in islice(entries, _MAX_SCANNED_INSIDE)]
    except (OSError, ValueError):  # ValueError: a path that no file system can hold
        return False
    return any(name in _NAMES or bool(split_word(name)) or name.endswith("coco.json") for name in names)
