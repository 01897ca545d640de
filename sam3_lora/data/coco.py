"""Opens a COCO dataset: its splits, and everything that is wrong with it as findings, never as a crash."""

from __future__ import annotations

from pathlib import Path

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.data.folders import ANNOTATION_FILE, annotation_files
from sam3_lora.data.health import Faults, Finding, in_order, shown
from sam3_lora.data.images import load_image
from sam3_lora.data.parse import read_split
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, Dataset, ImageRecord, Split
from sam3_lora.data.sources import coco_source
from sam3_lora.errors import DataError

__all__ = ["Annotation", "Dataset", "ImageRecord", "Split", "load_image", "open_dataset"]


def open_dataset(path: str | Path) -> Dataset:
    """Reads a dataset's annotation files; of its images only names are looked at, and a few headers.

    Args:
        path: a folder whose folders are splits (``train/_annotations.coco.json``, as Roboflow
            exports them; images beside the file or in ``images/``), a folder that holds one such
            file itself, or "demo" for the dataset that ships with the app.

    Raises:
        DataError: there is nothing to open: no folder, no annotation file, or none that is COCO JSON.
    """
    root = _root(path)
    files = annotation_files(root)
    splits: dict[str, Split] = {}
    findings: list[Finding] = []
    errors: list[DataError] = []
    for name, json_path in files.items():
        try:
            splits[name], found = read_split(coco_source(name, json_path, root), root)
            findings += found
        except DataError as error:
            errors.append(error)
            findings.append(_unreadable(name, error))
    if not splits:
        raise errors[0]
    categories = tuple(dict.fromkeys(name for split in splits.values() for name in split.categories))
    findings += _about_categories(splits, categories)
    in_folders = all(json_path.parent != root for json_path in files.values())
    layout = "one folder per split" if in_folders else "a single file"
    if in_folders and all(json_path.name == ANNOTATION_FILE for json_path in files.values()):
        layout += ", as Roboflow exports it"
    return Dataset(root, f"COCO JSON, {layout}", splits, categories, tuple(in_order(findings)))


def _root(path: str | Path) -> Path:
    if str(path) == DEMO:
        return ASSETS / "demo" / "dataset"
    if not str(path).strip():
        raise DataError("Expected a dataset's folder, got an empty path", "Give a folder, or 'demo'")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"Expected a dataset's folder, but {path} names an unknown user", "Correct the path") from None


def _unreadable(split: str, error: DataError) -> Finding:
    faults = Faults(split, {"problem": error.message, "remedy": error.fix})
    faults.add("split-unreadable")
    return faults.findings()[0]


def _about_categories(splits: dict[str, Split], categories: tuple[str, ...]) -> list[Finding]:
    faults = Faults()
    used = set().union(*(split.images.categories_used() for split in splits.values()))
    by_phrase: dict[str, str] = {}
    for category in categories:
        if used and category not in used:
            faults.add("unused-category", detail=shown(category))
        first = by_phrase.setdefault(phrase_of(category), category)
        if first != category:
            faults.add("same-phrase", detail=f"{shown(category)} like {shown(first)}")
    return faults.findings()
