"""Names the formats that are not read, so that their owner learns which export to choose."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from sam3_lora.data.folders import listing, subfolders
from sam3_lora.errors import DataError

_BY_ENDING = {
    ".xml": "Pascal VOC or CVAT (XML files)",
    ".tfrecord": "TensorFlow (TFRecord files)",
    ".parquet": "a table (Parquet files)",
    ".csv": "a table of boxes (CSV files)",
}
_BY_KEY = {
    "shapes": "LabelMe",
    "_via_img_metadata": "the VGG Image Annotator",
    "_via_settings": "the VGG Image Annotator",
    "regions": "the VGG Image Annotator",
    "completions": "Label Studio",
    "data_row": "Labelbox",
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_MOST_FOLDERS, _MOST_FILES = 16, 3
_MOST_BYTES = 16 * 2**20  # of a JSON file that is read to learn its kind


def is_archive(path: Path) -> bool:
    return path.suffix.lower() in _ARCHIVES


def foreign_format(root: Path, candidates: list[str]) -> str:
    """The format that a dataset seems to have, in words; "" if nothing tells.

    Args:
        root: its folder.
        candidates: the names of JSON files in it.
    """
    for name in candidates[:_MOST_FILES]:
        if found := _of_json(root / name):
            return found
    for folder in (root, *(root / name for name in subfolders(root)[:_MOST_FOLDERS])):
        endings: set[str] = set()
        with suppress(DataError):  # a folder that cannot be read tells nothing
            endings = {Path(name).suffix.lower() for name in listing(folder)}
        for ending, words in _BY_ENDING.items():
            if ending in endings:
                return words
    return ""


def format_of_keys(keys: set[str]) -> str:
    """The format of a JSON file with such keys, in words; "" if they tell nothing."""
    return next((words for key, words in _BY_KEY.items() if key in keys), "")


def _of_json(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return ""
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    if isinstance(content, list) and content:
        content = content[0]
    if not isinstance(content, dict):
        return ""
    inner = next(iter(content.values()), None)
    return format_of_keys(set(content)) or (format_of_keys(set(inner)) if isinstance(inner, dict) else "")
