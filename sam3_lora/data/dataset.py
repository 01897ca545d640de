"""Opens a dataset: its splits, and everything that is wrong with it as findings, never as a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.data.findings.findings import Finding, FindingCollector, in_order, shown
from sam3_lora.data.folders import listing, require_text
from sam3_lora.data.formats.layouts import Layout, recognise
from sam3_lora.data.formats.sources import SOURCE_WORDINGS
from sam3_lora.data.images import load_image
from sam3_lora.data.index.parse import read_split
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, Dataset, ImageRecord, Split
from sam3_lora.errors import DataError
from sam3_lora.text import plural

__all__ = ["Annotation", "Dataset", "ImageRecord", "Split", "load_image", "open_dataset"]


def open_dataset(
    path: str | Path,
    progress: Callable[[float, str], None] | None = None,
    *,
    images: str | Path | None = None,
    phrase: str = "",
) -> Dataset:
    """Reads a dataset's annotations; of its images only names are looked at, and a few headers.

    Large annotations are read once: what they say is kept in the user's cache folder (or that of the
    environment variable SAM3_LORA_CACHE) until they change.

    Args:
        path: a folder in one of the layouts that :mod:`sam3_lora.data.formats.layouts` knows (COCO in several,
            one JSON per image, YOLO), a COCO file, YOLO's data.yaml, or "demo" for the dataset that ships with the app.
        progress: is told the share that is done, in [0, 1], and what is being read.
        images: a further folder to look for the images in; it may lie outside the dataset.
        phrase: what all objects are called if the annotations have no categories.

    Raises:
        DataError: there is nothing to open: no folder, or no annotations that can be read.
    """
    root = _root(path)
    phrase = phrase.strip()
    if phrase and not any(map(str.isalnum, phrase)):
        raise DataError(f"Expected a phrase of words, got {shown(phrase)}", "Give a short noun phrase, like 'crack'")
    require_text(root.absolute())
    layout = recognise(root, _images_folder(images), phrase)
    root = layout.root or (root.parent if root.is_file() else root)
    tell = progress or (lambda share, what: None)
    splits: dict[str, Split] = {}
    findings: list[Finding] = []
    errors: list[DataError] = []
    for number, source in enumerate(layout.sources):
        name, done = source.name, number / len(layout.sources)
        tell(done, f"Reading {name}")
        try:
            require_text(source.path)
            splits[name], found = read_split(
                source,
                root,
                lambda share, name=name, done=done: tell(done + share / len(layout.sources), f"Reading {name}"),
            )
            findings += found
        except DataError as error:
            errors.append(error)
            findings.append(_unreadable(name, error))
    if not splits:
        raise errors[0]
    tell(1.0, "Done")
    categories = tuple(dict.fromkeys(name for split in splits.values() for name in split.categories))
    findings += _about_categories(splits, categories) + _not_read(layout, root)
    return Dataset(root, layout.format, splits, categories, tuple(in_order(findings)))


def _images_folder(images: str | Path | None) -> Path | None:
    if images is None or not str(images).strip():
        return None
    folder = Path(images).expanduser()
    listing(folder)  # says in words if there is none
    require_text(folder.absolute())
    return folder


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
    faults = FindingCollector(split, {"problem": error.message, "remedy": error.fix})
    faults.add("split-unreadable")
    return faults.findings()[0]


def _not_read(layout: Layout, root: Path) -> list[Finding]:
    faults = FindingCollector(facts={"files": plural(len(layout.ignored), "annotation file")}, wordings=SOURCE_WORDINGS)
    for path in layout.ignored:
        faults.add("annotation-file-not-read", detail=shown(str(path.relative_to(root))))
    return faults.findings()


def _about_categories(splits: dict[str, Split], categories: tuple[str, ...]) -> list[Finding]:
    faults = FindingCollector()
    used = set().union(*(split.images.categories_used() for split in splits.values()))
    by_phrase: dict[str, str] = {}
    for category in categories:
        if used and category not in used:
            faults.add("unused-category", detail=shown(category))
        first = by_phrase.setdefault(phrase_of(category), category)
        if first != category:
            faults.add("same-phrase", detail=f"{shown(category)} like {shown(first)}")
    return faults.findings()
