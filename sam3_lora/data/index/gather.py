"""Gathers a split's images and annotations while it is read, and writes them as an index."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.index import IndexWriter

Box = tuple[float, float, float, float]


class GatheredImage:
    """An image entry while its annotations are gathered.

    row: its place among all entries; left_out: with all its annotations, since they are not known for sure.
    """

    __slots__ = ("file_name", "height", "id", "left_out", "missing", "path", "row", "unusable", "width")

    def __init__(self, row: int, image_id: int | str, file_name: str, path: str, missing: bool) -> None:
        self.row, self.id, self.file_name, self.path, self.missing = row, image_id, file_name, path, missing
        self.width = self.height = 0
        self.left_out = False
        self.unusable: set[str] | None = None

    def cannot_use(self, categories: set[str]) -> None:
        """Notes categories that are in the image by annotations that cannot be used."""
        self.unusable = (self.unusable or set()) | categories


class Annotations:
    """Usable annotations in the order in which they are met."""

    def __init__(self, writer: IndexWriter) -> None:
        self._writer = writer
        self.ids: list[int | str] = []
        self.image = array("q")
        self.category = array("i")
        self.boxes = array("d")
        self.crowd = bytearray()
        self.starts = array("q")
        self.lengths = array("q")
        self.hashes = array("q")

    def add(
        self,
        key: int | str,
        row: int,
        category: int,
        box: Box,
        text: bytes,
        crowd: bool,
        *,
        alone: bool = False,
    ) -> None:
        """text: JSON of the segmentation, empty without one; alone: cannot be a copy of another one, since its
        segmentation could not be used."""
        self.ids.append(key)
        self.image.append(row)
        self.category.append(category)
        self.boxes.extend(box)
        self.crowd.append(crowd)
        self.starts.append(self._writer.add_text(text))
        self.lengths.append(len(text))
        self.hashes.append(hash((text, len(self.ids))) if alone else hash(text))

    def sorted(
        self, kept: list[GatheredImage], faults: FindingCollector
    ) -> tuple[dict[str, np.ndarray], list[int | str] | None]:
        """The arrays of an index, annotations in the order of the images, without exact copies; and ids that are no
        64-bit numbers."""
        rows = np.array(self.image, np.int64)
        place = np.full(max(rows.max(initial=-1), max((image.row for image in kept), default=-1)) + 1, -1)
        place[[image.row for image in kept]] = np.arange(len(kept))
        image = place[rows]
        order = np.argsort(image, kind="stable")
        order = order[image[order] >= 0]
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        order = self._without_copies(order, image, boxes, kept, faults)
        ids = [self.ids[number] for number in order.tolist()]
        texts = any(isinstance(key, str) for key in ids)
        arrays = {
            "first": np.searchsorted(image[order], np.arange(len(kept) + 1)).astype(np.int64),
            "category": np.array(self.category, np.int32)[order],
            "boxes_xywh": boxes[order],
            "iscrowd": np.frombuffer(bytes(self.crowd), bool)[order],
            "text_start": np.array(self.starts, np.int64)[order],
            "text_length": np.array(self.lengths, np.int64)[order],
            "annotation_ids": np.array([] if texts else ids, np.int64),
            "sizes_wh": np.array([(one.width, one.height) for one in kept], np.int64).reshape(-1, 2),
            "missing": np.array([one.missing for one in kept], bool),
        }
        return arrays, ids if texts else None

    def _without_copies(
        self,
        order: np.ndarray,
        image: np.ndarray,
        boxes: np.ndarray,
        kept: list[GatheredImage],
        faults: FindingCollector,
    ) -> np.ndarray:
        """`order` without annotations that repeat an earlier one of their image in everything but the id."""
        columns = (image, np.array(self.category, np.int64), np.frombuffer(bytes(self.crowd), np.uint8))
        key = np.array(self.hashes, np.int64).view(np.uint64)
        for column in (*columns, *(boxes + 0.0).view(np.uint64).T):  # + 0.0 turns -0.0 into 0.0
            key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        _, first = np.unique(key[order], return_index=True)
        if len(first) == len(order):
            return order
        repeated = np.ones(len(order), bool)
        repeated[first] = False
        for number in order[repeated].tolist():
            faults.add("duplicate-annotation", kept[image[number]].file_name, self.ids[number])
        return order[~repeated]


def image_words(kept: list[GatheredImage]) -> dict[str, Any]:
    """What an index says of images in words."""
    return {
        "image_ids": [image.id for image in kept],
        "file_names": [image.file_name for image in kept],
        "paths": {str(row): image.path for row, image in enumerate(kept) if image.path != image.file_name},
        "unusable": {str(row): sorted(image.unusable) for row, image in enumerate(kept) if image.unusable},
    }
