"""Post-processing: score threshold, non-maximum suppression, merging and masks at full size, without the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, denormalize, pairwise_iou
from sam3_lora.masks import encode_crop_rle
from sam3_lora.predict.tiled.stored_masks import MaskCrop, StoredMasks
from sam3_lora.structures import Detections

T = TypeVar("T", np.ndarray, Tensor)
Answerer = Literal["base", "adapter"]  # the base model alone, or with an adapter at a strength above 0
BASE: Answerer = "base"
ADAPTER: Answerer = "adapter"


@dataclass(frozen=True)
class PhraseResult:
    """The K objects predicted for one phrase in one image, best first.

    Attributes:
        phrase: the prompt.
        boxes_xyxy: (K, 4) float32 in pixels of the image.
        scores: (K,) float32 in [0, 1].
        mask_logits: (K, h, w) float32 at the model's resolution; positive on the object.
        size_hw: the image's height and width in pixels.
        presence: probability in [0, 1] that the phrase is in the image at all; a factor of every score.
        answered_by: the model that predicted them.
        stored: their masks, where they were found in tiles; `mask_logits` is (K, 0, 0) then.
    """

    phrase: str
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    mask_logits: np.ndarray
    size_hw: tuple[int, int]
    presence: float = 1.0
    answered_by: Answerer = BASE
    stored: StoredMasks | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def masks(self) -> np.ndarray:
        """(K, H, W) bool at the image's own size, computed on first use, one object at a time."""
        masks = np.zeros((len(self), *self.size_hw), dtype=bool)
        for index, mask in enumerate(self.each_mask()):
            masks[index] = mask
        return masks

    def each_mask(self) -> Iterator[np.ndarray]:
        """The masks (H, W) bool one after the other: for large images, where all at once would fill the memory."""
        for crop in self.mask_crops():
            mask = np.zeros(self.size_hw, dtype=bool)
            height, width = crop.mask.shape
            mask[crop.top : crop.top + height, crop.left : crop.left + width] = crop.mask
            yield mask

    def mask_crops(self) -> Iterator[MaskCrop]:
        """The masks one after the other, each only as large as its object: fast however large the image is."""
        if self.stored is not None:
            yield from self.stored.crops(self.size_hw)
            return
        for logits in self.mask_logits:
            yield _upsampled(logits, self.size_hw)

    def each_rle(self) -> Iterator[dict[str, Any]]:
        """The masks one after the other as COCO's compressed run lengths, of the image's own size."""
        if self.stored is not None and self.stored.is_of(self.size_hw):
            yield from self.stored.rles
            return
        for crop in self.mask_crops():
            yield encode_crop_rle(crop.mask, (crop.top, crop.left), self.size_hw)

    def mask_keys(self) -> list[bytes]:
        """What tells each mask from others."""
        if self.stored is not None:
            return [repr(rle).encode() for rle in self.stored.rles]
        return [logits.tobytes() for logits in self.mask_logits]

    def overlaps(self) -> tuple[np.ndarray, np.ndarray]:
        """IoU and IoM (intersection over the smaller mask) of the masks, each (K, K) in [0, 1]."""
        return mask_overlaps(self.mask_logits) if self.stored is None else self.stored.overlaps()

    @cached_property
    def areas(self) -> np.ndarray:
        """(K,) int64: pixels of each mask at the image's own size."""
        if self.stored is not None and self.stored.is_of(self.size_hw):
            return self.stored.areas
        return np.array([np.count_nonzero(crop.mask) for crop in self.mask_crops()], dtype=np.int64)

    def resized(self, size_hw: tuple[int, int]) -> PhraseResult:
        """The same objects in pixels of an image of another size."""
        scale = np.array([size_hw[1] / self.size_hw[1], size_hw[0] / self.size_hw[0]] * 2, dtype=np.float32)
        return self if size_hw == self.size_hw else replace(self, boxes_xyxy=self.boxes_xyxy * scale, size_hw=size_hw)

    def above(self, threshold: float) -> PhraseResult:
        """The objects whose score is at least the threshold."""
        return self.take(self.scores >= threshold)

    def without_presence(self) -> PhraseResult:
        """The same objects with their scores given that the phrase is in the image."""
        scores = _without_presence(self.scores, self.presence)
        if self.stored is not None:
            scores = (self.scores / np.maximum(self.stored.presences, 1e-6)).clip(max=1)
        scores = scores.astype(np.float32)
        return self._with_areas(replace(self, scores=scores), slice(None))

    def take(self, which: np.ndarray) -> PhraseResult:
        """The chosen objects, by a bool mask (K,) or by indices."""
        taken = replace(
            self,
            boxes_xyxy=self.boxes_xyxy[which],
            scores=self.scores[which],
            mask_logits=self.mask_logits[which],
            stored=None if self.stored is None else self.stored.take(which),
        )
        return self._with_areas(taken, which)

    def _with_areas(self, other: PhraseResult, which: np.ndarray | slice) -> PhraseResult:
        """Passes on areas that are known already: in large images it takes a while to count them."""
        if "areas" in self.__dict__:
            other.__dict__["areas"] = self.areas[which]
        return other


# Masks with a larger IoU are duplicates: one object that several queries have found. A model that has just learned
# a phrase predicts many; two real objects never overlap so much.
DUPLICATE_IOU = 0.7


@dataclass(frozen=True)
class PostprocessConfig:
    """The steps of post-processing, in order; None skips a step. Thresholds and overlaps are in [0, 1]."""

    threshold: float = 0.5  # minimum score
    use_presence: bool = True  # whether scores include the probability that the phrase is in the image
    box_iou: float | None = None  # non-maximum suppression above this box IoU
    mask_iou: float | None = DUPLICATE_IOU  # non-maximum suppression above this mask IoU
    mask_iom: float | None = None  # the same by intersection over the smaller mask: removes parts of other objects
    merge: float | None = None  # masks that overlap by more (IoM) become one object, as the pieces of a crack
    largest: int | None = None  # keeps this many objects per phrase, those with the largest masks


def postprocess(result: PhraseResult, config: PostprocessConfig) -> PhraseResult:
    """Applies the steps of a :class:`PostprocessConfig`.

    Args:
        result: predictions for one phrase, best first.
        config: the steps.

    Returns:
        The remaining objects, best first.
    """
    result = (result if config.use_presence else result.without_presence()).above(config.threshold)
    if config.box_iou is not None:
        boxes_xyxy = torch.from_numpy(result.boxes_xyxy).float()
        result = result.take(_nms(pairwise_iou(boxes_xyxy, boxes_xyxy).numpy(), config.box_iou))
    if config.mask_iou is not None:
        result = result.take(_nms(result.overlaps()[0], config.mask_iou))
    if config.mask_iom is not None:
        result = result.take(_nms(result.overlaps()[1], config.mask_iom))
    if config.merge is not None:
        result = _merged(result, config.merge)
    if config.largest is not None:
        areas = (result.mask_logits > 0).sum((1, 2)) if result.stored is None else result.areas
        # Stable, so that among equals the better score stays; then best first again.
        result = result.take(np.sort(np.argsort(-areas, kind="stable")[: config.largest]))
    return result


def postprocess_all(
    results: Mapping[str, PhraseResult], config: PostprocessConfig, thresholds: Mapping[str, float] | None = None
) -> dict[str, PhraseResult]:
    """:func:`postprocess` for each phrase.

    Args:
        results: by phrase, as :meth:`sam3_lora.predict.predictor.Predictor.prompt` returns them.
        config: the steps.
        thresholds: minimum scores of phrases that do not take the one of `config`.
    """
    own = thresholds or {}
    return {
        phrase: postprocess(result, replace(config, threshold=own.get(phrase, config.threshold)))
        for phrase, result in results.items()
    }


def mask_overlaps(mask_logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and IoM (intersection over the smaller mask), each (K, K) in [0, 1], of mask logits (K, h, w)."""
    flat = (mask_logits > 0).reshape(len(mask_logits), math.prod(mask_logits.shape[1:])).astype(np.float32)
    intersection = flat @ flat.T
    areas = flat.sum(1)
    union = areas[:, None] + areas[None] - intersection
    smaller = np.minimum(areas[:, None], areas[None])
    return intersection / np.maximum(union, 1), intersection / np.maximum(smaller, 1)


def phrase_results(
    phrases: Sequence[str],
    detections: Detections,
    size_hw: tuple[int, int],
    threshold: float | Mapping[str, float],
    limit: int | None = None,
    use_presence: bool = True,
    answered_by: Answerer = BASE,
) -> dict[str, PhraseResult]:
    """The detector's objects for each phrase, sorted by score, in pixels of the image; in float32.

    Objects are chosen by their scores first: masks are made for them alone, and phrases without any need none.

    Args:
        phrases: P different ones.
        detections: of these phrases.
        size_hw: the image's height and width in pixels.
        threshold: minimum score, in [0, 1]; or that of each phrase.
        limit: maximum number of objects per phrase; None for all.
        use_presence: whether the scores that are compared with the threshold include the probability that the phrase
            is in the image; those of the result always do.
        answered_by: the model that the detections are of.
    """
    assert detections.presence is not None, "the one-to-many half is not a prediction"
    scores = detections.scores.float().cpu()
    presences = detections.presence[-1].float().sigmoid().tolist()
    chosen = []  # of each phrase: indices of queries
    for row, phrase in enumerate(phrases):
        minimum = threshold if isinstance(threshold, float | int) else threshold[phrase]
        compared = scores[row] if use_presence else _without_presence(scores[row], presences[row])
        order = scores[row].argsort(descending=True)[:limit]
        chosen.append(order[compared[order] >= minimum])
    boxes_xyxy = denormalize(cxcywh_to_xyxy(detections.boxes[-1].float().cpu()), size_hw)
    image_xyxy = boxes_xyxy.new_tensor((size_hw[1], size_hw[0]) * 2)
    boxes_xyxy = boxes_xyxy.clamp(min=0).minimum(image_xyxy)
    return {
        phrase: PhraseResult(
            phrase=phrase,
            boxes_xyxy=boxes_xyxy[row, queries].numpy(),
            scores=scores[row, queries].numpy(),
            mask_logits=mask_logits,
            size_hw=size_hw,
            presence=presences[row],
            answered_by=answered_by,
        )
        for row, (phrase, queries, mask_logits) in enumerate(
            zip(phrases, chosen, _mask_logits(detections, chosen), strict=True)
        )
    }


def _without_presence(scores: T, presence: float) -> T:
    """Scores given that the phrase is in the image; scores: (K,) in [0, 1]."""
    return (scores / max(presence, 1e-6)).clip(max=1)


def _mask_logits(detections: Detections, chosen: Sequence[Tensor]) -> list[np.ndarray]:
    """The mask logits (K, h, w), float32, of each phrase's chosen queries."""
    counts = [len(queries) for queries in chosen]
    # On the host: the mask head needs to know there which phrases it is asked for.
    rows, queries = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), torch.cat(list(chosen))
    if detections.masks is not None:
        masks = detections.masks[rows, queries]
    else:
        assert detections.mask_head is not None, "detections without masks have a mask head"
        masks = detections.mask_head(rows, queries)
    return [one.numpy() for one in torch.split(masks.float().cpu(), counts)]


def _nms(overlaps: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression: indices of the objects that overlap no better kept one by more."""
    kept: list[int] = []
    for index in range(len(overlaps)):
        if not kept or overlaps[index, kept].max() <= threshold:
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def _merged(result: PhraseResult, threshold: float) -> PhraseResult:
    """Objects connected by overlaps (IoM) above the threshold as one: their union, with the best of their scores."""
    if len(result) < 2:
        return result
    count, group = connected_components(result.overlaps()[1] > threshold, directed=False)
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
        stored=None if result.stored is None else result.stored.merged(members),
    )


def _upsampled(logits: np.ndarray, size_hw: tuple[int, int]) -> MaskCrop:
    """Where mask logits (h, w) are positive at an image's size: bilinear without aligned corners, as in the loss.

    Only the object's surroundings are computed: in large images a full picture per mask takes most of the time.
    """
    positive = logits > 0
    rows, columns = np.flatnonzero(positive.any(1)), np.flatnonzero(positive.any(0))
    if not len(rows):
        return MaskCrop(0, 0, np.zeros((0, 0), dtype=bool))
    top, above, below, down = _interpolation(rows, logits.shape[0], size_hw[0])
    left, before, behind, right = _interpolation(columns, logits.shape[1], size_hw[1])
    lines = logits[above] * (1 - down[:, None]) + logits[below] * down[:, None]
    return MaskCrop(top, left, lines[:, before] * (1 - right) + lines[:, behind] * right > 0)


def _interpolation(positive: np.ndarray, length: int, size: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Linear interpolation along one axis, for all pixels that touch the positive cells.

    Returns:
        The first of these pixels, and for each the two neighboring cells and the weight of the second.
    """
    scale = length / size
    first = max(0, math.floor((positive[0] - 0.5) / scale - 0.5))
    last = min(size - 1, math.ceil((positive[-1] + 1.5) / scale - 0.5))
    position = ((np.arange(first, last + 1) + 0.5) * scale - 0.5).clip(0)
    cell = np.floor(position).astype(np.int64)
    return first, cell, np.minimum(cell + 1, length - 1), (position - cell).astype(np.float32)
