"""cgF1, SAM 3's own metric, with its parts; every (image, phrase) prompt counts, those without objects too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from sam3_lora.evaluate.precision_recall_f1 import f1_score
from sam3_lora.evaluate.predictions import PromptResult

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
NO_NEGATIVES, NO_POSITIVES = "no_negatives", "no_positives"  # why presence cannot be measured


@dataclass(frozen=True)
class ImageCounts:
    """Counts of I images, so that any sum of images can be measured.

    Attributes:
        tp_fp_fn: (I, 3, 10) at each IoU threshold, of prompts whose phrase has objects.
        fp_absent: (I,) predictions for phrases without objects.
        presence: (I, 4) prompts by whether the phrase is there and is found: true positives, false negatives,
            false positives, true negatives.
    """

    tp_fp_fn: np.ndarray
    fp_absent: np.ndarray
    presence: np.ndarray

    def weighted(self, weights: np.ndarray) -> ImageCounts:
        """Sums over the images, each counted as often as `weights` (R, I) says; the first axis becomes R."""
        return ImageCounts(np.tensordot(weights, self.tp_fp_fn, 1), weights @ self.fp_absent, weights @ self.presence)


def count(results: list[PromptResult]) -> ImageCounts:
    """Counts every image, in the order in which the results first name them.

    As SAM 3's evaluator (sam3/eval/cgf1_eval.py): the best assignment of predictions to objects, whatever their
    scores; crowd regions are not objects. Where not every object is annotated, predictions without one do not count;
    that evaluator leaves such prompts out.
    """
    images = {image_id: number for number, image_id in enumerate(dict.fromkeys(one.image_id for one in results))}
    tp_fp_fn = np.zeros((len(images), 3, len(IOU_THRESHOLDS)))
    fp_absent, presence = np.zeros(len(images)), np.zeros((len(images), 4))
    for result in results:
        image, ious = images[result.image_id], result.ious[result.above_threshold][:, ~result.crowd]
        num_predictions, num_objects = ious.shape
        presence[image, 2 * (num_objects == 0) + (num_predictions == 0)] += 1
        if num_objects:
            rows, columns = linear_sum_assignment(-ious)
            tp = (ious[rows, columns][:, None] >= IOU_THRESHOLDS).sum(0)
            tp_fp_fn[image] += np.stack((tp, result.exhaustive * (num_predictions - tp), num_objects - tp))
        else:
            fp_absent[image] += num_predictions
    return ImageCounts(tp_fp_fn, fp_absent, presence)


def summed(parts: Sequence[ImageCounts]) -> ImageCounts:
    """The sum over all images of at least one part, as the counts of one image."""
    tp_fp_fn = np.concatenate([part.tp_fp_fn for part in parts])
    fp_absent = np.concatenate([part.fp_absent for part in parts])
    presence = np.concatenate([part.presence for part in parts])
    return ImageCounts(tp_fp_fn, fp_absent, presence).weighted(np.ones((1, len(fp_absent))))


def scores(counts: ImageCounts) -> dict[str, np.ndarray]:
    """F1 at IoU 0.5 (f1_50), and cgF1 with its parts, of sums of images.

    cgF1 = positive micro F1 (mean over IoU 0.5:0.95, phrases with objects) x IL_MCC (is the phrase in the image at
    all?), as in the SAM 3 paper.

    Returns:
        f1_50, positive_f1, il_mcc and cgf1, each (R,); nan where not defined, see :func:`why_not_defined`.
    """
    tp, fp, fn = np.moveaxis(counts.tp_fp_fn, -2, 0)
    positive_f1 = f1_score(tp, fp, fn).mean(-1)
    mcc = _matthews(counts.presence)
    return {
        "f1_50": f1_score(tp[..., 0], fp[..., 0] + counts.fp_absent, fn[..., 0]),
        "positive_f1": positive_f1,
        "il_mcc": mcc,
        "cgf1": positive_f1 * mcc,
    }


def why_not_defined(results: list[PromptResult]) -> str | None:
    """NO_NEGATIVES or NO_POSITIVES if il_mcc, and with it cgf1, is not defined; None if it is."""
    has_objects = {bool((~result.crowd).any()) for result in results}
    if has_objects == {True, False}:
        return None
    return NO_NEGATIVES if True in has_objects else NO_POSITIVES


def _matthews(presence: np.ndarray) -> np.ndarray:
    """Matthews correlation of "is there" with "is found"; nan unless there are prompts of both kinds."""
    tp, fn, fp, tn = np.moveaxis(presence.astype(np.float64), -1, 0)
    correlation = (tp * tn - fp * fn) / (np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) + 1e-6)
    return np.where((tp + fn > 0) & (fp + tn > 0), correlation, np.nan)
