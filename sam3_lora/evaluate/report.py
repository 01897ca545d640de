"""An evaluation's report: the structs that are stored as JSON, compared and shown."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field

from sam3_lora.evaluate.prompt_leak import Leak

VERSION = 1

Values = dict[str, float | None]  # by name of the metric; None where not defined


class PhraseCount(msgspec.Struct, frozen=True):
    """How often a phrase occurs in the ground truth."""

    objects: int
    images: int  # with at least one object
    categories: list[str]  # of the dataset, prompted by this phrase


class Curve(msgspec.Struct, frozen=True):
    """Precision of masks at IoU 0.5, and the score it takes, at the recalls 0, 0.01, ... 1."""

    precision: list[float]
    scores: list[float]


class BestThreshold(msgspec.Struct, frozen=True):
    """The score threshold with the highest F1 (masks, IoU 0.5) on this split, and F1 at 0.5 beside it."""

    threshold: float
    f1: float
    f1_at_half: float


class ModelMetrics(msgspec.Struct, frozen=True):
    """All metrics of one model."""

    metrics: Values  # by the names of metrics.METRICS
    phrases: dict[str, Values]  # ap_segm, ap_bbox, ap50_segm; at score 0.5 and IoU 0.5: f1, precision, recall, and
    # the counts tp and predicted (not in reports of earlier versions)
    sizes: dict[str, Values]  # small, medium, large: ap_segm, ap_bbox
    curves: dict[str, Curve]
    leak: Leak
    thresholds: dict[str, BestThreshold | None]  # None for a phrase without a true positive


class Difference(msgspec.Struct, frozen=True):
    """Adapter minus base in one metric."""

    subject: str  # "all", "phrase" or "size"
    name: str  # of the phrase or size
    metric: str
    base: float | None
    adapter: float | None
    difference: float | None
    low: float | None = None  # 95 % confidence interval of the difference
    high: float | None = None


class Retention(msgspec.Struct, frozen=True):
    """Objects that the base model finds with common phrases, and how many of them the adapter still finds."""

    found: int
    kept: int
    low: float | None  # 95 % confidence interval of kept / found
    high: float | None
    by_phrase: dict[str, list[int]] = field(name="by_word")  # [found, kept]


class StrengthMetrics(msgspec.Struct, frozen=True):
    """What the adapter gains and forgets at another strength than as trained, which is 1."""

    strength: float
    metrics: Values  # of metrics.METRICS those that take predictions above the score threshold only
    retention: Retention = field(name="kept")


# Outcomes as reports of earlier versions call them.
_OLD_OUTCOMES = {"right": "tp", "found": "tp", "wrong": "fp", "missed": "fn", "poor": "low_iou"}


class ShownObject(msgspec.Struct, frozen=True):
    """A ground-truth object or a prediction on an image, with its outcome (see precision_recall_f1.py)."""

    phrase: str
    box: list[float]  # xywh in pixels
    mask: dict[str, Any]  # RLE
    outcome: str
    score: float | None = None

    def __post_init__(self) -> None:
        if self.outcome in _OLD_OUTCOMES:
            msgspec.structs.force_setattr(self, "outcome", _OLD_OUTCOMES[self.outcome])


class WorstImage(msgspec.Struct, frozen=True):
    """An image with errors: its ground truth, both models' predictions, and the errors of the judged model."""

    file_name: str
    path: str
    size_hw: tuple[int, int]
    fp: int = field(name="false")
    fn: int = field(name="missed")
    low_iou: int = field(name="poor")
    gt: list[ShownObject] = field(name="truths")
    base: list[ShownObject]  # with the outcome "below" also those that nearly find a missed object
    adapter: list[ShownObject] | None
    orientation: str = ""  # as ImageRecord.orientation

    @property
    def judged(self) -> list[ShownObject]:
        """The adapter's predictions, or the base model's where there is no adapter."""
        return self.base if self.adapter is None else self.adapter

    @property
    def phrases(self) -> set[str]:
        """The phrases of all that is shown."""
        return {shown.phrase for shown in (*self.gt, *self.base, *(self.adapter or []))}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a report, which is quick to read."""

    version: int = VERSION
    made: str  # local time, ISO 8601
    seconds: float
    dataset: str
    split: str
    images: int
    objects: int
    base_name: str
    adapter_name: str | None
    adapter_folder: str | None
    verdict: str  # the sentence, for lists of reports
    adapter_step: int | None = None  # of its run, after which the adapter was saved; None where it is not known
    weights_stamp: int | None = None  # when its weights were written, in ns; None in reports of earlier versions


class Report(Summary, frozen=True, kw_only=True):
    """An evaluation of a base model, and of an adapter beside it."""

    category_phrases: dict[str, str] = field(name="own_phrases")  # where a phrase is not the category's name
    boxes_only: bool  # no object has an outline, so masks are measured against boxes
    phrases: dict[str, PhraseCount]
    sizes: dict[str, int]
    base: ModelMetrics
    adapter: ModelMetrics | None
    differences: list[Difference]
    retention: Retention | None = field(name="kept")
    notes: list[str]
    not_defined: dict[str, str]  # metric -> NO_NEGATIVES or NO_POSITIVES of cgf1.py
    resamples: int
    trained_on: int = 0  # images that the adapter was trained on
    worst: list[WorstImage]
    # Routed by phrase: the adapter's predictions for the phrases it was taught, the base's for all others.
    routed: ModelMetrics | None = None  # None without an adapter, or where its phrases are not known
    routed_retention: Retention | None = field(name="routed_kept", default=None)
    taught: list[str] = []
    strengths: list[StrengthMetrics] = []  # ascending

    @property
    def main_metric(self) -> str:
        """The metric that decides the verdict."""
        return "map_bbox" if self.boxes_only else "map_segm"

    @property
    def judged(self) -> ModelMetrics:
        """The adapter's metrics, or the base model's where there is no adapter."""
        return self.adapter or self.base

    def best_thresholds(self) -> dict[str, float]:
        """Phrase -> the score threshold with the highest F1 of the judged model."""
        return {phrase: best.threshold for phrase, best in self.judged.thresholds.items() if best}
