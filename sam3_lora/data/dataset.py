"""Opens a dataset: its splits, and everything that is wrong with it as findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sam3_lora.data.edits.choosing import choose_images
from sam3_lora.data.edits.file import read_edits
from sam3_lora.data.edits.kinds import EditList, tag_of
from sam3_lora.data.findings.findings import Finding, FindingCollector, by_severity
from sam3_lora.data.folders import dataset_folder, listing, require_text
from sam3_lora.data.formats.sources import Layout
from sam3_lora.data.images import load_image
from sam3_lora.data.index.read_split import read_split
from sam3_lora.data.layouts.layouts import recognize
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, Dataset, ImageRecord, Split, prompted
from sam3_lora.errors import DataError
from sam3_lora.files import user_path
from sam3_lora.text import first_names, short_repr, valid_text

__all__ = ["Annotation", "Dataset", "ImageRecord", "Split", "load_image", "open_dataset"]


def open_dataset(
    path: str | Path,
    progress: Callable[[float, str], None] | None = None,
    *,
    images: str | Path | None = None,
    phrase: str = "",
    crowds_as_objects: bool = False,
    edits: EditList | str | Path | None = None,
) -> Dataset:
    """Reads a dataset's annotations; of its images only the names, and a few headers.

    Large annotations are read once: they are kept as an index in the user's cache folder (or that of the environment
    variable SAM3_LORA_CACHE) until they change.

    Args:
        path: a folder in one of the layouts that :mod:`sam3_lora.data.layouts.layouts` knows (COCO in several,
            one JSON per image, YOLO), a COCO file, YOLO's data.yaml, or "demo" for the dataset that ships with the app.
        progress: called with the share that is done, in [0, 1], and the current step.
        images: a further folder to search for the images; it may be outside the dataset.
        phrase: the category of all objects if the annotations have no categories.
        crowds_as_objects: whether annotations with iscrowd 1 are objects like all others, as for tools that mark brush
            masks so.
        edits: that are applied, or their file; "" or None for none. The findings are those of the edited dataset; what
            edits name and is not there any more is a finding, too, and the others apply.

    Raises:
        DataError: there is nothing to open: no folder, or no annotations that can be read; or the file of edits cannot.
    """
    edits = edits if isinstance(edits, EditList) else read_edits(edits) if edits and str(edits).strip() else EditList()
    root = _root(path)
    require_text(root.absolute())
    layout = recognize(root, _images_folder(images), _checked_phrase(phrase))
    root = layout.root or (root.parent if root.is_file() else root)
    report = progress or (lambda share, step: None)
    splits, findings = _read_splits(layout, root, report, crowds_as_objects, edits)
    report(1.0, "Done")
    whole = FindingCollector()
    if edits:
        _find_unfit(edits, [source.name for source in layout.sources], splits, whole)
        splits = choose_images(splits, edits, whole)
        splits = {name: replace(split, edits=edits.digest) for name, split in splits.items()}
    categories = tuple(dict.fromkeys(name for split in splits.values() for name in split.categories))
    _check_categories(splits, categories, whole)
    for ignored in layout.ignored:
        whole.add("annotation-file-not-read", detail=short_repr(str(ignored.relative_to(root))))
    findings = [one for one in (*findings, *whole.collected()) if not edits.accepts(one.kind, one.split)]
    if edits:
        findings += _emptied(splits, findings)
    return Dataset(root, _format(layout.format, findings), splits, categories, tuple(by_severity(findings)))


def _read_splits(
    layout: Layout, root: Path, report: Callable[[float, str], None], crowds_as_objects: bool, edits: EditList
) -> tuple[dict[str, Split], list[Finding]]:
    """The splits that can be read, and the findings of all. Raises DataError if none can be."""
    splits: dict[str, Split] = {}
    findings: list[Finding] = []
    errors: list[DataError] = []
    for number, source in enumerate(layout.sources):
        step = f"Reading {source.name}"

        def report_split(share: float, number: int = number, step: str = step) -> None:
            report((number + share) / len(layout.sources), step)

        report_split(0.0)
        try:
            require_text(source.path)
            splits[source.name], found = read_split(
                source,
                root,
                report_split,
                crowds_as_objects=crowds_as_objects,
                edits=edits.while_reading(source.name),
            )
            findings += found
        except DataError as error:
            errors.append(error)
            unreadable = FindingCollector(source.name)
            unreadable.add("split-unreadable", problem=error.message, remedy=error.fix)
            findings += unreadable.collected()
    if not splits:
        raise errors[0]
    return splits, findings


def _find_unfit(edits: EditList, read: list[str], splits: dict[str, Split], findings: FindingCollector) -> None:
    """Adds the splits and categories that edits name and that are not there.

    Args:
        edits: that were applied while the splits were read.
        read: the names of the splits, those that cannot be read included.
        splits: those that can be read.
        findings: of the whole dataset.
    """
    for edit in edits.by_origin():
        if (split := getattr(edit, "split", read[0])) not in read:
            findings.add("edits-unfit", detail=f"{tag_of(edit)}: split {short_repr(split)}")
    met = set().union(*(split.images.split_index.words["met_categories"] for split in splits.values()))
    for name in edits.categories().difference(met) if len(splits) == len(read) else ():
        findings.add("edits-unfit", detail=f"category {short_repr(name)}")


def _emptied(splits: dict[str, Split], findings: list[Finding]) -> list[Finding]:
    """The splits that have no objects, where no other finding tells why: edits have left none."""
    told = {finding.split for finding in findings if finding.severity == "error"}
    found: list[Finding] = []
    for name, split in splits.items():
        if name not in told and len(split.images) and not split.images.counts.any():
            collector = FindingCollector(name)
            collector.add("no-objects", detail="with these edits", split_images=len(split.images))
            found += collector.collected()
    return found


def _format(layout: str, findings: list[Finding]) -> str:
    pairs = any(finding.kind == "phrases-from-text-input" for finding in findings)
    return f"SA-Co (image and phrase pairs), {layout}" if pairs else layout


def _images_folder(images: str | Path | None) -> Path | None:
    if images is None or not str(images).strip():
        return None
    folder = user_path(images)
    listing(folder)  # raises if there is no such folder
    require_text(folder.absolute())
    return folder


def _checked_phrase(phrase: str) -> str:
    phrase = phrase.strip()
    if phrase and not any(map(str.isalnum, phrase)):
        raise DataError(
            f"Expected a phrase of words, got {short_repr(phrase)}", "Give a short noun phrase, like 'crack'"
        )
    return phrase


def _root(path: str | Path) -> Path:
    if not str(path).strip():
        raise DataError("Expected a dataset's folder, got an empty path", "Give a folder, or 'demo'")
    return dataset_folder(path)


def _check_categories(splits: dict[str, Split], categories: tuple[str, ...], findings: FindingCollector) -> None:
    used = set().union(*(split.images.categories_used() for split in splits.values()))
    absent = set().union(*(split.images.categories_absent() for split in splits.values()))
    asked = set(prompted(categories, splits.values()))
    by_phrase: dict[str, str] = {}
    for category in categories:
        if used and category not in used and category in asked and category not in absent:
            findings.add("unused-category", detail=short_repr(category))
        first = by_phrase.setdefault(phrase_of(category), category)
        if first != category:
            findings.add("same-phrase", detail=f"{short_repr(category)} like {short_repr(first)}")
    _check_supercategories(splits, asked, findings)


def _check_supercategories(splits: dict[str, Split], asked: set[str], findings: FindingCollector) -> None:
    below: dict[str, dict[str, None]] = {}
    for split in splits.values():
        for category, ancestors in split.images.ancestors.items():
            for ancestor in ancestors:
                below.setdefault(ancestor, {})[category] = None
    for ancestor, names in below.items():
        example = f'data.category_phrases: {{"{valid_text(next(iter(names)))}": "{phrase_of(ancestor)}"}}'
        detail = f"{short_repr(ancestor)} of {first_names(list(names), 3)}"
        if ancestor not in asked:
            findings.add("parent-without-objects", detail=detail, example=example)
            continue
        images = [image for split in splits.values() for image in split.images.with_categories(set(names)).names]
        findings.add("parent-category", images[0] if images else None, detail=detail, example=example)
        findings.mention("parent-category", images)
