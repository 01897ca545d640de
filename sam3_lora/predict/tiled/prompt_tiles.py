"""Prompts an image tile by tile, and makes one object of the pieces that several tiles show of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sam3_lora.masks import decode_window, encode_crop_rle
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess
from sam3_lora.predict.tiled.stored_masks import StoredMasks, union_rle
from sam3_lora.tiles import Window

SAME_OBJECT = 0.5  # overlap of two tiles' masks, where both tiles see, above which they are of one object
_AS_SURE = 0.5  # share of the best score that a piece needs to add its mask
_SURE, _MAX_UNSURE = 0.5, 100  # of pieces with a lower score only so many are kept: what average precision counts
_BORDER = 0.01  # share of a tile's side that a mask which the border cuts off may stay away from it
_WITHOUT_DUPLICATES = PostprocessConfig(threshold=0.0)


def prompt_tiles(
    windows: Sequence[Window],
    phrases: Sequence[str],
    prompt: Callable[[Window], Iterable[Mapping[str, PhraseResult]]],
) -> dict[str, PhraseResult]:
    """The objects of a whole image, from those of its tiles.

    Pieces are of one object if their masks agree where both tiles see: by IoU, or, where a tile's border cuts one of
    them off, by the share of the smaller. Such pieces become their union, with the best of their scores. An object
    larger than a tile is so put together from its pieces. Within a tile duplicates are removed first.

    Args:
        windows: the tiles; all of one image.
        phrases: different ones.
        prompt: gives the objects in a tile, in pixels of it, for some of the phrases after the other.

    Returns:
        By phrase: the objects, best first, with stored masks. Objects without any pixel are left out, and of those that
        score less than 0.5 all but the best 100.
    """
    pieces = {phrase: _Pieces(phrase, windows) for phrase in phrases}
    for number, window in enumerate(windows):
        for results in prompt(window):
            for phrase, result in results.items():
                pieces[phrase].add(number, postprocess(result, _WITHOUT_DUPLICATES))
    return {phrase: each.merged() for phrase, each in pieces.items()}


@dataclass(frozen=True)
class _Piece:
    """What one tile shows of an object."""

    tile: int
    score: float
    presence: float
    box_xyxy: np.ndarray  # (4,) as predicted, in pixels of the image
    tight_xyxy: tuple[int, int, int, int]  # of the mask
    rle: dict[str, Any]
    is_cut: bool  # by a border of the tile inside the image


@dataclass
class _Pieces:
    """The pieces of a phrase's objects."""

    phrase: str
    windows: Sequence[Window]
    pieces: list[_Piece] = field(default_factory=list)
    last: PhraseResult | None = None
    presence: float = 0.0

    def add(self, tile: int, result: PhraseResult) -> None:
        """Adds the objects of a tile, in pixels of it."""
        window = self.windows[tile]
        self.last, self.presence = result, max(self.presence, result.presence)
        offset = np.array([window.left, window.top] * 2, dtype=np.float32)
        for score, box, crop in zip(result.scores, result.boxes_xyxy, result.mask_crops(), strict=True):
            rows, columns = np.flatnonzero(crop.mask.any(1)), np.flatnonzero(crop.mask.any(0))
            if not len(rows):
                continue
            mask = crop.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            top, left = window.top + crop.top + int(rows[0]), window.left + crop.left + int(columns[0])
            tight = left, top, left + mask.shape[1], top + mask.shape[0]
            rle = encode_crop_rle(mask, (top, left), window.image_hw)
            cut = _is_cut(tight, window)
            self.pieces.append(_Piece(tile, float(score), result.presence, box + offset, tight, rle, cut))
        unsure = sorted((one.score for one in self.pieces if one.score < _SURE), reverse=True)
        if len(unsure) > 2 * _MAX_UNSURE:
            self.pieces = [one for one in self.pieces if one.score >= min(_SURE, unsure[_MAX_UNSURE - 1])]

    def merged(self) -> PhraseResult:
        """The objects that the pieces are of."""
        self.pieces.sort(key=lambda one: -one.score)
        groups = _groups(self.pieces, self.windows)
        unsure = [group for group in groups if self.pieces[group[0]].score < _SURE][_MAX_UNSURE:]
        groups = groups[: len(groups) - len(unsure)]
        best = [self.pieces[group[0]] for group in groups]
        boxes = [self._box(group) for group in groups]
        masks = StoredMasks(
            tuple(union_rle([self.pieces[place].rle for place in group]) for group in groups),
            np.array([one.presence for one in best], dtype=np.float64),
        )
        assert self.last is not None, "an image has at least one tile"
        return replace(
            self.last,
            phrase=self.phrase,
            boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            scores=np.array([one.score for one in best], dtype=np.float32),
            mask_logits=np.zeros((len(groups), 0, 0), dtype=np.float32),
            size_hw=self.windows[0].image_hw,
            presence=self.presence,
            stored=masks,
        )

    def _box(self, group: Sequence[int]) -> np.ndarray:
        """As predicted, of a single piece; that of the mask, of several."""
        if len(group) == 1:
            return self.pieces[group[0]].box_xyxy
        tight = np.array([self.pieces[place].tight_xyxy for place in group])
        return np.concatenate((tight[:, :2].min(0), tight[:, 2:].max(0)))


def _is_cut(tight_xyxy: tuple[int, int, int, int], window: Window) -> bool:
    """Whether a mask reaches a border of its tile that is not one of the image."""
    left, top, right, bottom = window.box_xyxy
    height, width = window.image_hw
    near = 1 + _BORDER * max(window.size_hw)
    reaches = (
        (left > 0, tight_xyxy[0] - left),
        (top > 0, tight_xyxy[1] - top),
        (right < width, right - tight_xyxy[2]),
        (bottom < height, bottom - tight_xyxy[3]),
    )
    return any(is_inside and distance < near for is_inside, distance in reaches)


class _Matches:
    """Which pieces are of one object.

    Args:
        pieces: of all tiles.
        windows: the tiles.
    """

    def __init__(self, pieces: Sequence[_Piece], windows: Sequence[Window]) -> None:
        self._pieces, self._windows = pieces, windows
        self._tiles = np.array([one.tile for one in pieces], dtype=np.int64)
        self._boxes = np.array([one.tight_xyxy for one in pieces]).reshape(-1, 4)
        self._agreements: dict[tuple[int, int], float] = {}

    def of(self, place: int) -> list[int]:
        """The pieces of other tiles that are of the same object as one of them.

        In each other tile it is the one that agrees best, and each that agrees with none better: an object may fall
        into two pieces there.
        """
        near = self._near(place)
        found = []
        for tile in np.unique(self._tiles[near]).tolist():
            others = near[self._tiles[near] == tile].tolist()
            best = max(others, key=lambda other: self._agreement(place, other))
            found += [
                other
                for other in others
                if self._agreement(place, other) and (other == best or self._best(other, self._tiles[place]) == place)
            ]
        return found

    def _best(self, place: int, tile: int) -> int:
        near = self._near(place)
        others: list[int] = near[self._tiles[near] == tile].tolist()
        return max(others, key=lambda other: self._agreement(place, other))

    def _near(self, place: int) -> np.ndarray:
        """The pieces of other tiles whose boxes meet that of this one."""
        box = self._boxes[place]
        meet = ((self._boxes[:, :2] < box[2:]) & (self._boxes[:, 2:] > box[:2])).all(1)
        return np.flatnonzero(meet & (self._tiles != self._tiles[place]))

    def _agreement(self, one: int, other: int) -> float:
        key = min(one, other), max(one, other)
        if key not in self._agreements:
            self._agreements[key] = _agreement(self._pieces[one], self._pieces[other], self._windows)
        return self._agreements[key]


def _groups(pieces: Sequence[_Piece], windows: Sequence[Window]) -> list[list[int]]:
    """Which pieces are of one object, best first in each and among them.

    A piece that is much less sure than the best of its object is left out: its mask would do harm.

    Args:
        pieces: best first.
        windows: the tiles.
    """
    matches = _Matches(pieces, windows)
    taken: set[int] = set()
    groups = []
    for first, best in enumerate(pieces):
        if first in taken:
            continue
        taken.add(first)
        group, waiting = [first], [first]
        while waiting:
            new = [other for other in matches.of(waiting.pop()) if other not in taken]
            taken.update(new)
            sure = [other for other in new if pieces[other].score >= _AS_SURE * best.score]
            group += sure
            waiting += sure
        groups.append(sorted(group))
    return groups


def _agreement(one: _Piece, other: _Piece, windows: Sequence[Window]) -> float:
    """How well the masks of two tiles agree where both see, in [0, 1]; 0 if they are not of one object."""
    corners = np.array([one.tight_xyxy, other.tight_xyxy, windows[one.tile].box_xyxy, windows[other.tile].box_xyxy])
    # All of the zone that either mask is in.
    low = np.maximum(corners[2:, :2].max(0), corners[:2, :2].min(0))
    high = np.minimum(corners[2:, 2:].min(0), corners[:2, 2:].max(0))
    zone = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    size_hw = windows[one.tile].image_hw
    first, second = (decode_window(piece.rle, size_hw, zone)[0] for piece in (one, other))
    both = np.count_nonzero(first & second)
    if not both:
        return 0.0
    areas = np.count_nonzero(first), np.count_nonzero(second)
    iou, within = both / (sum(areas) - both), both / min(areas)
    if iou > SAME_OBJECT:
        return iou
    return SAME_OBJECT * within if (one.is_cut or other.is_cut) and within > SAME_OBJECT else 0.0
