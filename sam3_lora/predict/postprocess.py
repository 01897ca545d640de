"""What a phrase found in an image, and how it is thinned out without asking the model again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from sam3_lora import boxes as box_ops
from sam3_lora.structures import Detections


@dataclass(frozen=True)
class Piece:
    """The part of an image that holds a mask. mask (h, w) bool, its first pixel at row `top`, column `left`."""

    top: int
    left: int
    mask: np.ndarray


@dataclass(frozen=True)
class PhraseResult:
    """What one phrase found, best first. K objects.

    boxes_xyxy (K, 4) float32 in pixels of the image; scores (K,) float32 in [0, 1]; mask_logits
    (K, h, w) float32 at the model's resolution; size_hw the image's height and width; presence: the
    probability that the phrase is in the image at all, which is a factor of every score.
    """

    phrase: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    mask_logits: np.ndarray
    size_hw: tuple[int, int]
    presence: float = 1.0

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def masks(self) -> np.ndarray:
        """(K, H, W) bool at the image's own size, made when first asked for, one object at a time."""
        masks = np.zeros((len(self), *self.size_hw), dtype=bool)
        for index, mask in enumerate(self.each_mask()):
            masks[index] = mask
        return masks

    def each_mask(self) -> Iterator[np.ndarray]:
        """The masks bool (H, W) one after the other: for large images, where all at once would fill the memory."""
        for piece in self.pieces():
            mask = np.zeros(self.size_hw, dtype=bool)
            height, width = piece.mask.shape
            mask[piece.top : piece.top + height, piece.left : piece.left + width] = piece.mask
            yield mask

    def pieces(self) -> Iterator[Piece]:
        """The masks one after the other, each only as large as its object: quick however large the image is."""
        for logits in self.mask_logits:
            yield upsampled(logits, self.size_hw)

    @cached_property
    def areas(self) -> np.ndarray:
        """(K,) int64: pixels of each mask at the image's own size."""
        return np.array([np.count_nonzero(piece.mask) for piece in self.pieces()], dtype=np.int64)

    def above(self, threshold: float) -> PhraseResult:
        """The objects whose score is at least the threshold; nothing is computed again."""
        return self.take(self.scores >= threshold)

    def without_presence(self) -> PhraseResult:
        """The same objects with the scores they have if the phrase is taken to be in the image."""
        scores = np.minimum(self.scores / max(self.presence, 1e-6), 1).astype(np.float32)
        return self._with_areas(replace(self, scores=scores), slice(None))

    def take(self, which: np.ndarray) -> PhraseResult:
        """The chosen objects, by a bool mask (K,) or by indices."""
        taken = replace(
            self, boxes_xyxy=self.boxes_xyxy[which], scores=self.scores[which], mask_logits=self.mask_logits[which]
        )
        return self._with_areas(taken, which)

    def _with_areas(self, other: PhraseResult, which: np.ndarray | slice) -> PhraseResult:
        """Hands areas on that are known already: in large images it takes a while to count them."""
        if "areas" in self.__dict__:
            other.__dict__["areas"] = self.areas[which]
        return other


# Of masks that overlap by more (IoU), all but the best are copies: one object that several queries have found. A
# model that has just learned a word does that often; two real objects never overlap so much.
DUPLICATE_IOU = 0.7


@dataclass(frozen=True)
class PostprocessConfig:
    """How answers are thinned out. Each overlap is in [0, 1], None leaves its step out.

    threshold: least score. use_presence: whether scores have the factor "is it in the image at all".
    box_iou, mask_iou: of two objects whose boxes (masks) overlap by more than this IoU, the better stays.
    mask_iom: the same by intersection over the smaller mask, which also takes parts out of wholes.
    merge: masks that overlap by more than this, over the smaller, become one object, as pieces of a crack.
    largest: keep this many objects per phrase, those with the largest masks.
    """

    threshold: float = 0.5
    use_presence: bool = True
    box_iou: float | None = None
    mask_iou: float | None = DUPLICATE_IOU
    mask_iom: float | None = None
    merge: float | None = None
    largest: int | None = None


def postprocess(result: PhraseResult, how: PostprocessConfig) -> PhraseResult:
    """The objects that are left, best first, in the order of :class:`PostprocessConfig`'s fields."""
    result = (result if how.use_presence else result.without_presence()).above(how.threshold)
    if how.box_iou is not None:
        result = result.take(_suppressed(_box_iou(result.boxes_xyxy), how.box_iou))
    if how.mask_iou is not None:
        result = result.take(_suppressed(mask_overlaps(result.mask_logits)[0], how.mask_iou))
    if how.mask_iom is not None:
        result = result.take(_suppressed(mask_overlaps(result.mask_logits)[1], how.mask_iom))
    if how.merge is not None:
        result = _merged(result, how.merge)
    if how.largest is not None:
        areas = (result.mask_logits > 0).sum((1, 2))
        # Stable, so that among equals the better score stays; then best first again.
        result = result.take(np.sort(np.argsort(-areas, kind="stable")[: how.largest]))
    return result


def postprocess_all(
    results: Mapping[str, PhraseResult], how: PostprocessConfig, thresholds: Mapping[str, float] | None = None
) -> dict[str, PhraseResult]:
    """:func:`postprocess` for each phrase; `thresholds` has the phrases whose least score is their own."""
    own = thresholds or {}
    return {
        phrase: postprocess(result, replace(how, threshold=own.get(phrase, how.threshold)))
        for phrase, result in results.items()
    }


def mask_overlaps(mask_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and intersection over the smaller mask, each (K, K) in [0, 1], of masks (K, h, w) given as logits."""
    flat = (mask_logits > 0).reshape(len(mask_logits), math.prod(mask_logits.shape[1:])).astype(np.float32)
    shared = flat @ flat.T
    areas = flat.sum(1)
    union = areas[:, None] + areas[None] - shared
    smaller = np.minimum(areas[:, None], areas[None])
    return shared / np.maximum(union, 1), shared / np.maximum(smaller, 1)


def result_of(
    phrase: str,
    detections: Detections,
    row: int,
    size_hw: tuple[int, int],
    threshold: float,
    limit: int | None = None,
) -> PhraseResult:
    """What the detector answered to one phrase: its objects from the threshold on, at most `limit`.

    Args:
        row: of the phrase among the P phrases of the detections.
        size_hw: of the image in its own pixels.
    """
    scores = detections.scores[row].float()
    order = scores.argsort(descending=True)[:limit]
    order = order[scores[order] >= threshold]
    boxes_xyxy = box_ops.denormalize(box_ops.cxcywh_to_xyxy(detections.boxes[-1, row, order].float()), size_hw)
    limits = boxes_xyxy.new_tensor((size_hw[1], size_hw[0]) * 2)
    return PhraseResult(
        phrase=phrase,
        boxes_xyxy=boxes_xyxy.clamp(min=0).minimum(limits).cpu().numpy(),
        scores=scores[order].cpu().numpy(),
        mask_logits=detections.masks[row, order].float().cpu().numpy(),
        size_hw=size_hw,
        presence=float(detections.presence[-1, row].sigmoid()),
    )


def _box_iou(boxes_xyxy: np.ndarray) -> np.ndarray:
    boxes = torch.from_numpy(boxes_xyxy).float()
    return box_ops.pairwise_iou(boxes, boxes)[0].numpy()


def _suppressed(overlaps: np.ndarray, most: float) -> np.ndarray:
    """Indices that stay when, best first, each one that overlaps a better one by more than `most` goes."""
    kept: list[int] = []
    for index in range(len(overlaps)):
        if not kept or overlaps[index, kept].max() <= most:
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def _merged(result: PhraseResult, least: float) -> PhraseResult:
    """Objects that hang together by overlaps above `least` as one: the union, with the best score among them."""
    if len(result) < 2:
        return result
    count, group = connected_components(mask_overlaps(result.mask_logits)[1] > least, directed=False)
    if count == len(result):
        return result
    members = [np.flatnonzero(group == number) for number in range(count)]
    members.sort(key=lambda one: one[0])  # best first
    boxes = [np.concatenate((result.boxes_xyxy[one, :2].min(0), result.boxes_xyxy[one, 2:].max(0))) for one in members]
    return replace(
        result,
        boxes_xyxy=np.stack(boxes),
        scores=np.array([result.scores[one].max() for one in members], dtype=np.float32),
        mask_logits=np.stack([result.mask_logits[one].max(0) for one in members]),
    )


def upsampled(logits: np.ndarray, size_hw: tuple[int, int]) -> Piece:
    """Where mask logits (h, w) are positive at an image's size: bilinear without aligned corners, as in the loss.

    Only the object's surroundings are computed: a full picture for each mask is what takes long in large images.
    """
    positive = logits > 0
    rows, columns = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
    if not len(rows):
        return Piece(0, 0, np.zeros((0, 0), dtype=bool))
    top, above, below, down = _samples(rows, logits.shape[0], size_hw[0])
    left, before, behind, right = _samples(columns, logits.shape[1], size_hw[1])
    lines = logits[above] * (1 - down[:, None]) + logits[below] * down[:, None]
    return Piece(top, left, lines[:, before] * (1 - right) + lines[:, behind] * right > 0)


def _samples(positive: np.ndarray, length: int, size: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis, for all pixels that touch the positive cells: the first one, and for each the two cells
    it lies between and the share of the second."""
    scale = length / size
    first = max(0, math.floor((positive[0] - 0.5) / scale - 0.5))
    last = min(size - 1, math.ceil((positive[-1] + 1.5) / scale - 0.5))
    at = ((np.arange(first, last + 1) + 0.5) * scale - 0.5).clip(0)
    cell = np.floor(at).astype(np.int64)
    return first, cell, np.minimum(cell + 1, length - 1), (at - cell).astype(np.float32)
