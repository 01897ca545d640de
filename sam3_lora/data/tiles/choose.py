"""Chooses the size of tiles by the sizes and numbers of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sam3_lora.config.fields import MAX_TILE, MIN_TILE
from sam3_lora.data.object_sizes import small_share
from sam3_lora.data.records import ImageTable
from sam3_lora.tiles import Tiling

SMALL_SHARE = 0.05  # of objects that are too small without tiles: fewer are no reason to cut
_WANTED_PIXELS = 16  # width or height, in the model's image, of nearly all objects
_NEARLY_ALL = 0.9
_MAX_ENLARGED = 4  # a tile is enlarged to the model's image by no more: there is no further detail in it
_SHRINK = 0.75  # of tiles that hold too many objects
_STEP = 16  # sizes are multiples of it


@dataclass(frozen=True)
class TileChoice:
    """A size of tiles, and why.

    Attributes:
        size: in pixels of the image; 0 for whole images.
        reason: small objects, too many of them, or neither.
        small: share of the objects that are too small without tiles.
        most: objects of one category in one image, at most.
    """

    size: int
    reason: Literal["small-objects", "many-objects", "visible"]
    small: float
    most: int


def choose_tiles(images: ImageTable, side: int, queries: int, overlap: float) -> TileChoice:
    """The largest tiles with which nearly all objects are large enough for the model, and none has too many.

    Args:
        images: to learn from.
        side: of the model's image, in pixels.
        queries: of the model, per phrase.
        overlap: of the tiles, as a share of their side.
    """
    small, most = small_share(images, side) or 0.0, _most(images, None)
    if (small <= SMALL_SHARE and most <= queries) or not len(images):
        return TileChoice(0, "visible", small, most)
    longest = int(images.sizes_wh.max())
    size = float(longest)
    if small > SMALL_SHARE:
        narrow = images.boxes_xywh[~images.iscrowd, 2:].min(1)
        size = side * float(np.quantile(narrow, 1 - _NEARLY_ALL)) / _WANTED_PIXELS
    size = _rounded(max(size, side / _MAX_ENLARGED))
    while size > _rounded(side / _MAX_ENLARGED) and _most(images, Tiling(size, overlap)) > queries:
        size = min(size - _STEP, _rounded(size * _SHRINK))
    if size >= longest:
        return TileChoice(0, "visible", small, most)
    return TileChoice(size, "small-objects" if small > SMALL_SHARE else "many-objects", small, most)


def _rounded(size: float) -> int:
    return int(min(MAX_TILE, max(MIN_TILE, size // _STEP * _STEP)))


def _most(images: ImageTable, tiling: Tiling | None) -> int:
    """The most objects of one category that any image has, or any tile, by their centers."""
    objects = ~images.iscrowd
    index, category = images.image_index[objects], images.category_index[objects]
    if not len(index):
        return 0
    key = index * (len(images.categories) + 1) + category
    groups, counts = np.unique(key, return_counts=True)
    if tiling is None:
        return int(counts.max())
    boxes = images.boxes_xywh[objects]
    centers, most = boxes[:, :2] + boxes[:, 2:] / 2, 0
    for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
        if count <= most:  # no tile of it has more
            continue
        own = centers[key == group]
        width, height = images.sizes_wh[group // (len(images.categories) + 1)].tolist()
        for window in tiling.windows((height, width)):
            left, top, right, bottom = window.box_xyxy
            inside = (own >= (left, top)) & (own < (right, bottom))
            most = max(most, int(inside.all(1).sum()))
    return most
