"""Prompts every image of a split for its phrases and pairs the predictions with the ground truth."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from sam3_lora.data.dataset import Annotation, ImageRecord, Split
from sam3_lora.data.prompts import ImagePhrases, image_phrases, phrase_of
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.predict.phrase_subsets import join_phrases, take_phrases
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess
from sam3_lora.predict.predictor import Predictor
from sam3_lora.structures import Detections

SCORE_THRESHOLD = 0.5  # of all metrics but average precision, which takes every score; as on the inference page
MAX_DETECTIONS = 100  # per image and phrase, as in COCO


@dataclass(frozen=True)
class PromptResult:
    """One phrase on one image: its ground truth, G objects, and its predictions, K objects, best first.

    Boxes are xywh in pixels, masks compressed RLE, scores in [0, 1]. Where the ground truth is not exhaustive, a
    prediction without an object is no false positive, as in LVIS.
    """

    image_id: int | str
    phrase: str
    size_hw: tuple[int, int]
    gt_boxes: list[list[float]]
    gt_masks: list[dict[str, Any]]
    gt_crowd: list[bool]
    pred_boxes: list[list[float]]
    pred_masks: list[dict[str, Any]]
    pred_scores: list[float]
    exhaustive: bool = True

    @property
    def above_threshold(self) -> np.ndarray:
        """(K,) bool: predictions whose score is at least SCORE_THRESHOLD."""
        return np.asarray(self.pred_scores) >= SCORE_THRESHOLD

    @property
    def crowd(self) -> np.ndarray:
        """(G,) bool."""
        return np.asarray(self.gt_crowd, dtype=bool)

    @cached_property
    def ious(self) -> np.ndarray:
        """(K, G) mask IoU; with crowd regions, as in COCO, the share of the prediction that lies inside."""
        return mask_ious(self.pred_masks, self.gt_masks, self.gt_crowd)


@dataclass(frozen=True)
class ImagePredictions:
    """All predictions of one model on one image."""

    image: ImageRecord
    results: list[PromptResult]  # for the phrases of the split's objects
    extra: list[PromptResult]  # for extra phrases; only predictions above the score threshold
    known: ImagePhrases  # what the annotations say


def mask_ious(preds: list[dict[str, Any]], gt: list[dict[str, Any]], gt_crowd: list[bool] | None = None) -> np.ndarray:
    """(K, G) overlaps of K predicted with G ground-truth masks, all RLE; see :attr:`PromptResult.ious`."""
    from pycocotools import mask as rle_ops

    if not preds or not gt:
        return np.zeros((len(preds), len(gt)))
    return np.asarray(rle_ops.iou(preds, gt, [int(flag) for flag in gt_crowd or [False] * len(gt)]))


def phrases_of(split: Split, category_phrases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The phrases of the split's objects, and those that its file lists as absent in some image; sorted."""
    found = {
        phrase_of(a.category, category_phrases) for image in split.images for a in image.annotations if not a.iscrowd
    }
    return tuple(sorted(found | {phrase_of(name, category_phrases) for name in split.images.categories_absent()}))


@dataclass(frozen=True)
class Asked:
    """The phrases that an image is prompted with, and why."""

    measured: dict[str, list[Annotation]]  # phrases of the split and their objects: predictions of every score
    extra: tuple[str, ...]  # further ones: predictions above the score threshold
    for_loss: tuple[str, ...]  # those of the validation loss, which may be among the others: detections
    known: ImagePhrases  # what the annotations say
    min_score: float = 0.0  # of predictions for the measured phrases

    @property
    def thresholds(self) -> dict[str, float]:
        """The minimum score of each phrase."""
        own = dict.fromkeys(self.for_loss, math.inf) | dict.fromkeys(self.extra, SCORE_THRESHOLD)
        return own | dict.fromkeys(self.measured, self.min_score)

    def above_threshold(self) -> Asked:
        """The same for the metrics that take predictions above the score threshold only; without the loss."""
        return replace(self, for_loss=(), min_score=SCORE_THRESHOLD)


def asked_of(
    image: ImageRecord,
    phrases: Sequence[str],
    category_phrases: Mapping[str, str] | None = None,
    extra_phrases: Iterable[str] = (),
    for_loss: Iterable[str] = (),
    categories: Iterable[str] = (),
) -> Asked:
    """What an image is prompted with.

    Args:
        image: with its annotations.
        phrases: of the split; those of which nothing is known in the image are left out.
        category_phrases: the user's own phrase of each category.
        extra_phrases: see :class:`Asked`.
        for_loss: see :class:`Asked`.
        categories: of the split.
    """
    known = image_phrases(image, categories, category_phrases)
    gt: dict[str, list[Annotation]] = {phrase: [] for phrase in phrases}
    for annotation in image.annotations:
        gt.setdefault(phrase_of(annotation.category, category_phrases), []).append(annotation)
    # Where it is not known whether or where an object is, a prediction is neither true nor false.
    unknown = (known.related | known.incomplete) - {phrase for phrase, objects in gt.items() if objects}
    unknown |= {phrase_of(category, category_phrases) for category in image.unusable_categories}
    if known.absent is not None:
        unknown |= {phrase for phrase in gt if not gt[phrase] and phrase not in known.absent}
    measured = {phrase: gt[phrase] for phrase in phrases if phrase not in unknown}
    return Asked(measured, tuple(extra_phrases), tuple(for_loss), known)


def predict_image(
    predictor: Predictor, image: ImageRecord, asked: Asked, pixels: np.ndarray, backbone: Tensor | None = None
) -> tuple[ImagePredictions, Detections | None]:
    """Prompts one image, with the same detection and post-processing as inference, each phrase once.

    Args:
        predictor: the model, with its adapter at the strength set now.
        image: with its annotations.
        asked: of :func:`asked_of`.
        pixels: of its file, which may have another size than the annotations refer to; (H, W, 3) uint8 RGB.
        backbone: see :meth:`sam3_lora.predict.predictor.Predictor.set_image`.

    Returns:
        The predictions; the detections for the loss's phrases in their order, None without any, and of an image that
        is cut into tiles.
    """
    predictor.set_image(pixels, (image.height, image.width), backbone)
    thresholds = asked.thresholds
    if predictor.cuts:
        thresholds = {phrase: least for phrase, least in thresholds.items() if phrase and math.isfinite(least)}
        return predictions_of(image, asked, predictor.prompt(tuple(thresholds), thresholds) if thresholds else {}), None
    results: dict[str, PromptResult] = {}
    extra: dict[str, PromptResult] = {}
    parts: list[Detections] = []
    rows: dict[str, int] = {}  # of the loss's phrases in these parts
    for chunk in predictor.prompt_in_chunks(tuple(thresholds), thresholds) if thresholds else ():
        some = predictions_of(image, asked, chunk.results)
        results |= {one.phrase: one for one in some.results}
        extra |= {one.phrase: one for one in some.extra}
        own = {phrase: row for row, phrase in enumerate(chunk.results) if phrase in asked.for_loss}
        rows |= {phrase: len(rows) + number for number, phrase in enumerate(own)}
        if own:
            parts.append(take_phrases(chunk.detections, tuple(own.values())))
    predictions = ImagePredictions(
        image,
        [results[phrase] for phrase in asked.measured if phrase in results],
        [extra[phrase] for phrase in asked.extra if phrase in extra],
        asked.known,
    )
    detections = take_phrases(join_phrases(parts), [rows[phrase] for phrase in asked.for_loss]) if parts else None
    return predictions, detections


def predictions_of(image: ImageRecord, asked: Asked, found: Mapping[str, PhraseResult]) -> ImagePredictions:
    """The predictions of one image, without duplicates, beside the ground truth.

    Args:
        image: with its annotations.
        asked: of :func:`asked_of`.
        found: by phrase, as the model predicts it; phrases that are missing are left out. Of those measured, some or
            all scores below SCORE_THRESHOLD may be left out.
    """
    extra = [phrase for phrase in asked.extra if phrase in found]
    return ImagePredictions(
        image,
        [measured_result(image, asked, found[phrase]) for phrase in asked.measured if phrase in found],
        [_result(image, [], postprocess(found[phrase], PostprocessConfig(SCORE_THRESHOLD))) for phrase in extra],
        asked.known,
    )


def routed(base: ImagePredictions, adapter: ImagePredictions, taught: Collection[str]) -> ImagePredictions:
    """The predictions of one image routed by phrase: the adapter's for the phrases it was taught, else the base's.

    Args:
        base: by the base model.
        adapter: by the adapter, for the same phrases.
        taught: the phrases that the adapter answers.
    """

    def choose(of_base: list[PromptResult], of_adapter: list[PromptResult]) -> list[PromptResult]:
        pairs = zip(of_base, of_adapter, strict=True)
        return [after if before.phrase in taught else before for before, after in pairs]

    return replace(base, results=choose(base.results, adapter.results), extra=choose(base.extra, adapter.extra))


def measured_result(image: ImageRecord, asked: Asked, found: PhraseResult) -> PromptResult:
    """A phrase's predictions, without duplicates, beside its ground truth.

    Args:
        image: with its annotations.
        asked: of :func:`asked_of`; the phrase is one of those measured.
        found: as the model predicts it; of scores below SCORE_THRESHOLD some or all may be left out.
    """
    kept = _limited(postprocess(found, PostprocessConfig(threshold=0.0)))
    complete = found.phrase not in asked.known.incomplete
    return replace(_result(image, asked.measured[found.phrase], kept), exhaustive=complete)


def kinds_asked(split: Split, category_phrases: Mapping[str, str] | None = None) -> frozenset[bool]:
    """Whether the split's phrases are asked of images with objects of theirs (True), without any (False), or both."""
    phrases, kinds = phrases_of(split, category_phrases), set[bool]()
    for image in split.images:
        measured = asked_of(image, phrases, category_phrases, categories=split.prompt_categories).measured
        kinds.update(any(not one.iscrowd for one in objects) for phrase, objects in measured.items() if phrase)
        if len(kinds) == 2:
            break
    return frozenset(kinds)


def _limited(result: PhraseResult) -> PhraseResult:
    """The predictions that count in any metric: COCO's hundred best, and all above the score threshold."""
    count = max(MAX_DETECTIONS, int((result.scores >= SCORE_THRESHOLD).sum()))
    return result.take(np.arange(min(count, len(result))))


def _result(image: ImageRecord, gt: list[Annotation], predicted: PhraseResult) -> PromptResult:
    size_hw = (image.height, image.width)
    boxes_xywh = predicted.boxes_xyxy.copy()
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return PromptResult(
        image_id=image.id,
        phrase=predicted.phrase,
        size_hw=size_hw,
        gt_boxes=[list(one.bbox_xywh) for one in gt],
        gt_masks=[_gt_mask(one, size_hw) for one in gt],
        gt_crowd=[one.iscrowd for one in gt],
        pred_boxes=boxes_xywh.tolist(),
        pred_masks=list(predicted.each_rle()),
        pred_scores=predicted.scores.tolist(),
    )


def _gt_mask(annotation: Annotation, size_hw: tuple[int, int]) -> dict[str, Any]:
    """An object's mask as RLE; an object that has only a box is its box, as in COCO's own tools."""
    if annotation.segmentation is not None:
        return encode_rle(decode_segmentation(annotation.segmentation, size_hw))
    x, y, w, h = annotation.bbox_xywh
    mask = np.zeros(size_hw, dtype=bool)
    mask[round(y) : round(y + h), round(x) : round(x + w)] = True
    return encode_rle(mask)
