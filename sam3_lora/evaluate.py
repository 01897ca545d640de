"""What a model finds in a split, measured: COCO mAP, F1, cgF1 and the validation loss."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from sam3_lora.config import LossConfig
from sam3_lora.data.coco import Annotation, ImageRecord, Split, load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.predict import PhraseResult, Predictor

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SCORE_THRESHOLD = 0.5  # of F1 and cgF1; mAP takes every score
MAX_DETECTIONS = 100  # per image and phrase, as COCO counts them


@dataclass(frozen=True)
class Pair:
    """One question asked, (image, phrase), with its true objects and the answers.

    truth_* hold G objects, answer_* K objects: boxes xywh in pixels, masks as compressed RLE.
    """

    image_id: int | str
    phrase: str
    size_hw: tuple[int, int]
    truth_boxes: list[list[float]]
    truth_masks: list[dict[str, Any]]
    truth_crowd: list[bool]
    answer_boxes: list[list[float]]
    answer_masks: list[dict[str, Any]]
    answer_scores: list[float]


def evaluate(
    predictor: Predictor,
    split: Split,
    *,
    num_negatives: int = 3,
    batch_size: int = 2,
    phrases: Mapping[str, str] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, float | None]:
    """Measures the predictor, as its adapter is switched now, on every image of a split.

    Every image is asked for every phrase that the split's objects have, through the very `detect`
    and post-processing that inference uses.

    Args:
        phrases: the user's own words by category, see :func:`sam3_lora.data.prompts.phrase_of`.
        progress: told the share done, in [0, 1], and what is being done.

    Returns:
        map_bbox, map_segm (COCO, IoU 0.5:0.95), f1_50 (masks, IoU 0.5, score 0.5), cgf1 and il_mcc
        (None where not defined: all pairs positive, or all negative), validation_loss.

    Raises:
        DataError: the split has no object to be found.
    """
    tell = progress or (lambda share, what: None)
    split = split.present()
    pairs = []
    asked = phrases_of(split, phrases)
    if not asked:
        raise DataError(f"The split '{split.name}' has no object to measure on", "Choose a split with annotations")
    for number, image in enumerate(split.images):
        tell(0.9 * number / len(split.images), f"Image {number + 1} of {len(split.images)}")
        pairs += ask(predictor, image, asked, phrases)
    if not pairs:
        raise DataError(
            f"Nothing can be measured in '{split.name}': each image has unusable annotations of each category",
            "Correct them; the dataset page shows which",
        )
    tell(0.9, "Validation loss")
    loss = _validation_loss(predictor, split, num_negatives, batch_size, phrases)
    tell(1.0, "Done")
    return {**coco_map(pairs), **concept_f1(pairs), "validation_loss": loss}


def phrases_of(split: Split, phrases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The phrases that at least one object of the split answers."""
    found = {phrase_of(a.category, phrases) for image in split.images for a in image.annotations if not a.iscrowd}
    return tuple(sorted(found))


def ask(
    predictor: Predictor, image: ImageRecord, asked: Iterable[str], phrases: Mapping[str, str] | None = None
) -> list[Pair]:
    """Asks one image for each phrase of `asked` and sets the answers beside the true objects."""
    size_hw = (image.height, image.width)
    # The annotations refer to the size in their file, even where the picture was scaled afterwards.
    predictor.set_image(cv2.resize(load_image(image), size_hw[::-1], interpolation=cv2.INTER_AREA))
    results = predictor.prompt(tuple(asked), threshold=0.0, limit=MAX_DETECTIONS)
    truths: dict[str, list[Annotation]] = {phrase: [] for phrase in results}
    for annotation in image.annotations:
        truths.setdefault(phrase_of(annotation.category, phrases), []).append(annotation)
    unusable = {phrase_of(category, phrases) for category in image.unusable_categories}
    # Where an object is known to be but cannot be read, neither an answer nor none can be called wrong.
    return [_pair(image, size_hw, truths[p], results[p]) for p in results if p not in unusable]


def _pair(image: ImageRecord, size_hw: tuple[int, int], truths: list[Annotation], result: PhraseResult) -> Pair:
    x0, y0, x1, y1 = result.boxes_xyxy.T if len(result) else np.zeros((4, 0))
    return Pair(
        image_id=image.id,
        phrase=result.phrase,
        size_hw=size_hw,
        truth_boxes=[list(truth.bbox_xywh) for truth in truths],
        truth_masks=[_truth_mask(truth, size_hw) for truth in truths],
        truth_crowd=[truth.iscrowd for truth in truths],
        answer_boxes=np.stack((x0, y0, x1 - x0, y1 - y0), axis=1).tolist(),
        answer_masks=[encode_rle(mask) for mask in result.each_mask()],
        answer_scores=result.scores.tolist(),
    )


def _truth_mask(truth: Annotation, size_hw: tuple[int, int]) -> dict[str, Any]:
    """An object's mask as RLE; an object that has only a box is its box, as in COCO's own tools."""
    if truth.segmentation is not None:
        return encode_rle(decode_segmentation(truth.segmentation, size_hw))
    x, y, w, h = truth.bbox_xywh
    mask = np.zeros(size_hw, dtype=bool)
    mask[round(y) : round(y + h), round(x) : round(x + w)] = True
    return encode_rle(mask)


def coco_map(pairs: list[Pair]) -> dict[str, float]:
    """COCO average precision over IoU 0.5:0.95, of boxes and of masks; phrases are the categories."""
    truth, answers = _coco_dicts(pairs)
    return {f"map_{kind}": _average_precision(truth, answers, kind) for kind in ("bbox", "segm")}


def _average_precision(truth: dict[str, Any], answers: list[dict[str, Any]], kind: str) -> float:
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(truth)
        found = ground.loadRes([dict(answer) for answer in answers])
        evaluation = COCOeval_faster(ground, found, iouType=kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return max(float(evaluation.stats[0]), 0.0)


def _coco_dicts(pairs: list[Pair]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from pycocotools import mask as rle_ops

    category_ids = {phrase: number for number, phrase in enumerate(sorted({pair.phrase for pair in pairs}), 1)}
    sizes = {pair.image_id: pair.size_hw for pair in pairs}
    image_ids = {image_id: number for number, image_id in enumerate(sizes, 1)}
    annotations, answers = [], []
    for pair in pairs:
        where = {"image_id": image_ids[pair.image_id], "category_id": category_ids[pair.phrase]}
        for box, mask, crowd in zip(pair.truth_boxes, pair.truth_masks, pair.truth_crowd, strict=True):
            area = float(rle_ops.area(mask))
            annotation = {"bbox": box, "segmentation": mask, "iscrowd": int(crowd), "area": area}
            annotations.append({**where, **annotation, "id": len(annotations) + 1})
        for box, mask, score in zip(pair.answer_boxes, pair.answer_masks, pair.answer_scores, strict=True):
            answers.append({**where, "bbox": box, "segmentation": mask, "score": score})
    truth = {
        "info": {},
        "images": [
            {"id": number, "height": size[0], "width": size[1]} for number, size in enumerate(sizes.values(), 1)
        ],
        "categories": [{"id": number, "name": phrase} for phrase, number in category_ids.items()],
        "annotations": annotations,
    }
    return truth, answers


def concept_f1(pairs: list[Pair]) -> dict[str, float | None]:
    """F1 at IoU 0.5, and cgF1 with its image-level part, over (image, phrase) pairs.

    cgF1 = positive micro F1 (mean over IoU 0.5:0.95, pairs with objects) x IL_MCC (is the phrase in
    the image at all?), as in the SAM 3 paper and its evaluator sam3/eval/cgf1_eval.py, which takes
    crowd regions for no objects.
    """
    hits = np.zeros((3, len(IOU_THRESHOLDS)))  # true positives, false positives, false negatives
    false_on_negatives = 0
    present = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}  # (truth, answer)
    for pair in pairs:
        ious = _mask_ious(pair)
        answers, objects = ious.shape
        present[objects > 0, answers > 0] += 1
        if objects:
            rows, columns = linear_sum_assignment(-ious)
            true = (ious[rows, columns][:, None] >= IOU_THRESHOLDS).sum(0)
            hits += np.stack((true, answers - true, objects - true))
        else:
            false_on_negatives += answers
    true, false, missed = hits
    positive_f1 = _f1(true, false, missed).mean()
    mcc = _matthews(present)
    return {
        "f1_50": float(_f1(true, false + false_on_negatives, missed)[0]),
        "positive_f1": float(positive_f1),
        "il_mcc": mcc,
        "cgf1": None if mcc is None else float(positive_f1 * mcc),
    }


def _mask_ious(pair: Pair) -> np.ndarray:
    """(K, G) IoU of the answers above the score threshold with the objects."""
    from pycocotools import mask as rle_ops

    objects = [mask for mask, crowd in zip(pair.truth_masks, pair.truth_crowd, strict=True) if not crowd]
    scored = zip(pair.answer_masks, pair.answer_scores, strict=True)
    answers = [mask for mask, score in scored if score >= SCORE_THRESHOLD]
    if not answers or not objects:
        return np.zeros((len(answers), len(objects)))
    return np.asarray(rle_ops.iou(answers, objects, [0] * len(objects)))


def _f1(true: np.ndarray, false: np.ndarray, missed: np.ndarray) -> np.ndarray:
    # The small constants are the reference evaluator's.
    precision = true / (true + false + 1e-4)
    recall = true / (true + missed + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def _matthews(present: dict[tuple[bool, bool], int]) -> float | None:
    """Matthews correlation of "is there" with "was found"; None unless there are pairs of both kinds."""
    tp, fn = present[True, True], present[True, False]
    fp, tn = present[False, True], present[False, False]
    if tp + fn == 0 or fp + tn == 0:
        return None
    product = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
    return (tp * tn - fp * fn) / (math.sqrt(product) + 1e-6)


def _validation_loss(
    predictor: Predictor, split: Split, num_negatives: int, batch_size: int, phrases: Mapping[str, str] | None
) -> float:
    from sam3_lora.loss import Sam3LossWrapper
    from sam3_lora.train.validate import mean_loss, validation_loader

    loss = Sam3LossWrapper.from_config(LossConfig())
    loader = validation_loader(split, predictor.processor, split.categories, num_negatives, batch_size, phrases=phrases)

    def forward(batch):
        batch = batch.to(predictor.device)
        inputs = (batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
        return loss(predictor.detector(*inputs), batch.targets)

    return mean_loss(loader, forward).total
