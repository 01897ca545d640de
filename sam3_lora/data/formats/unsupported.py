"""Recognises formats that are not supported, so that the error can name them and the export to choose instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from sam3_lora.data.folders import MASK_FOLDERS, is_inside, listing, subfolders
from sam3_lora.errors import DataError

_BY_ENDING = {
    ".xml": "Pascal VOC or CVAT (XML files)",
    ".tfrecord": "TensorFlow (TFRecord files)",
    ".parquet": "a table (Parquet files)",
    ".jsonl": "JSON lines (JSONL files)",
    ".csv": "a table of boxes (CSV files)",
}
# By the keys that an entry has, all of them.
_BY_KEYS: dict[tuple[str, ...], str] = {
    ("shapes",): "LabelMe",
    ("_via_img_metadata",): "the VGG Image Annotator",
    ("_via_settings",): "the VGG Image Annotator",
    ("regions",): "the VGG Image Annotator",
    ("completions",): "Label Studio",
    ("data", "annotations"): "Label Studio",
    ("data", "predictions"): "Label Studio",
    ("data_row",): "Labelbox",
    ("imgHeight", "objects"): "Cityscapes",
    ("size", "objects"): "Supervisely",
    ("classes", "tags"): "Supervisely",
    ("categories", "items"): "Datumaro",
    ("image", "annotations"): "CreateML",
}
_TASKS = {"caption": "captions", "segments_info": "panoptic segments, whose masks are in PNG files"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_MAX_FOLDERS, _DEEPEST, _MAX_FILES = 64, 3, 3
_MAX_BYTES = 16 * 2**20  # of a JSON file that is read to learn its kind


def is_archive(path: Path) -> bool:
    """Whether a file has the ending of an archive."""
    return path.suffix.lower() in _ARCHIVES


def foreign_format(root: Path) -> str:
    """The format that the dataset in a folder seems to have, in words; "" if unknown."""
    folders = list(islice(_folders(root, root), _MAX_FOLDERS))
    names: dict[Path, list[str]] = {}
    for folder in folders:
        with suppress(DataError):  # a folder that cannot be read
            names[folder] = listing(folder)
    for folder, inside in names.items():
        for name in [name for name in inside if name.lower().endswith(".json")][:_MAX_FILES]:
            if found := _of_json(folder / name):
                return found
    for inside in names.values():
        endings = {Path(name).suffix.lower() for name in inside}
        for ending, words in _BY_ENDING.items():
            if ending in endings:
                return words
    return ""


def mask_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of the images and of their masks as image files, if the dataset consists of these."""
    for folder in islice(_folders(root, root), _MAX_FOLDERS):
        inner = subfolders(folder)
        named = (folder / name for name in inner if name.casefold() in MASK_FOLDERS)
        masks = next((path for path in named if _has_images(path)), None)
        if masks is not None and "images" in inner:
            return folder / "images", masks
        with suppress(DataError):
            if any(name.lower().endswith("_mask.png") for name in listing(folder)):
                return folder, folder
    return None


def format_of(content: Any) -> str:
    """The format of a JSON file with this content, in words; "" if unknown."""
    if isinstance(content, list) and content:
        content = content[0]
    if not isinstance(content, dict):
        return ""
    inner = next(iter(content.values()), None)
    return _of_keys(content) or (_of_keys(inner) if isinstance(inner, dict) else "")


def other_task(sketch: dict[str, Any]) -> str:
    """What a COCO file for another task has as annotations, in words; "" if it is for this task or unknown."""
    entries = sketch.get("annotations")
    entry = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(entry, dict) or "category_id" in entry:
        return ""
    return next((words for key, words in _TASKS.items() if key in entry), "")


def _of_keys(content: dict[str, Any]) -> str:
    return next((words for keys, words in _BY_KEYS.items() if all(key in content for key in keys)), "")


def _folders(folder: Path, root: Path, depth: int = 0) -> Iterator[Path]:
    """A folder and those in it, depth first."""
    yield folder
    for name in subfolders(folder)[:_MAX_FOLDERS] if depth < _DEEPEST else ():
        if is_inside(folder / name, root):
            yield from _folders(folder / name, root, depth + 1)


def _has_images(folder: Path) -> bool:
    with suppress(DataError):
        return any(name.lower().endswith((".png", ".bmp", ".tif", ".tiff")) for name in listing(folder))
    return False


def _of_json(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return ""
        return format_of(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return ""
