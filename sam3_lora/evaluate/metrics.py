"""Every metric of an evaluation: its name, label and meaning, and how it is computed for one model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from sam3_lora.evaluate import cgf1
from sam3_lora.evaluate.average_precision import (
    SIZES,
    AveragePrecision,
    ap_by_phrase,
    ap_by_size,
    mean_ap,
    mean_defined,
)
from sam3_lora.evaluate.precision_recall_f1 import ThresholdSweep, sweep
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, ImagePredictions, PromptResult
from sam3_lora.evaluate.prompt_leak import PhraseGroups, false_firing, leak
from sam3_lora.evaluate.report import BestThreshold, Curve, ModelMetrics, Values

# name -> (label, meaning), in the order in which they are shown
METRICS = {
    "map_segm": (
        "Mask mAP",
        "How well masks and scores match the annotations: 1 is perfect (COCO AP)",
    ),
    "map_bbox": ("Box mAP", "The same for boxes"),
    "f1_50": ("F1", "Few objects missed and few false positives: 1 is perfect (masks, IoU and score 0.5)"),
    "cgf1": ("cgF1", "SAM 3's own metric: 1 is perfect, 0 is chance (positive F1 × presence MCC)"),
    "positive_f1": ("Positive F1", "F1 where the object is in the image, with exact masks (mean over IoU 0.5 to 0.95)"),
    "il_mcc": ("Presence MCC", "How well it tells whether an object is in the image: 1 is perfect, 0 is chance"),
    "false_firing": (
        "False positive rate",
        "The share of prompts for absent objects that find something; lower is better",
    ),
    "validation_loss": (
        "Validation loss",
        "The total that training lowers, on these images; lower is better",
    ),
}
LOWER_IS_BETTER = frozenset({"false_firing", "validation_loss"})
KINDS = ("segm", "bbox")
Key = tuple[str, str, str]  # subject ("all", "phrase" or "size"), its name, metric


class MetricCalculator:
    """Computes one model's metrics from its predictions, for the whole split or for resampled images."""

    def __init__(self, images: list[ImagePredictions], groups: PhraseGroups) -> None:
        # An image whose ground truth is unusable for every phrase cannot be measured on.
        self._images = [image for image in images if image.results]
        self._groups = groups
        self.results = [result for image in self._images for result in image.results]
        self.num_images = len(self._images)
        self._counts = cgf1.count(self.results)
        self._fired = false_firing(self._images, groups)

    @cached_property
    def _ap(self) -> dict[str, AveragePrecision]:
        return {kind: AveragePrecision(self.results, kind) for kind in KINDS}

    def metrics(self, validation_loss: float) -> ModelMetrics:
        """All metrics on the whole split."""
        overall = {f"map_{kind}": mean_ap(ap.values) for kind, ap in self._ap.items()}
        phrases = self._ap["segm"].phrases
        sweeps = {phrase: sweep(one for one in self.results if one.phrase == phrase) for phrase in phrases}
        by_size = {f"ap_{kind}": ap_by_size(ap.values) for kind, ap in self._ap.items()}
        return ModelMetrics(
            _defined(overall) | self.metrics_above_threshold() | _defined({"validation_loss": validation_loss}),
            {phrase: self._of_phrase(number, sweeps[phrase]) for number, phrase in enumerate(phrases)},
            {size: _defined({ap: by_size[ap][number] for ap in by_size}) for number, size in enumerate(SIZES)},
            self._curves(),
            leak(self._images, self._groups),
            {phrase: _best_threshold(swept) for phrase, swept in sweeps.items()},
        )

    def metrics_above_threshold(self) -> Values:
        """The metrics that take predictions above the score threshold only, on the whole split."""
        summed = self.summed_metrics(np.ones((1, self.num_images)))
        return _defined({name: float(values[0]) for name, values in summed.items()})

    def min_presence_count(self) -> int:
        """The number of prompts whose phrase is in the image, or of those whose phrase is not: the smaller one."""
        tp, fn, fp, tn = self._counts.presence.sum(0)
        return int(min(tp + fn, fp + tn))

    def _of_phrase(self, number: int, swept: ThresholdSweep) -> Values:
        values = {f"ap_{kind}": ap_by_phrase(ap.values)[number] for kind, ap in self._ap.items()}
        values["ap50_segm"] = mean_defined(self._ap["segm"].values[0, :, number, 0])
        return _defined(values | swept.at(SCORE_THRESHOLD)._asdict())

    def _curves(self) -> dict[str, Curve]:
        """Of the phrases that have objects."""
        masks = self._ap["segm"]
        both = {p: (masks.values[0, :, n, 0], masks.scores[0, :, n, 0]) for n, p in enumerate(masks.phrases)}
        return {
            phrase: Curve(values.round(4).tolist(), scores.round(4).tolist())
            for phrase, (values, scores) in both.items()
            if not np.isnan(values).any()
        }

    def resampled_ap(self, image_indices: np.ndarray, main_metric: str) -> dict[Key, float]:
        """Average precision as if the split had exactly these images.

        Args:
            image_indices: (I,) int, with repetitions.
            main_metric: "map_segm" or "map_bbox"; this one also for each phrase and object size.
        """
        values: dict[Key, float] = {}
        for kind, ap in self._ap.items():
            name, resampled = f"map_{kind}", ap.resampled(image_indices)
            values["all", "", name] = mean_ap(resampled)
            if name == main_metric:
                for phrase, value in zip(ap.phrases, ap_by_phrase(resampled), strict=True):
                    values["phrase", phrase, name] = value
                for size, value in zip(SIZES, ap_by_size(resampled), strict=True):
                    values["size", size, name] = value
        return values

    def summed_metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics that follow from sums over images, each (R,); weights: (R, I), how often each image counts."""
        absent, fired = (weights @ self._fired).T
        with np.errstate(invalid="ignore"):
            firing = fired / absent
        return {**cgf1.scores(self._counts.weighted(weights)), "false_firing": firing}


def object_sizes(results: list[PromptResult]) -> dict[str, int]:
    """How many objects are small, medium and large, by the area of their masks, as in COCO."""
    from pycocotools import mask as rle_ops

    areas = [
        rle_ops.area(mask)
        for result in results
        for mask, crowd in zip(result.gt_masks, result.gt_crowd, strict=True)
        if not crowd
    ]
    return dict(zip(SIZES, np.histogram(areas, (0, 32**2, 96**2, np.inf))[0].tolist(), strict=True))


def _best_threshold(swept: ThresholdSweep) -> BestThreshold | None:
    best = swept.best_threshold()
    return None if best is None else BestThreshold(best, swept.at(best).f1, swept.at(SCORE_THRESHOLD).f1)


def _defined(values: Mapping[str, float]) -> Values:
    """None for what is not finite."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
