"""True and false positives of each prompt, and precision, recall and F1 over score thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, PromptResult

MATCH_IOU = 0.5  # mask IoU from which a prediction is a true positive
MIN_LOW_IOU = 0.1  # from here up to MATCH_IOU a prediction has found the object but outlines it badly
THRESHOLDS = np.linspace(0.05, 0.95, 91).round(2)  # score thresholds tried; inference drops scores below 0.05

TP, FP, FN, LOW_IOU = "tp", "fp", "fn", "low_iou"
IGNORED, CROWD = "ignored", "crowd"  # a prediction that is neither right nor wrong, and a crowd region
BELOW = "below"  # a prediction below the score threshold that overlaps a missed object


def match_predictions(result: PromptResult) -> np.ndarray:
    """Matches predictions to ground truth greedily, best score first, as COCO does.

    Returns:
        (K,) int: index of the ground-truth object that each prediction matches at MATCH_IOU, -1 for none.
    """
    matched = np.full(len(result.pred_scores), -1)
    free = ~result.crowd
    for row in np.argsort(-np.asarray(result.pred_scores), kind="stable"):
        ious = np.where(free, result.ious[row], 0)
        if len(ious) and ious.max() >= MATCH_IOU:
            matched[row] = int(ious.argmax())
            free[matched[row]] = False
    return matched


@dataclass(frozen=True)
class PromptOutcome:
    """How the predictions of one prompt above the score threshold compare with its ground truth.

    Attributes:
        predictions: K of TP, FP, LOW_IOU (overlaps an unmatched object, but too little) or IGNORED (in a crowd, or
            where not every object is annotated).
        is_fn: (G,) bool, objects without a true positive; crowd regions are never.
        is_low_iou: (G,) bool, those of them that a prediction with LOW_IOU overlaps.
    """

    predictions: list[str]
    is_fn: np.ndarray
    is_low_iou: np.ndarray

    @property
    def is_missed(self) -> np.ndarray:
        """(G,) bool, objects that no prediction overlaps enough to count for them."""
        return self.is_fn & ~self.is_low_iou


def classify(result: PromptResult) -> PromptOutcome:
    """Outcomes of the predictions whose score is at least SCORE_THRESHOLD, and the objects they miss."""
    rows = result.above_threshold
    matched = match_predictions(result)[rows]
    ious, crowd = result.ious[rows], result.crowd
    is_fn = ~crowd
    is_fn[matched[matched >= 0]] = False
    in_crowd = (ious[:, crowd] >= MATCH_IOU).any(1)
    # Only an object that no prediction matches can be badly outlined.
    overlaps = (ious >= MIN_LOW_IOU) & is_fn
    outcomes = np.select(
        [matched >= 0, in_crowd, overlaps.any(1)], [TP, IGNORED, LOW_IOU], FP if result.exhaustive else IGNORED
    )
    return PromptOutcome(outcomes.tolist(), is_fn, overlaps[outcomes == LOW_IOU].any(0))


def nearly_found(result: PromptResult, outcome: PromptOutcome) -> list[int]:
    """For each missed object the best of the predictions below the score threshold that overlap it, if there is one.

    Args:
        result: of a prompt.
        outcome: of its predictions above the threshold.

    Returns:
        Places of predictions, ascending. One that would be a true positive is better than any other; then the score
        counts.
    """
    scores = np.asarray(result.pred_scores)
    below = (scores < SCORE_THRESHOLD) & (scores >= THRESHOLDS[0])
    found = set[int]()
    for ious in result.ious.T[outcome.is_missed]:
        if (overlapping := np.flatnonzero(below & (ious >= MIN_LOW_IOU))).size:
            found.add(int(max(overlapping, key=lambda row: (ious[row] >= MATCH_IOU, scores[row]))))
    return sorted(found)


class PrecisionRecallF1(NamedTuple):
    """Shares in [0, 1], which are 0 where there is no true positive, and the counts that they are of."""

    precision: float
    recall: float
    f1: float
    tp: int
    predicted: int


@dataclass(frozen=True)
class ThresholdSweep:
    """The predictions for one phrase in all images, to be measured at any score threshold.

    Attributes:
        scores: (N,) in [0, 1].
        is_tp: (N,) bool.
        num_objects: ground-truth objects.
    """

    scores: np.ndarray
    is_tp: np.ndarray
    num_objects: int

    def at(self, threshold: float) -> PrecisionRecallF1:
        """Precision, recall and F1 of the predictions whose score is at least the threshold."""
        kept = self.scores >= threshold
        tp, predicted = int((self.is_tp & kept).sum()), int(kept.sum())
        f1 = 2 * tp / max(predicted + self.num_objects, 1)
        return PrecisionRecallF1(tp / max(predicted, 1), tp / max(self.num_objects, 1), f1, tp, predicted)

    def best_threshold(self) -> float | None:
        """The threshold of THRESHOLDS with the highest F1, the middle one of equals; None if none is above 0."""
        values = np.array([self.at(threshold).f1 for threshold in THRESHOLDS])
        if not values.max() > 0:
            return None
        best = np.flatnonzero(values >= values.max() - 1e-12)
        runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)  # neighbors that are equally good
        longest = max(runs, key=len)
        return float(THRESHOLDS[longest[len(longest) // 2]])


def sweep(results: Iterable[PromptResult]) -> ThresholdSweep:
    """Gathers the predictions for one phrase.

    Those in a crowd region are ignored, as are those without an object where not every object is annotated.
    """
    scores, is_tp, num_objects = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for result in results:
        matched, crowd = match_predictions(result), result.crowd
        counted = (matched >= 0) | (result.exhaustive & ~(result.ious[:, crowd] >= MATCH_IOU).any(1))
        scores.append(np.asarray(result.pred_scores)[counted])
        is_tp.append((matched >= 0)[counted])
        num_objects += int((~crowd).sum())
    return ThresholdSweep(np.concatenate(scores), np.concatenate(is_tp), num_objects)


def f1_score(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """F1 of counts, element by element, with the small constants of SAM 3's evaluator (sam3/eval/cgf1_eval.py)."""
    precision = tp / (tp + fp + 1e-4)
    recall = tp / (tp + fn + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)
