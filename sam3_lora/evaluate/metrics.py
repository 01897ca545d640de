"""All that is measured of one model: once, and again for resampled images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sam3_lora.evaluate import average_precision, cgf1
from sam3_lora.evaluate.outcomes import Sweep, sweep
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, ImagePredictions, PromptResult
from sam3_lora.evaluate.prompt_leak import Words, false_firing, leak
from sam3_lora.evaluate.report import Advice, Curve, Numbers, Values

KINDS = ("segm", "bbox")
Key = tuple[str, str, str]  # subject ("all", "phrase" or "size"), its name, metric


class Counted:
    """What one model's answers add up to."""

    def __init__(self, images: list[ImagePredictions], words: Words) -> None:
        # An image of which every pair is unclear is no unit of any measure.
        self._images = [image for image in images if image.pairs]
        self._words = words
        self.pairs = [pair for image in self._images for pair in image.pairs]
        self.images = len(self._images)
        self._precision = {f"map_{kind}": average_precision.Precision(self.pairs, kind) for kind in KINDS}
        self._tally = cgf1.tally(self.pairs)
        self._fired = false_firing(self._images, words)

    def numbers(self, validation_loss: float) -> Numbers:
        """All that is measured of the model."""
        metrics = {name: average_precision.over_all(one.values) for name, one in self._precision.items()}
        once = self.resampled_measures(np.ones((1, self.images)))
        metrics |= {name: float(values[0]) for name, values in once.items()}
        sweeps = {phrase: sweep(p for p in self.pairs if p.phrase == phrase) for phrase in self._phrases}
        return Numbers(
            _defined(metrics | {"validation_loss": validation_loss}),
            {phrase: self._of_phrase(number, sweeps[phrase]) for number, phrase in enumerate(self._phrases)},
            {
                size: _defined(
                    {f"ap_{kind}": average_precision.by_size(self._of(kind).values)[number] for kind in KINDS}
                )
                for number, size in enumerate(average_precision.SIZES)
            },
            self._curves(),
            leak(self._images, self._words),
            {phrase: _advice(swept) for phrase, swept in sweeps.items()},
        )

    def min_questions(self) -> int:
        """Of the questions whose answer is yes and those whose answer is no, how many there are of the fewer."""
        yes_yes, yes_no, no_yes, no_no = self._tally.present.sum(0)
        return int(min(yes_yes + yes_no, no_yes + no_no))

    def _of(self, kind: str) -> average_precision.Precision:
        return self._precision[f"map_{kind}"]

    @property
    def _phrases(self) -> tuple[str, ...]:
        return self._of("segm").phrases

    def _of_phrase(self, number: int, swept: Sweep) -> Values:
        values = {f"ap_{kind}": average_precision.by_phrase(self._of(kind).values)[number] for kind in KINDS}
        values["ap50_segm"] = average_precision.average(self._of("segm").values[0, :, number, 0])
        return _defined(values | dict(zip(("f1", "precision", "recall"), swept.at(SCORE_THRESHOLD), strict=True)))

    def _curves(self) -> dict[str, Curve]:
        """Of the phrases that have objects."""
        masks = self._of("segm")
        both = {p: (masks.values[0, :, n, 0], masks.scores[0, :, n, 0]) for n, p in enumerate(masks.phrases)}
        return {
            phrase: Curve(values.round(4).tolist(), scores.round(4).tolist())
            for phrase, (values, scores) in both.items()
            if not np.isnan(values).any()
        }

    def resampled_precision(self, row: np.ndarray, main: str) -> dict[Key, float]:
        """mAP of the drawn images; and of the main metric that of each phrase and size."""
        found: dict[Key, float] = {}
        for name, one in self._precision.items():
            values = one.resampled(row)
            found["all", "", name] = average_precision.over_all(values)
            if name == main:
                parts = (
                    ("phrase", one.phrases, average_precision.by_phrase),
                    ("size", average_precision.SIZES, average_precision.by_size),
                )
                for subject, names, of in parts:
                    found |= {(subject, part, name): value for part, value in zip(names, of(values), strict=True)}
        return found

    def resampled_measures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics that are sums over images, by name, each (count,)."""
        asked, fired = (weights @ self._fired).T
        with np.errstate(invalid="ignore"):
            firing = fired / asked
        return {**cgf1.measures(self._tally.weighted(weights)), "false_firing": firing}


def object_sizes(pairs: list[PromptResult]) -> dict[str, int]:
    """How many objects are small, medium and large, by the area of their masks, as COCO has it."""
    from pycocotools import mask as rle_ops

    areas = [
        float(rle_ops.area(mask))
        for pair in pairs
        for mask, crowd in zip(pair.gt_masks, pair.gt_crowd, strict=True)
        if not crowd
    ]
    small, medium = sum(area < 32**2 for area in areas), sum(32**2 <= area < 96**2 for area in areas)
    return dict(zip(average_precision.SIZES, (small, medium, len(areas) - small - medium), strict=True))


def _advice(swept: Sweep) -> Advice | None:
    best = swept.best_threshold()
    return None if best is None else Advice(best, swept.at(best)[0], swept.at(SCORE_THRESHOLD)[0])


def _defined(values: Mapping[str, float]) -> Values:
    """None for what is not a number."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
