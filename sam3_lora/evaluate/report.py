"""What an evaluation found, as it is stored, compared and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from sam3_lora.errors import DataError
from sam3_lora.evaluate.prompt_leak import Leak

VERSION = 1

# name -> (label, meaning); the order in which they are shown
METRICS = {
    "map_segm": ("Mask mAP", "How well objects are found and outlined: COCO AP, IoU 0.5 to 0.95"),
    "map_bbox": ("Box mAP", "The same for boxes"),
    "f1_50": ("F1", "Balance of missed and false objects at IoU 0.5 and score 0.5"),
    "cgf1": ("cgF1", "SAM 3's own measure: positive F1 × presence MCC"),
    "positive_f1": ("Positive F1", "F1 where the phrase is in the image, mean over IoU 0.5 to 0.95"),
    "il_mcc": ("Presence MCC", "Whether it knows that a phrase is not in the image: 1 always, 0 by chance"),
    "false_firing": (
        "False firing",
        "Share of the questions for absent things that find something; lower is better",
    ),
    "validation_loss": ("Validation loss", "Weighted total of the training loss; lower is better"),
}
LOWER_IS_BETTER = frozenset({"false_firing", "validation_loss"})

Values = dict[str, float | None]  # by name of the metric; None where not defined


class Count(msgspec.Struct, frozen=True):
    """How much of a phrase there is. images: those with an object; categories: of the dataset that ask it."""

    objects: int
    images: int
    categories: list[str]


class Curve(msgspec.Struct, frozen=True):
    """Precision of masks at IoU 0.5, and the score it takes, at the recalls 0, 0.01, ... 1."""

    precision: list[float]
    scores: list[float]


class Advice(msgspec.Struct, frozen=True):
    """The score threshold with the highest F1 (masks, IoU 0.5) on this split, and F1 at 0.5 beside it."""

    threshold: float
    f1: float
    f1_at_half: float


class Numbers(msgspec.Struct, frozen=True):
    """What was measured of one model.

    metrics: by the names of METRICS. phrases: each phrase's ap_segm, ap_bbox, ap50_segm and, at score 0.5 and IoU
    0.5, f1, precision, recall. sizes: ap_segm and ap_bbox of small, medium and large objects. thresholds: None for
    a phrase of which nothing was found.
    """

    metrics: Values
    phrases: dict[str, Values]
    sizes: dict[str, Values]
    curves: dict[str, Curve]
    leak: Leak
    thresholds: dict[str, Advice | None]


class Difference(msgspec.Struct, frozen=True):
    """Adapter minus base. subject: "all", "phrase" or "size", of which `name`; low, high: 95 % interval, or None."""

    subject: str
    name: str
    metric: str
    base: float | None
    adapter: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None


class Kept(msgspec.Struct, frozen=True):
    """What the base finds by common words, how much of it the adapter still finds, and the share's 95 % interval."""

    found: int
    kept: int
    low: float | None
    high: float | None
    by_word: dict[str, list[int]]


class Alarm(msgspec.Struct, frozen=True):
    """Something got worse. kind: "metric", "phrase", "size" or "forgotten"; short: for the verdict; message: whole."""

    kind: str
    short: str
    message: str


class Shape(msgspec.Struct, frozen=True):
    """One object or answer on an image. box xywh in pixels; mask: RLE; outcome: see outcomes.py, or "missed"."""

    phrase: str
    box: list[float]
    mask: dict[str, Any]
    outcome: str
    score: float | None = None


class WorstImage(msgspec.Struct, frozen=True):
    """An image with errors: its objects, either model's answers, and the errors of the model that is judged."""

    file_name: str
    path: str
    size_hw: tuple[int, int]
    false: int
    missed: int
    poor: int
    truths: list[Shape]
    base: list[Shape]
    adapter: list[Shape] | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a report, which is quick to read. made: local time, ISO; seconds: it took; resamples: drawn."""

    version: int = VERSION
    made: str
    seconds: float
    dataset: str
    split: str
    images: int
    objects: int
    base_name: str
    adapter_name: str | None
    adapter_folder: str | None
    verdict: str


class Report(Summary, frozen=True, kw_only=True):
    """An evaluation. own_phrases: category -> the words it was asked by, where these are not its name.

    boxes_only: no object has an outline, so that masks are measured against boxes.
    """

    own_phrases: dict[str, str]
    boxes_only: bool
    phrases: dict[str, Count]
    sizes: dict[str, int]
    base: Numbers
    adapter: Numbers | None
    differences: list[Difference]
    kept: Kept | None
    alarms: list[Alarm]
    notes: list[str]
    not_defined: dict[str, str]
    resamples: int
    worst: list[WorstImage]

    @property
    def main_metric(self) -> str:
        """The metric that the verdict goes by."""
        return main_metric(self.boxes_only)

    @property
    def judged(self) -> Numbers:
        """The adapter's numbers, or the base model's where there is no adapter."""
        return self.adapter or self.base

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode()

    def advised_thresholds(self) -> dict[str, float]:
        """Phrase -> the threshold that suits the judged model best."""
        return {phrase: advice.threshold for phrase, advice in self.judged.thresholds.items() if advice}


def main_metric(boxes_only: bool) -> str:
    return "map_bbox" if boxes_only else "map_segm"


def read_report(path: Path) -> Report:
    """A stored report. Raises DataError if the file is none, or was written by a newer version."""
    return _read(path, Report)


def read_summary(path: Path) -> Summary:
    """The head of a stored report. Raises DataError as :func:`read_report` does."""
    return _read(path, Summary)


def _read(path: Path, kind: type) -> Any:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"The evaluation {path} cannot be read ({getattr(error, 'strerror', None) or error})", "Evaluate again"
        ) from None
    if found.version > VERSION:
        raise DataError(f"The evaluation {path} was stored by a newer version", "Update this app, or evaluate again")
    return found
