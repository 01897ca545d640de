"""cgF1, SAM 3's own measure, with its parts; every (image, phrase) pair is a unit, those without objects too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from sam3_lora.evaluate.predictions import PromptResult

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
NO_NEGATIVES = "every image holds every phrase, so there is no question whose right answer is no"
NO_POSITIVES = "no image holds any of the phrases"


@dataclass(frozen=True)
class Tally:
    """What is counted of I images, so that any sum of images can be measured.

    hits (..., 3, 10): answers that are right, answers that are wrong, objects missed, at each IoU threshold, in
    pairs with objects. false (...): answers in pairs without. present (..., 4): pairs by "is there, is found":
    yes yes, yes no, no yes, no no.
    """

    hits: np.ndarray
    false: np.ndarray
    present: np.ndarray

    def weighted(self, weights: np.ndarray) -> Tally:
        """Sums over the images, each counted as often as `weights` (..., I) says."""
        return Tally(np.tensordot(weights, self.hits, 1), weights @ self.false, weights @ self.present)


def tally(pairs: list[PromptResult]) -> Tally:
    """Counts every image, in the order in which the pairs first name them.

    As the reference's evaluator (sam3/eval/cgf1_eval.py): the best assignment of answers to objects, whatever
    their scores; crowd regions are no objects.
    """
    images = {image_id: number for number, image_id in enumerate(dict.fromkeys(pair.image_id for pair in pairs))}
    hits = np.zeros((len(images), 3, len(IOU_THRESHOLDS)))
    false, present = np.zeros(len(images)), np.zeros((len(images), 4))
    for pair in pairs:
        image, ious = images[pair.image_id], pair.ious[pair.given][:, ~pair.crowd]
        answers, objects = ious.shape
        present[image, 2 * (objects == 0) + (answers == 0)] += 1
        if objects:
            rows, columns = linear_sum_assignment(-ious)
            right = (ious[rows, columns][:, None] >= IOU_THRESHOLDS).sum(0)
            hits[image] += np.stack((right, answers - right, objects - right))
        else:
            false[image] += answers
    return Tally(hits, false, present)


def measures(tally: Tally) -> dict[str, np.ndarray]:
    """f1_50, positive_f1, il_mcc and cgf1 of sums of images; nan where not defined. Each has the sums' shape."""
    right, wrong, missed = np.moveaxis(tally.hits, -2, 0)
    positive_f1 = _f1(right, wrong, missed).mean(-1)
    mcc = _matthews(tally.present)
    return {
        "f1_50": _f1(right[..., 0], wrong[..., 0] + tally.false, missed[..., 0]),
        "positive_f1": positive_f1,
        "il_mcc": mcc,
        "cgf1": positive_f1 * mcc,
    }


def concept_f1(pairs: list[PromptResult]) -> dict[str, float | None]:
    """F1 at IoU 0.5 and score 0.5, and cgF1 with its parts.

    cgF1 = positive micro F1 (mean over IoU 0.5:0.95, pairs with objects) x IL_MCC (is the phrase in
    the image at all?), as in the SAM 3 paper. None where not defined, see :func:`why_not_defined`.
    """
    counted = tally(pairs)
    found = measures(counted.weighted(np.ones(len(counted.false))))
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def why_not_defined(pairs: list[PromptResult]) -> str | None:
    """Why il_mcc, and with it cgf1, is not defined; None if it is."""
    there = {bool((~pair.crowd).any()) for pair in pairs}
    if there == {True, False}:
        return None
    return NO_NEGATIVES if True in there else NO_POSITIVES


def _f1(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    # The small constants are the reference evaluator's.
    precision = right / (right + wrong + 1e-4)
    recall = right / (right + missed + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def _matthews(present: np.ndarray) -> np.ndarray:
    """Matthews correlation of "is there" with "is found"; nan unless there are pairs of both kinds."""
    tp, fn, fp, tn = np.moveaxis(present.astype(np.float64), -1, 0)
    correlation = (tp * tn - fp * fn) / (np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) + 1e-6)
    return np.where((tp + fn > 0) & (fp + tn > 0), correlation, np.nan)
