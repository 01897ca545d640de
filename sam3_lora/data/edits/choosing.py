"""Applies edits that choose images: moves them between splits, or keeps a few of each category."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sam3_lora.data.edits.kinds import EditList, ExcludeImages, KeepPerCategory, MoveImages, moved_name, tag_of
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.formats.sources import KEPT_FROM
from sam3_lora.data.index.cache import index_of, new_token
from sam3_lora.data.index.coverage import coverage_arrays
from sam3_lora.data.index.gather import AnnotationColumns, GatheredImage, image_words
from sam3_lora.data.index.index import Index, IndexWriter
from sam3_lora.data.records import ImageRecord, ImageTable, Split
from sam3_lora.data.splits.holdout import Progress, hold_out, image_categories
from sam3_lora.errors import DataError


def held_out_edit(
    split: Split, to: str, share: float, seed: int, progress: Progress = lambda share, step: None
) -> MoveImages:
    """The edit that moves a share of a split's images to another one, as for validation or test.

    Near-copies stay together and every category keeps its share (:func:`sam3_lora.data.splits.holdout.hold_out`). The
    images are chosen now, since that reads every one of them; the edit names them.

    Args:
        split: to move images out of.
        to: the split that gets them; it need not exist.
        share: of the images, in (0, 1).
        seed: the same one moves the same images.
        progress: called with the share of the images that were compared, in [0, 1], and the current step.

    Raises:
        DataError: the images are too few, or too few categories are in two of them.
    """
    held_out = hold_out(split.present(), share, seed, progress)
    if held_out.obstacle is not None:
        few = "different images" if held_out.obstacle == "few-images" else "images with the same category"
        raise DataError(f"'{split.name}' has too few {few} to hold some out", "Add images")
    return MoveImages(split.name, held_out.images, to)


def choose_images(splits: Mapping[str, Split], edits: EditList, findings: FindingCollector) -> dict[str, Split]:
    """The splits after edits that choose images, in their order; a new split comes last.

    Args:
        splits: by name.
        edits: those that choose images apply, in their order.
        findings: takes the splits and images that edits name and that are not there.
    """
    chosen = dict(splits)
    excluded = {
        name: {image for edit in edits.while_reading(name) if isinstance(edit, ExcludeImages) for image in edit.images}
        for name in splits
    }
    for edit in edits.choosing():
        tag = tag_of(edit)
        if edit.split not in chosen:
            findings.add("edits-unfit", detail=f"{tag}: split '{edit.split}'")
        elif isinstance(edit, KeepPerCategory):
            split = chosen[edit.split]
            chosen[edit.split] = replace(split, images=split.images.take(_kept(split, edit.images, edit.seed)))
        else:
            split = chosen[edit.split]
            wanted = set(edit.images)
            moved = np.fromiter((name in wanted for name in split.images.names), bool, len(split.images))
            for name in wanted.difference(split.images.names, excluded.get(edit.split, ())):
                findings.add("edits-unfit", name, detail=tag)
            if edit.to != edit.split and moved.any():
                _move(chosen, edit, split, moved)
    return chosen


def _kept(split: Split, count: int, seed: int) -> np.ndarray:
    """The images to keep so that each category is in so many of them, as far as it is in so many: bool (N,).

    Rare categories are served first, since common ones come along. The order is by a hash of seed and name, so that
    images that are added later change little.
    """
    order = [
        hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "replace"), digest_size=8).digest()
        for name in split.images.names
    ]
    rank = np.argsort(np.argsort(np.array(order, dtype="S8"), kind="stable"), kind="stable")
    pairs = image_categories(split)
    totals = np.bincount(pairs[:, 1], minlength=len(split.categories)) if len(pairs) else np.zeros(0, int)
    kept = np.zeros(len(split.images), bool)
    for category in sorted(np.unique(pairs[:, 1]).tolist(), key=lambda category: (totals[category], category)):
        images = pairs[pairs[:, 1] == category, 0]
        missing = count - int(kept[images].sum())
        others = images[~kept[images]]
        if missing > 0:
            kept[others[np.argsort(rank[others])][:missing]] = True
    return kept


def _move(splits: dict[str, Split], edit: MoveImages, source: Split, moved: np.ndarray) -> None:
    target = splits.get(edit.to)
    parts = ([] if target is None else [(target.name, target.images)]) + [(source.name, source.images.take(moved))]
    names = tuple(dict.fromkeys(name for _, table in parts for name in table.categories))
    base = source if target is None else target
    index = _joined(edit.to, parts, names)
    splits[edit.to] = Split(edit.to, base.json_path, ImageTable(index, base.json_path.parent), names, base.edits)
    splits[edit.split] = replace(source, images=source.images.take(~moved))


def _joined(target: str, parts: list[tuple[str, ImageTable]], categories: tuple[str, ...]) -> Index:
    """One index of the images of several tables; large ones are kept in the cache, as those of splits are."""
    size = sum(len(table.split_index.text) for _, table in parts)
    states = [(name, table.split_index.words["token"], table.rows.tobytes()) for name, table in parts]
    key = repr(("joined", target, states))
    return index_of(key, lambda writer: _write(target, parts, categories, writer), keep=size >= KEPT_FROM)


def _write(target: str, parts: list[tuple[str, ImageTable]], categories: tuple[str, ...], writer: IndexWriter) -> None:
    number = {name: place for place, name in enumerate(categories)}
    columns, images = AnnotationColumns(writer), list[GatheredImage]()
    for split, table in parts:
        for record in table:
            image = _gathered(record, len(images), number)
            if split != target:
                image.file_name = moved_name(split, image.file_name)
            images.append(image)
            for item in record.annotations:
                text = item.stored_segmentation or b""
                columns.add(item.id, image.row, number[item.category], item.bbox_xywh, text, item.iscrowd, alone=True)
    arrays, ids = columns.sorted(images, FindingCollector())
    words = [table.split_index.words for _, table in parts]
    orientations = {of["orientation"] for of in words}
    rest = {
        "annotation_ids": ids,
        "orientation": orientations.pop() if len(orientations) == 1 else "",
        "categories": list(categories),
        "ancestors": {name: above for of in reversed(words) for name, above in of["ancestors"].items()},
        "findings": [],
        "watched": {path: state for of in words for path, state in of["watched"].items()},
        "token": new_token(),
    }
    writer.finish(arrays | coverage_arrays(images), image_words(images) | rest)


def _gathered(record: ImageRecord, row: int, number: Mapping[str, int]) -> GatheredImage:
    """An image as it is while a split is read; number: category -> its index in the new split."""
    incomplete, absent = record.incomplete_categories, record.absent_categories
    return GatheredImage(
        row=row,
        id=record.id,
        file_name=record.file_name,
        path=str(record.path.absolute()),
        missing=record.missing,
        width=record.width,
        height=record.height,
        unusable=set(record.unusable_categories),
        absent=None if absent is None else sorted(number[name] for name in absent),
        incomplete=sorted(number[name] for name in incomplete) or None,
    )
