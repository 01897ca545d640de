"""Differences between adapter and base model with bootstrap confidence intervals over the images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sam3_lora.evaluate.metrics import Key, MetricCalculator
from sam3_lora.evaluate.predictions import ImagePredictions
from sam3_lora.evaluate.prompt_leak import PhraseGroups, retained
from sam3_lora.evaluate.report import Difference, Report, Retention

RESAMPLES, MIN_RESAMPLES = 400, 100
_CELLS = 2000 * RESAMPLES  # (phrase, size, image) x resamples, above which fewer are drawn
LEVEL = 0.95
MIN_IMAGES = 5  # resamples of fewer say nothing about other images
MIN_OBJECTS = 5  # resamples of one or two objects say nothing about others


def resamples_for(images: int, phrases: int) -> int:
    """How many resamples to draw: fewer of large splits, whose intervals are narrow and take long."""
    return int(np.clip(_CELLS // max(4 * images * phrases, 1), MIN_RESAMPLES, RESAMPLES))


def resample(images: int, count: int) -> np.ndarray:
    """(count, images) int: image indices, each row a split drawn with replacement."""
    return np.random.default_rng(0).integers(0, images, (count, images))


def image_weights(samples: np.ndarray) -> np.ndarray:
    """(count, images) float64: how often each image was drawn in each row of :func:`resample`."""
    return np.stack([np.bincount(row, minlength=samples.shape[1]) for row in samples]).astype(np.float64)


def confidence_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of a metric over the resamples, (R,); None if it is undefined in half of them."""
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return None
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def differences(
    base: MetricCalculator, adapter: MetricCalculator, report: Report, progress: Callable[[float], None]
) -> list[Difference]:
    """The difference in every metric, and in the main metric for each phrase and object size.

    Args:
        base: of the base model.
        adapter: of the adapter.
        report: with the metrics of both; phrases and sizes with fewer than MIN_OBJECTS get no interval.
        progress: called with the share done, in [0, 1]; may raise to cancel.
    """
    old, new, main_metric = report.base, report.judged, report.main_metric
    # The same for both models, so that what is hard for both cancels out.
    samples = resample(base.num_images, report.resamples)
    before = _resampled(base, main_metric, samples, lambda share: progress(share / 2))
    after = _resampled(adapter, main_metric, samples, lambda share: progress(0.5 + share / 2))
    ap = main_metric.replace("map_", "ap_")
    values: dict[Key, tuple[float | None, float | None]]
    values = {("all", "", name): (old.metrics[name], new.metrics[name]) for name in old.metrics}
    values |= {("phrase", name, main_metric): (old.phrases[name][ap], new.phrases[name][ap]) for name in old.phrases}
    values |= {("size", name, main_metric): (old.sizes[name][ap], new.sizes[name][ap]) for name in old.sizes}
    num_objects = {("phrase", phrase): count.objects for phrase, count in report.phrases.items()}
    num_objects |= {("size", size): count for size, count in report.sizes.items()}
    enough = {key for key in before if key[0] == "all" or num_objects.get(key[:2], 0) >= MIN_OBJECTS}
    if base.min_presence_count() < MIN_OBJECTS:  # one image without objects would decide
        enough -= {("all", "", "il_mcc"), ("all", "", "cgf1")}
    if samples.shape[1] < MIN_IMAGES:
        enough = set()
    return [
        _difference(key, *both, after[key] - before[key] if key in enough else None) for key, both in values.items()
    ]


def retention(base: list[ImagePredictions], adapter: list[ImagePredictions], groups: PhraseGroups) -> Retention:
    """What the base model finds with common phrases and the adapter still finds, with an interval."""
    counts, by_phrase = retained(base, adapter, groups)
    found, kept = (image_weights(resample(len(counts), RESAMPLES)) @ counts).T
    with np.errstate(invalid="ignore"):
        low, high = (confidence_interval(kept / found) if len(counts) >= MIN_IMAGES else None) or (None, None)
    total_found, total_kept = counts.sum(0)
    found_by_phrase = {phrase: both for phrase, both in by_phrase.items() if both[0]}
    return Retention(int(total_found), int(total_kept), low, high, found_by_phrase)


def _resampled(
    model: MetricCalculator, main_metric: str, samples: np.ndarray, progress: Callable[[float], None]
) -> dict[Key, np.ndarray]:
    """Each metric's values over the resamples, (R,)."""
    rows = []
    for number, image_indices in enumerate(samples):
        progress(number / len(samples))
        rows.append(model.resampled_ap(image_indices, main_metric))
    values: dict[Key, np.ndarray] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    sums = model.summed_metrics(image_weights(samples))
    return values | {("all", "", name): resampled for name, resampled in sums.items()}


def _difference(key: Key, base: float | None, adapter: float | None, samples: np.ndarray | None) -> Difference:
    if base is None or adapter is None:
        return Difference(*key, base, adapter, None)
    interval = confidence_interval(samples) if samples is not None else None
    return Difference(*key, base, adapter, adapter - base, *(interval or (None, None)))
