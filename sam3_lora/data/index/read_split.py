"""Reads one split, whatever its format, into an index; every problem in it becomes a finding."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from sam3_lora.data.edits.kinds import ReadingEdit
from sam3_lora.data.edits.reading import SplitEdits
from sam3_lora.data.findings.causes import find_crowds, find_no_images, find_no_objects, find_unknown
from sam3_lora.data.findings.findings import Finding, FindingCollector
from sam3_lora.data.findings.unread_keys import find_unread_keys
from sam3_lora.data.formats.coco import CocoFile
from sam3_lora.data.formats.saco import with_pairs
from sam3_lora.data.formats.sources import Progress, Source
from sam3_lora.data.index.annotation_reader import AnnotationReader
from sam3_lora.data.index.cache import Watched, index_of, new_token
from sam3_lora.data.index.category_reader import CategoryReader
from sam3_lora.data.index.coverage import CoverageReader, coverage_arrays
from sam3_lora.data.index.gather import image_words
from sam3_lora.data.index.image_reader import ImageReader
from sam3_lora.data.index.index import IndexWriter
from sam3_lora.data.records import ImageTable, Split


def read_split(
    source: Source,
    root: Path,
    progress: Progress = lambda share: None,
    *,
    crowds_as_objects: bool = False,
    edits: tuple[ReadingEdit, ...] = (),
) -> tuple[Split, list[Finding]]:
    """One split and its findings, from the cached index if there is one that still holds.

    Args:
        source: where the split is read from.
        root: the dataset's folder.
        progress: called with the share that is read, in [0, 1].
        crowds_as_objects: whether crowd regions are objects like all others.
        edits: that apply while the split is read.

    Raises:
        DataError: the annotations cannot be read, or are none.
    """
    key = repr((_key(source, root), crowds_as_objects, *([msgspec.json.encode(edits)] if edits else [])))

    def build(writer: IndexWriter) -> None:
        _build(source, writer, progress, crowds_as_objects, SplitEdits(edits))

    index = index_of(key, build, keep=source.large)
    images = ImageTable(index, source.folder)
    findings = msgspec.convert(index.words["findings"], list[Finding])
    return Split(source.name, source.path, images, images.categories), findings


def _key(source: Source, root: Path) -> str:
    places = [str(path.absolute()) for path in (root, source.path)]
    return repr((source.name, places, source.siblings, sorted(source.options.items())))


def _build(source: Source, writer: IndexWriter, progress: Progress, crowds_as_objects: bool, edits: SplitEdits) -> None:
    watched = Watched()
    for path in source.inputs:
        watched.add(path)
    findings = FindingCollector(source.name, source.format)
    content = source.open(findings, watched.add)
    if edits.keys and isinstance(content, CocoFile):
        content.read_as(edits.keys)
    sketch = content.sketch()
    find_unread_keys(findings, sketch)
    content = with_pairs(content, sketch, findings)
    del sketch
    files = source.files()
    for folder in files.listed:
        watched.add(folder)
    files.before_listing = watched.add

    categories = CategoryReader(findings, edits)
    categories.read(content.categories())
    categories.add(name for name in edits.labels.values() if name is not None)
    coverage = CoverageReader(findings, categories)
    images = ImageReader(findings, files, source.folder, watched, coverage, edits)
    for entries in content.images(lambda share: progress(0.2 * share)):
        images.read(entries)
    images.find_lost(source.siblings)
    annotations = AnnotationReader(findings, categories, images, writer, edits)
    annotations.read(content, lambda share: progress(0.2 + 0.8 * share))

    kept = images.kept()
    if content.looked_into:
        images.probed += content.looked_into
    else:
        images.probe(kept)
    images.describe()
    arrays, ids = annotations.columns.sorted(kept, findings)
    if not kept and images.is_empty:
        find_no_images(findings)
    elif kept and arrays["iscrowd"].all() and not crowds_as_objects:
        crowds = len(arrays["iscrowd"])
        find_no_objects(findings, len(kept), crowds, annotations.count > 0, annotations.no_list)
    elif arrays["iscrowd"].any():
        find_crowds(findings, kept, arrays, ids, list(categories.index), crowds_as_objects)
    if crowds_as_objects:
        arrays["iscrowd"] = np.zeros_like(arrays["iscrowd"])
    if any(image.absent == [] for image in kept):
        find_unknown(findings, kept, arrays)
    edits.finish(findings)
    words = {
        **image_words(kept),
        "annotation_ids": ids,
        "orientation": "shown" if source.format == "yolo" else images.orientation,
        "categories": list(categories.index),
        "ancestors": categories.ancestors(),
        "met_categories": sorted(edits.met_categories),
        "findings": msgspec.to_builtins(findings.collected()),
        "watched": watched.states,
        "token": new_token(),
    }
    writer.finish(arrays | coverage_arrays(kept), words)
