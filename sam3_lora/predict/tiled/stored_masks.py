"""Masks of a large image, kept as run lengths: hundreds of them take less memory than one as a bitmap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_lora.masks import decode_columns


@dataclass(frozen=True)
class MaskCrop:
    """The part of an image that contains a mask."""

    top: int  # row and column of the crop's first pixel in the image
    left: int
    mask: np.ndarray  # (h, w) bool


@dataclass(frozen=True)
class StoredMasks:
    """K masks of one image.

    Attributes:
        rles: COCO's compressed run lengths, of the whole image's size.
        presences: (K,) float, of the phrase in the tile that each object was found in best.
    """

    rles: tuple[dict[str, Any], ...]
    presences: np.ndarray

    def take(self, which: np.ndarray) -> StoredMasks:
        """The chosen masks, by a bool mask (K,) or by indices."""
        places = np.arange(len(self.rles))[which]
        return StoredMasks(tuple(self.rles[place] for place in places.tolist()), self.presences[which])

    def is_of(self, size_hw: tuple[int, int]) -> bool:
        """Whether the masks are of an image of this size."""
        return all(tuple(rle["size"]) == size_hw for rle in self.rles[:1])

    def crops(self, size_hw: tuple[int, int]) -> Iterator[MaskCrop]:
        """The masks one after the other, at the image's size or at another one, by nearest neighbor."""
        for rle in self.rles:
            columns, left = decode_columns(rle, (rle["size"][0], rle["size"][1]), size_hw)
            rows = np.flatnonzero(columns.any(1))
            top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
            yield MaskCrop(top, left, columns[top:bottom])

    @property
    def areas(self) -> np.ndarray:
        """(K,) int64: pixels of each mask."""
        from pycocotools import mask as rle_ops

        # One by one: of more than 255 at once it fails.
        return np.array([int(rle_ops.area(rle)) for rle in self.rles], dtype=np.int64)

    def overlaps(self) -> tuple[np.ndarray, np.ndarray]:
        """IoU and IoM (intersection over the smaller mask), each (K, K) in [0, 1]."""
        from pycocotools import mask as rle_ops

        count, rles = len(self.rles), list(self.rles)
        if not count:
            return np.zeros((0, 0)), np.zeros((0, 0))
        iou = np.asarray(rle_ops.iou(rles, rles, [0] * count))
        within = np.asarray(rle_ops.iou(rles, rles, [1] * count))  # share of the first in the second
        return iou, np.maximum(within, within.T)

    def merged(self, groups: Sequence[np.ndarray]) -> StoredMasks:
        """The unions of groups of masks, given by their places, the best of each first."""
        rles = tuple(union_rle([self.rles[place] for place in group.tolist()]) for group in groups)
        return StoredMasks(rles, np.array([self.presences[group[0]] for group in groups]))


def union_rle(rles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The union of masks of one image, as COCO's compressed run lengths."""
    from pycocotools import mask as rle_ops

    if len(rles) == 1:
        return rles[0]
    union = rle_ops.merge(list(rles))
    return {"size": [int(side) for side in union["size"]], "counts": union["counts"].decode("ascii")}
