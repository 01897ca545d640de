"""What became of each answer and each object of a question, and the score threshold that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, PromptResult

HIT_IOU = 0.5  # from which on an answer counts as the object
POOR_IOU = 0.1  # between this and HIT_IOU an answer has found the object, but outlines it badly
GRID = np.linspace(0.05, 0.95, 91).round(2)  # of thresholds that are tried; inference keeps nothing below 0.05

RIGHT, WRONG, POOR, IGNORED = "right", "wrong", "poor", "ignored"


@dataclass(frozen=True)
class Outcome:
    """The answers to one question that were given, K, and its objects, G, crowd regions included.

    answers: K of "right"; "wrong": meets no object; "poor": lies on an object but outlines it badly; "ignored":
    lies in a crowd region. ious: (K,) with the object it meets. missed: (G,) bool, objects without a right answer.
    """

    answers: list[str]
    ious: np.ndarray
    missed: np.ndarray

    def count(self, what: str) -> int:
        return self.answers.count(what)


def outcome(pair: PromptResult, threshold: float = SCORE_THRESHOLD) -> Outcome:
    """Goes through the answers of at least this score, best first: each may meet one object, as COCO has it."""
    given = np.flatnonzero(np.asarray(pair.pred_scores) >= threshold)
    meets = met_objects(pair)[given]
    ious, crowd = pair.ious[given], pair.crowd
    missed = ~crowd
    missed[meets[meets >= 0]] = False
    names, best = [], np.zeros(len(given))
    for row, met in enumerate(meets):
        left = ious[row] * missed  # only what no other answer has found can be badly outlined
        best[row] = ious[row, met] if met >= 0 else left.max(initial=0)
        if met >= 0:
            names.append(RIGHT)
        elif (ious[row][crowd] >= HIT_IOU).any():
            names.append(IGNORED)
        else:
            names.append(POOR if best[row] >= POOR_IOU else WRONG)
    return Outcome(names, best, missed)


def met_objects(pair: PromptResult) -> np.ndarray:
    """(K,) int: for each answer, best first, the object it meets at HIT_IOU that no better one has met; else -1."""
    met = np.full(len(pair.pred_scores), -1)
    free = ~pair.crowd
    for row in np.argsort(-np.asarray(pair.pred_scores), kind="stable"):
        ious = np.where(free, pair.ious[row], 0)
        if len(ious) and ious.max() >= HIT_IOU:
            met[row] = int(ious.argmax())
            free[met[row]] = False
    return met


@dataclass(frozen=True)
class Sweep:
    """The answers to one phrase in all images: scores (N,), right (N,) bool; objects there were to find."""

    scores: np.ndarray
    right: np.ndarray
    objects: int

    def at(self, threshold: float) -> tuple[float, float, float]:
        """F1, precision and recall of the answers with at least this score; 0 where nothing is right."""
        given = self.scores >= threshold
        right, found = int((self.right & given).sum()), int(given.sum())
        f1 = 2 * right / max(found + self.objects, 1)
        return f1, right / max(found, 1), right / max(self.objects, 1)

    def best_threshold(self) -> float | None:
        """The threshold of GRID with the highest F1, the middle one of equals; None if none is above 0."""
        values = np.array([self.at(threshold)[0] for threshold in GRID])
        if not values.max() > 0:
            return None
        best = np.flatnonzero(values >= values.max() - 1e-12)
        run = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)  # neighbours that are equally good
        longest = max(run, key=len)
        return float(GRID[longest[len(longest) // 2]])


def sweep(pairs: Iterable[PromptResult]) -> Sweep:
    """Gathers the answers to one phrase; what lies in a crowd region counts as neither right nor wrong."""
    scores, right, objects = [], [], 0
    for pair in pairs:
        met, crowd = met_objects(pair), pair.crowd
        counted = (met >= 0) | ~(pair.ious[:, crowd] >= HIT_IOU).any(1)
        scores.append(np.asarray(pair.pred_scores)[counted])
        right.append((met >= 0)[counted])
        objects += int((~crowd).sum())
    if not scores:
        return Sweep(np.zeros(0), np.zeros(0, dtype=bool), 0)
    return Sweep(np.concatenate(scores), np.concatenate(right), objects)
