"""Gathers a split's images and annotations while it is read, column by column, for the index."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.index import IndexWriter

Box = tuple[float, float, float, float]
ALL = -1  # in place of a category's index


@dataclass(slots=True)
class GatheredImage:
    """An image entry while its annotations are gathered.

    Attributes:
        row: its place among all entries.
        id: as in the file.
        file_name: as in the file.
        path: of the image file, relative to the split's folder.
        missing: whether there is no such file.
        width, height: pixels.
        left_out: with all its annotations, since it is unclear which ones are its own.
        unusable: categories that are in the image by annotations that cannot be used.
        absent: indices of the categories that are surely absent; None if the file does not list them.
        incomplete: indices of the categories that have objects without annotation; or ALL.
    """

    row: int
    id: int | str
    file_name: str
    path: str
    missing: bool
    width: int
    height: int
    left_out: bool = False
    unusable: set[str] | None = None
    absent: list[int] | None = None
    incomplete: list[int] | None = None

    def cannot_use(self, categories: set[str]) -> None:
        """Notes categories that are in the image by annotations that cannot be used."""
        self.unusable = (self.unusable or set()) | categories


class AnnotationColumns:
    """Usable annotations, column by column, in the order in which they are met."""

    def __init__(self, writer: IndexWriter) -> None:
        self._writer = writer
        self.ids: list[int | str] = []
        self._image = array("q")
        self.categories = array("i")  # their indices
        self._boxes = array("d")
        self._crowd = bytearray()
        self._text_starts = array("q")
        self.text_lengths = array("q")
        self._hashes = array("q")

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
        """Takes in one annotation.

        Args:
            key: its id.
            row: of its image.
            category: its index.
            box: (left, top, width, height) in pixels.
            text: JSON of the segmentation, empty without one.
            crowd: whether it is a region of many objects.
            alone: cannot duplicate another one, since its segmentation could not be used.
        """
        self.ids.append(key)
        self._image.append(row)
        self.categories.append(category)
        self._boxes.extend(box)
        self._crowd.append(crowd)
        self._text_starts.append(self._writer.add_text(text))
        self.text_lengths.append(len(text))
        self._hashes.append(hash((text, len(self.ids))) if alone else hash(text))

    def sorted(
        self, kept: list[GatheredImage], findings: FindingCollector
    ) -> tuple[dict[str, np.ndarray], list[int | str] | None]:
        """The arrays of an index, with the annotations in the order of the images and without exact duplicates.

        Args:
            kept: the images to write, in order.
            findings: takes the duplicates.

        Returns:
            The arrays by name, and the ids of the annotations if some are text, else None.
        """
        rows = np.array(self._image, np.int64)
        place = np.full(max(rows.max(initial=-1), max((image.row for image in kept), default=-1)) + 1, -1)
        place[[image.row for image in kept]] = np.arange(len(kept))
        image = place[rows]
        order = np.argsort(image, kind="stable")
        order = order[image[order] >= 0]
        boxes = np.array(self._boxes, np.float64).reshape(-1, 4)
        order = self._without_duplicates(order, image, boxes, kept, findings)
        ids = [self.ids[number] for number in order.tolist()]
        texts = any(isinstance(key, str) for key in ids)
        arrays: dict[str, np.ndarray] = {
            "first": np.searchsorted(image[order], np.arange(len(kept) + 1)).astype(np.int64),
            "category": np.array(self.categories, np.int32)[order],
            "boxes_xywh": boxes[order],
            "iscrowd": np.frombuffer(bytes(self._crowd), bool)[order],
            "text_start": np.array(self._text_starts, np.int64)[order],
            "text_length": np.array(self.text_lengths, np.int64)[order],
            "annotation_ids": np.array([] if texts else ids, np.int64),
            "sizes_wh": np.array([(one.width, one.height) for one in kept], np.int64).reshape(-1, 2),
            "missing": np.array([one.missing for one in kept], bool),
        }
        return arrays, ids if texts else None

    def _without_duplicates(
        self,
        order: np.ndarray,
        image: np.ndarray,
        boxes: np.ndarray,
        kept: list[GatheredImage],
        findings: FindingCollector,
    ) -> np.ndarray:
        """`order` without annotations that repeat an earlier one of their image in everything but the id."""
        columns = (image, np.array(self.categories, np.int64), np.frombuffer(bytes(self._crowd), np.uint8))
        key = np.array(self._hashes, np.int64).view(np.uint64)
        for column in (*columns, *(boxes + 0.0).view(np.uint64).T):  # + 0.0 turns -0.0 into 0.0
            key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        _, first = np.unique(key[order], return_index=True)
        if len(first) == len(order):
            return order
        repeated = np.ones(len(order), bool)
        repeated[first] = False
        for number in order[repeated].tolist():
            findings.add("duplicate-annotation", kept[image[number]].file_name, self.ids[number])
        unique: np.ndarray = order[~repeated]
        return unique


def image_words(kept: list[GatheredImage]) -> dict[str, Any]:
    """What an index holds of images as JSON values."""
    return {
        "image_ids": [image.id for image in kept],
        "file_names": [image.file_name for image in kept],
        "paths": {str(row): image.path for row, image in enumerate(kept) if image.path != image.file_name},
        "unusable": {str(row): sorted(image.unusable) for row, image in enumerate(kept) if image.unusable},
    }
