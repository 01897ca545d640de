"""The images with the most errors, with all that is needed to draw them."""

from __future__ import annotations

import numpy as np

from sam3_lora.evaluate.precision_recall_f1 import BELOW, CROWD, FN, FP, LOW_IOU, TP, classify, nearly_found
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult
from sam3_lora.evaluate.report import ShownObject, WorstImage

MAX_IMAGES_PER_ERROR = 20  # images kept for each kind of error


def worst_images(base: list[ImagePredictions], adapter: list[ImagePredictions] | None) -> list[WorstImage]:
    """The images with the most errors of the adapter (without one, of the base model), worst first.

    For each kind of error (false positives, false negatives, low IoU) the worst MAX_IMAGES_PER_ERROR are included.

    Args:
        base: the base model's predictions.
        adapter: the adapter's on the same images, or None.
    """
    judged = base if adapter is None else adapter
    errors = [_errors(image) for image in judged]
    totals = [sum(counts) for counts in errors]
    chosen: set[int] = set()
    for counts in (totals, *zip(*errors, strict=True)):
        ranked = sorted(range(len(judged)), key=counts.__getitem__, reverse=True)
        chosen |= {number for number in ranked[:MAX_IMAGES_PER_ERROR] if counts[number]}
    order = sorted(chosen, key=lambda number: (-totals[number], number))
    return [_image(base[n], None if adapter is None else adapter[n], errors[n]) for n in order]


def _errors(image: ImagePredictions) -> tuple[int, int, int]:
    """False positives, false negatives and low IoUs; an object found with a low IoU is no false negative."""
    fp, fn, low_iou = 0, 0, 0
    for outcome in map(classify, image.results):
        fp += outcome.predictions.count(FP)
        fn += int(outcome.is_missed.sum())
        low_iou += outcome.predictions.count(LOW_IOU)
    return fp, fn, low_iou


def _image(base: ImagePredictions, adapter: ImagePredictions | None, errors: tuple[int, int, int]) -> WorstImage:
    record = base.image
    return WorstImage(
        record.file_name,
        str(record.path),
        (record.height, record.width),
        *errors,
        [shown for result in (adapter or base).results for shown in _ground_truth(result)],
        [shown for result in base.results for shown in _predictions(result)],
        None if adapter is None else [shown for result in adapter.results for shown in _predictions(result)],
        record.orientation,
    )


def _ground_truth(result: PromptResult) -> list[ShownObject]:
    found = classify(result)
    outcomes = np.select([result.crowd, found.is_missed, found.is_low_iou], [CROWD, FN, LOW_IOU], TP).tolist()
    rows = zip(result.gt_boxes, result.gt_masks, outcomes, strict=True)
    return [ShownObject(result.phrase, box, mask, outcome) for box, mask, outcome in rows]


def _predictions(result: PromptResult) -> list[ShownObject]:
    boxes = [[round(value, 1) for value in box] for box in result.pred_boxes]
    scores = [round(score, 4) for score in result.pred_scores]
    outcome = classify(result)
    rows = dict(zip(result.above_threshold.nonzero()[0].tolist(), outcome.predictions, strict=True))
    rows |= dict.fromkeys(nearly_found(result, outcome), BELOW)
    return [ShownObject(result.phrase, boxes[n], result.pred_masks[n], kind, scores[n]) for n, kind in rows.items()]
