"""Cuts images into tiles: each is an image of its own, with what of the objects is in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from sam3_lora.data.records import Annotation, ImageRecord, ImageTable
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_window, encode_rle, mask_to_box_xyxy
from sam3_lora.text import plural
from sam3_lora.tiles import Tiling, Window, enough, visible_boxes

EMPTY_SHARE = 0.25  # of all tiles, at most, have no object; but one of each image without objects is kept
_TOLERANCE = 1e-6  # share of a box that rounding may hide
_CUT_OFF = 0.5  # pixels of a box without a mask that may lie outside a tile, as of augmentation's crops

_log = logging.getLogger(__name__)


def tiled(images: ImageTable, tiling: Tiling | None, seed: int = 0) -> ImageTable | TiledImages:
    """The images, or their tiles where they are cut; arguments as of :class:`TiledImages`."""
    return images if tiling is None else TiledImages(images, tiling, seed)


class TiledImages(Sequence[ImageRecord]):
    """The tiles of a split's images, as images: all with objects, and some of the others.

    Tiles without objects are drawn at random, always the same ones: in all at most EMPTY_SHARE of the tiles, but one of
    each image without objects.

    Args:
        images: with their objects.
        tiling: how they are cut.
        seed: of the drawing.

    Attributes:
        image_index: the image of each tile, its place in `images`, int64 (N,).
        num_phrases, num_objects: of each tile, as the objects' boxes tell, int64 (N,).
        left_out: how many tiles without objects are left out.
        never_seen: objects that no tile shows enough of, as their boxes tell; those without a mask have to be whole.
    """

    def __init__(self, images: ImageTable, tiling: Tiling, seed: int = 0) -> None:
        self._images, self._tiling = images, tiling
        self.never_seen = 0
        parts: list[np.ndarray] = [np.zeros((0, 4), dtype=np.int64)]
        starts = np.concatenate(([0], np.cumsum(images.counts)))
        columns = images.boxes_xywh, images.has_segmentation, images.category_index
        is_object = ~images.iscrowd
        for place, (width, height) in enumerate(images.sizes_wh.tolist()):
            windows = tiling.windows((height, width))
            own = np.flatnonzero(is_object[starts[place] : starts[place + 1]]) + starts[place]
            boxes, has_mask, categories = (column[own] for column in columns)
            visible, wanted = visible_boxes(boxes, windows)
            whole = visible >= boxes[:, 2:].prod(1) * (1 - _TOLERANCE)
            shown = (visible > 0) & np.where(has_mask, visible >= wanted, whole)
            self.never_seen += int((~shown.any(0)).sum())
            phrases = [shown[:, categories == one].any(1) for one in np.unique(categories)]
            count = np.sum(phrases, axis=0, dtype=np.int64) if phrases else np.zeros(len(windows), dtype=np.int64)
            numbers = np.arange(len(windows))
            parts.append(np.stack((np.full(len(windows), place), numbers, count, shown.sum(1)), axis=1))
        tiles = np.concatenate(parts)
        kept = _kept(tiles[:, 0], tiles[:, 3] > 0, seed)
        self.image_index, self._windows, self.num_phrases, self.num_objects = tiles[kept].T
        self.left_out = len(tiles) - len(kept)

    def __len__(self) -> int:
        return len(self.image_index)

    @overload
    def __getitem__(self, place: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[ImageRecord]: ...
    def __getitem__(self, place: int | slice) -> ImageRecord | list[ImageRecord]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        record = self._images[int(self.image_index[place])]
        return cut(record, self._tiling.windows((record.height, record.width))[self._windows[place]])

    @property
    def sentence(self) -> str:
        """How many tiles there are, as it is told."""
        images = plural(len(self._images), "image")
        of = f"{len(self):,} tiles of {self._tiling.size} pixels are learned from, of {images}"
        if not self.left_out:
            return f"{of}."
        return f"{of}; {self.left_out:,} without objects are left out, so that such tiles are a quarter of all."

    def places_of(self, image: int) -> list[int]:
        """The places of an image's tiles."""
        places: list[int] = np.flatnonzero(self.image_index == image).tolist()
        return places


def _kept(image_index: np.ndarray, has_objects: np.ndarray, seed: int) -> np.ndarray:
    """The tiles that are kept, ascending.

    Args:
        image_index: the image of each tile, int64 (N,).
        has_objects: of each tile, bool (N,).
        seed: of the drawing of those without.
    """
    full, empty = np.flatnonzero(has_objects), np.flatnonzero(~has_objects)
    empty = np.random.default_rng((seed, 4)).permutation(empty)
    # One of each image without objects comes first: it says what the dataset says, that nothing is there.
    is_bare = ~np.isin(image_index[empty], image_index[full])
    bare = empty[is_bare]
    firsts = bare[np.unique(image_index[bare], return_index=True)[1]]
    others = empty[~np.isin(empty, firsts)]
    room = int(len(full) * EMPTY_SHARE / (1 - EMPTY_SHARE)) - len(firsts)
    return np.sort(np.concatenate([full, firsts, others[: max(0, room)]]))


def cut(record: ImageRecord, window: Window) -> ImageRecord:
    """A tile of an image, as an image of its own.

    An object of which enough is in it (see :func:`~sam3_lora.tiles.enough`) is an object of the tile, its
    box that of what is seen. Of one that is in it with less, or without a mask and not whole, so that nobody knows the
    box of the rest, the tile says nothing: its category is neither complete nor absent.

    Args:
        record: of the whole image.
        window: the tile.
    """
    if window.is_whole:
        return record
    kept: list[Annotation] = []
    unusable, absent = set(record.unusable_categories), record.absent_categories
    for annotation in record.annotations:
        visible, part = _part(annotation, record, window)
        if part is not None:
            kept.append(part)
        elif visible:
            unusable.add(annotation.category)
    if absent is not None:  # all objects of these are known, so that a tile without any lacks them
        complete = {one.category for one in record.annotations if not one.iscrowd} - record.incomplete_categories
        absent |= complete - unusable - {one.category for one in record.annotations if one.iscrowd}
        absent -= {one.category for one in kept}
    return replace(
        record,
        width=window.width,
        height=window.height,
        annotations=tuple(kept),
        unusable_categories=frozenset(unusable),
        absent_categories=absent,
        window=window,
    )


def _part(annotation: Annotation, record: ImageRecord, window: Window) -> tuple[bool, Annotation | None]:
    """Whether anything of an object is in a window, and what of it is an object there."""
    x, y, width, height = annotation.bbox_xywh
    left, top, right, bottom = window.box_xyxy
    low, high = (max(x, left), max(y, top)), (min(x + width, right), min(y + height, bottom))
    if high[0] <= low[0] or high[1] <= low[1]:
        return False, None
    if annotation.has_segmentation:
        try:
            return _part_of_mask(annotation, record, window)
        except DataError as error:
            name, key = record.file_name, annotation.id
            _log.warning("%s, annotation %s is used without its mask: %s", name, key, error)
    beyond = max(low[0] - x, low[1] - y, x + width - high[0], y + height - high[1])
    if min(high[0] - low[0], high[1] - low[1]) < _CUT_OFF:
        return False, None
    if beyond > _CUT_OFF and not annotation.iscrowd:
        return True, None
    box = low[0] - left, low[1] - top, high[0] - low[0], high[1] - low[1]
    return True, replace(annotation, bbox_xywh=box, stored_segmentation=None)


def _part_of_mask(annotation: Annotation, record: ImageRecord, window: Window) -> tuple[bool, Annotation | None]:
    """As :func:`_part`, of an object with a mask. Raises DataError if it cannot be decoded."""
    mask, area = decode_window(annotation.segmentation, (record.height, record.width), window.box_xyxy)
    tight = mask_to_box_xyxy(mask)
    if tight is None:
        return False, None
    visible, (x, y, width, height) = int(mask.sum()), annotation.bbox_xywh
    wanted = enough(np.array(area), np.array([width, height]), np.array([window.width, window.height]))
    if visible < wanted and not annotation.iscrowd:
        return True, None
    box = float(tight[0]), float(tight[1]), float(tight[2] - tight[0]), float(tight[3] - tight[1])
    if visible == area:  # its box stays what it is, unless it reaches beyond the tile
        start = max(x - window.left, 0), max(y - window.top, 0)
        end = min(x + width - window.left, window.width), min(y + height - window.top, window.height)
        box = *start, end[0] - start[0], end[1] - start[1]
    return True, replace(annotation, bbox_xywh=box, stored_segmentation=encode_rle(mask))
