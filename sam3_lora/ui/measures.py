"""The metrics of base and adapter side by side, and what they mean in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from sam3_lora.data.coco import Split
from sam3_lora.ui.resources import SharedPredictor

# name -> (label, meaning); the order in which they are shown
METRICS = {
    "map_segm": ("Mask mAP", "How well objects are found and outlined: COCO average precision, IoU 0.5 to 0.95"),
    "map_bbox": ("Box mAP", "The same for boxes"),
    "f1_50": ("F1", "Balance of missed and false objects at IoU 0.5 and score 0.5"),
    "cgf1": ("cgF1", "SAM 3's own measure: positive F1 × presence MCC"),
    "positive_f1": ("Positive F1", "F1 where the phrase is in the image, mean over IoU 0.5 to 0.95"),
    "il_mcc": ("Presence MCC", "Whether it knows that a phrase is not in the image: 1 always, 0 by chance"),
    "validation_loss": ("Validation loss", "Weighted total of the training loss; lower is better"),
}
TILES = ("map_segm", "map_bbox", "f1_50", "validation_loss")
LOWER_IS_BETTER = {"validation_loss"}
SAME = 0.0005  # what cannot be told apart with three decimals

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Measured:
    """One evaluation. adapter is None where only the base model was measured."""

    dataset: str
    split: str
    images: int
    adapter_name: str | None
    base: Metrics
    adapter: Metrics | None


@dataclass(frozen=True)
class Tile:
    """One large number: the adapter's (or the base model's) and its difference to the base."""

    label: str
    value: str
    delta: str | None
    color: str


def measure(
    shared: SharedPredictor,
    split: Split,
    dataset: str,
    adapter_name: str | None,
    progress: Callable[[float, str], None],
    phrases: Mapping[str, str] | None = None,
) -> Measured:
    """Evaluates the base model and, if the predictor has one, its adapter.

    Args:
        phrases: the words that categories are asked by, where they are not their names.

    Raises:
        DataError: the split has nothing to measure on, or an image cannot be read.
    """
    from sam3_lora.evaluate import evaluate

    with shared.lock:
        predictor = shared.predictor
        if not predictor.has_adapter:
            base = evaluate(predictor, split, phrases=phrases, progress=_part(progress, 0, 1, "Base model"))
            return Measured(dataset, split.name, len(split.images), None, base, None)
        try:
            predictor.adapter_enabled = False
            base = evaluate(predictor, split, phrases=phrases, progress=_part(progress, 0, 2, "Base model"))
        finally:
            predictor.adapter_enabled = True
        adapter = evaluate(predictor, split, phrases=phrases, progress=_part(progress, 1, 2, "Adapter"))
    return Measured(dataset, split.name, len(split.images), adapter_name, base, adapter)


def _part(progress: Callable[[float, str], None], part: int, parts: int, who: str) -> Callable[[float, str], None]:
    return lambda share, what: progress((part + share) / parts, f"{who}: {what}")


def headline(measured: Measured) -> str:
    """The result as one sentence."""
    before = measured.base["map_segm"]
    if measured.adapter is None:
        return f"The base model reaches a mask mAP of {before:.3f}"
    after = measured.adapter["map_segm"]
    if abs(after - before) < SAME:
        return f"Mask mAP stays at {after:.3f} with the adapter"
    return f"The adapter {'raises' if after > before else 'lowers'} mask mAP from {before:.3f} to {after:.3f}"


def tiles(measured: Measured) -> list[Tile]:
    """The metrics that matter most, as large numbers."""
    return [_tile(name, measured) for name in TILES]


def _tile(name: str, measured: Measured) -> Tile:
    value = (measured.adapter or measured.base).get(name)
    difference = _difference(name, measured)
    delta, color = None, "normal"
    if difference is not None:
        same = difference == 0
        delta = "same as the base model" if same else f"{difference:+.3f} to the base model"
        color = "off" if same else "inverse" if name in LOWER_IS_BETTER else "normal"
    return Tile(METRICS[name][0], "not defined" if value is None else _number(value), delta, color)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _difference(name: str, measured: Measured) -> float | None:
    if measured.adapter is None or measured.base.get(name) is None or measured.adapter.get(name) is None:
        return None
    difference = measured.adapter[name] - measured.base[name]
    return 0.0 if abs(difference) < SAME else difference


def table(measured: Measured) -> pd.DataFrame:
    """One row per metric: base, adapter, difference, whether that is better, meaning."""
    rows = []
    for name in METRICS:
        row: dict[str, object] = {"Metric": METRICS[name][0], "Base": measured.base.get(name)}
        if measured.adapter is not None:
            difference = _difference(name, measured)
            row |= {
                "Adapter": measured.adapter.get(name),
                "Difference": difference,
                "In words": _verdict(name, difference),
            }
        rows.append({**row, "Meaning": METRICS[name][1]})
    return pd.DataFrame(rows)


def _verdict(name: str, difference: float | None) -> str:
    if difference is None:
        return "not comparable"
    if difference == 0:
        return "the same"
    return "better" if (difference < 0) == (name in LOWER_IS_BETTER) else "worse"
