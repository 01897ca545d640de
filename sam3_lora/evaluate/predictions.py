"""The questions that a split is asked, each (image, phrase) with its true objects and the model's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from sam3_lora.data.dataset import Annotation, ImageRecord, Split, load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor

SCORE_THRESHOLD = 0.5  # from which on an answer is given, as on the inference page; mAP takes every score
MAX_DETECTIONS = 100  # per image and phrase, as COCO counts them


@dataclass(frozen=True)
class PromptResult:
    """One question asked, (image, phrase), with its true objects and the answers, best first.

    truth_* hold G objects, answer_* K objects: boxes xywh in pixels, masks as compressed RLE.
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

    @property
    def given(self) -> np.ndarray:
        """(K,) bool: the answers that are given at the score threshold."""
        return np.asarray(self.pred_scores) >= SCORE_THRESHOLD

    @property
    def crowd(self) -> np.ndarray:
        """(G,) bool."""
        return np.asarray(self.gt_crowd, dtype=bool)

    @cached_property
    def ious(self) -> np.ndarray:
        """(K, G) overlap of masks: IoU with objects; with crowd regions, as COCO does, the share of the answer."""
        return mask_ious(self.pred_masks, self.gt_masks, self.gt_crowd)


@dataclass(frozen=True)
class ImagePredictions:
    """All that one image was asked, and what one model answered.

    pairs: for the phrases of the split's objects; others: for further words, only what is given at the score
    threshold; present: the phrases of all that is annotated in the image, crowds and unusable objects included.
    """

    image: ImageRecord
    pairs: list[PromptResult]
    others: list[PromptResult]
    present: frozenset[str]


def mask_ious(
    answers: list[dict[str, Any]], truths: list[dict[str, Any]], crowd: list[bool] | None = None
) -> np.ndarray:
    """(K, G) overlaps of masks given as RLE, see :attr:`PromptResult.ious`."""
    from pycocotools import mask as rle_ops

    if not answers or not truths:
        return np.zeros((len(answers), len(truths)))
    flags = [int(flag) for flag in crowd] if crowd is not None else [0] * len(truths)
    return np.asarray(rle_ops.iou(answers, truths, flags))


def phrases_of(split: Split, phrases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The phrases that at least one object of the split answers."""
    found = {phrase_of(a.category, phrases) for image in split.images for a in image.annotations if not a.iscrowd}
    return tuple(sorted(found))


def pixels_of(image: ImageRecord) -> np.ndarray:
    """The picture at the size that its annotations refer to, which may not be its file's. (H, W, 3) uint8."""
    return cv2.resize(load_image(image), (image.width, image.height), interpolation=cv2.INTER_AREA)


def ask(
    predictor: Predictor,
    image: ImageRecord,
    asked: Iterable[str],
    phrases: Mapping[str, str] | None = None,
    others: Iterable[str] = (),
    pixels: np.ndarray | None = None,
) -> ImagePredictions:
    """Asks one image for each phrase, through the very `detect` and post-processing that inference uses.

    Args:
        asked: the split's phrases; their answers of every score are kept, for mAP.
        phrases: the user's own words by category.
        others: further words; only what they find at the score threshold is kept.
        pixels: the picture, if it has been read before.
    """
    predictor.set_image(pixels_of(image) if pixels is None else pixels)
    results = postprocess_all(predictor.prompt(tuple(asked), threshold=0.0), PostprocessConfig(threshold=0.0))
    truths: dict[str, list[Annotation]] = {phrase: [] for phrase in results}
    for annotation in image.annotations:
        truths.setdefault(phrase_of(annotation.category, phrases), []).append(annotation)
    unusable = {phrase_of(category, phrases) for category in image.unusable_categories}
    # Where an object is known to be but cannot be read, neither an answer nor none can be called wrong.
    pairs = [_pair(image, truths[phrase], _counted(results[phrase])) for phrase in results if phrase not in unusable]
    words = tuple(others)
    found = predictor.prompt(words, threshold=SCORE_THRESHOLD) if words else {}
    found = postprocess_all(found, PostprocessConfig(SCORE_THRESHOLD))
    present = frozenset(phrase for phrase, objects in truths.items() if objects) | unusable
    return ImagePredictions(image, pairs, [_pair(image, [], result) for result in found.values()], present)


def _counted(result: PhraseResult) -> PhraseResult:
    """The answers that any measure looks at: COCO's hundred best, and all that are given."""
    count = max(MAX_DETECTIONS, int((result.scores >= SCORE_THRESHOLD).sum()))
    return result.take(np.arange(min(count, len(result))))


def _pair(image: ImageRecord, truths: list[Annotation], result: PhraseResult) -> PromptResult:
    size_hw = (image.height, image.width)
    x0, y0, x1, y1 = result.boxes_xyxy.T if len(result) else np.zeros((4, 0))
    return PromptResult(
        image_id=image.id,
        phrase=result.phrase,
        size_hw=size_hw,
        gt_boxes=[list(truth.bbox_xywh) for truth in truths],
        gt_masks=[_truth_mask(truth, size_hw) for truth in truths],
        gt_crowd=[truth.iscrowd for truth in truths],
        pred_boxes=np.stack((x0, y0, x1 - x0, y1 - y0), axis=1).tolist(),
        pred_masks=[encode_rle(mask) for mask in result.each_mask()],
        pred_scores=result.scores.tolist(),
    )


def _truth_mask(truth: Annotation, size_hw: tuple[int, int]) -> dict[str, Any]:
    """An object's mask as RLE; an object that has only a box is its box, as in COCO's own tools."""
    if truth.segmentation is not None:
        return encode_rle(decode_segmentation(truth.segmentation, size_hw))
    x, y, w, h = truth.bbox_xywh
    mask = np.zeros(size_hw, dtype=bool)
    mask[round(y) : round(y + h), round(x) : round(x + w)] = True
    return encode_rle(mask)
