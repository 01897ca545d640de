"""Prompts every image of a split for its phrases and pairs the predictions with the ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from sam3_lora.data.dataset import Annotation, ImageRecord, Split, load_image
from sam3_lora.data.prompts import ImagePhrases, image_phrases, phrase_of
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor

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


def pixels_of(image: ImageRecord) -> np.ndarray:
    """The image at the size that its annotations refer to, which may not be its file's: (H, W, 3) uint8 RGB."""
    return cv2.resize(load_image(image), (image.width, image.height), interpolation=cv2.INTER_AREA)


def predict_image(
    predictor: Predictor,
    image: ImageRecord,
    phrases: Sequence[str],
    category_phrases: Mapping[str, str] | None = None,
    extra_phrases: Iterable[str] = (),
    pixels: np.ndarray | None = None,
    categories: Iterable[str] = (),
) -> ImagePredictions:
    """Prompts one image for each phrase, with the same detection and post-processing as inference.

    Args:
        predictor: the model, with its adapter at the strength set now.
        image: with its annotations.
        phrases: of the split; those of which nothing is known in the image are left out. Predictions of every score
            are kept, for average precision.
        category_phrases: the user's own phrase of each category.
        extra_phrases: further phrases; only predictions above the score threshold are kept.
        pixels: what :func:`pixels_of` gives, if it has been read already.
        categories: of the split.
    """
    predictor.set_image(pixels_of(image) if pixels is None else pixels)
    known = image_phrases(image, categories, category_phrases)
    gt: dict[str, list[Annotation]] = {phrase: [] for phrase in phrases}
    for annotation in image.annotations:
        gt.setdefault(phrase_of(annotation.category, category_phrases), []).append(annotation)
    # Where it is not known whether or where an object is, a prediction is neither true nor false.
    unknown = (known.related | known.incomplete) - {phrase for phrase, objects in gt.items() if objects}
    unknown |= {phrase_of(category, category_phrases) for category in image.unusable_categories}
    if known.absent is not None:
        unknown |= {phrase for phrase in gt if not gt[phrase] and phrase not in known.absent}
    asked = tuple(phrase for phrase in phrases if phrase not in unknown)
    found = postprocess_all(predictor.prompt(asked, threshold=0.0), PostprocessConfig(threshold=0.0)) if asked else {}
    results = [
        replace(_result(image, gt[phrase], _limited(one)), exhaustive=phrase not in known.incomplete)
        for phrase, one in found.items()
    ]
    extra = tuple(extra_phrases)
    found_extra = predictor.prompt(extra, threshold=SCORE_THRESHOLD) if extra else {}
    found_extra = postprocess_all(found_extra, PostprocessConfig(SCORE_THRESHOLD))
    return ImagePredictions(image, results, [_result(image, [], one) for one in found_extra.values()], known)


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
        pred_masks=[encode_rle(mask) for mask in predicted.each_mask()],
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
