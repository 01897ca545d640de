"""The ranges of healthy losses, and a verdict on each term of a run.

For the demo the ranges were measured over several runs, by stage; for full SAM 3 they are those that its users report:
totals by epoch, and raw values times the configured weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec
import numpy as np

from sam3_lora.config import ASSETS, DEMO, LossConfig, RunConfig
from sam3_lora.monitor.terms import ONE_TO_MANY, split_name, weight_of
from sam3_lora.runs.metrics import Row, effective_rows

DEMO_RANGES = ASSETS / "demo" / "healthy.json"
WINDOW = 20  # steps that a verdict averages: single batches scatter
SLACK = 1.25  # a factor: values this close to a range still count as healthy
STEADY = 0.02  # a relative change below it is no trend
# Full SAM 3 with auxiliary layers: epochs done -> total, and unweighted values of the last layer.
SAM3_TOTALS = ((0, 300, 600), (2, 270, 600), (5, 135, 300), (10, 65, 150), (20, 33, 75), (50, 15, 35))
SAM3_RAW = {
    "loss_bbox": (0.5, 2),
    "loss_giou": (0.5, 1),
    "loss_ce": (0.01, 0.1),
    "loss_mask": (0.1, 0.5),
    "loss_dice": (0.5, 1),
}
_MATCHES_PER_OBJECT = 4  # of the one-to-many half's last layer, at most


Level = Literal["low", "healthy", "high", "unknown", "off"]  # off: its weight is 0


@dataclass(frozen=True)
class Range:
    """The lowest and the highest healthy weighted value."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A term's recent values compared with its healthy range; in words by :mod:`sam3_lora.monitor.messages`."""

    term: str
    value: float  # weighted mean over the last steps
    expected: Range | None
    change: float | None  # relative to the same number of steps before, -0.1 is 10 % less; None early in a run
    level: Level
    others_high: bool = False  # another term is above its range

    @property
    def trend(self) -> Literal["steady", "rising", "falling"]:
        """Of the change; steady without one."""
        if self.change is None or abs(self.change) < STEADY:
            return "steady"
        return "rising" if self.change > 0 else "falling"


def expected(config: RunConfig, row: Row) -> dict[str, Range]:
    """The healthy ranges at a row's step, by term, "total" among them; terms without a known range are left out.

    Args:
        config: the run's.
        row: of kind "step".
    """
    if config.model.base != DEMO:
        return _expected_of_sam3(config.loss, row)
    if config.data.path != DEMO:  # the demo's small model was not measured on other data
        return {}
    stage, usual = stage_at(demo_stages(), row["step"]), RunConfig().loss
    ranges = {
        name: Range(*(end * (weight_of(name, config.loss) / weight_of(name, usual)) for end in ends))
        for name, ends in stage.ranges.items()
        if name != "total" and name in row["terms"]
    }
    if config.loss == usual and "total" in stage.ranges:
        ranges["total"] = Range(*stage.ranges["total"])
    return ranges


def verdicts(config: RunConfig, rows: Iterable[Row]) -> dict[str, Verdict]:
    """The verdict on each term, "total" first. Empty before the first step.

    Args:
        config: the run's.
        rows: the last ones of metrics.jsonl, at least 2 * WINDOW steps if there are as many.
    """
    steps = [row for row in effective_rows(rows) if row["kind"] == "step"][-2 * WINDOW :]
    if not steps:
        return {}
    recent, before = steps[-WINDOW:], steps[:-WINDOW]
    ranges, now, earlier = expected(config, recent[-1]), mean_terms(recent), mean_terms(before)
    levels = {name: _level(value, ranges.get(name)) for name, value in now.items()}
    any_high = "high" in levels.values()
    return {
        name: Verdict(
            term=name,
            value=value,
            expected=None if levels[name] == "off" else ranges.get(name),
            change=value / earlier[name] - 1 if earlier.get(name) else None,
            level=levels[name],
            others_high=any_high and levels[name] != "high",
        )
        for name, value in now.items()
    }


def _level(value: float, healthy: Range | None) -> Level:
    if healthy is None:
        return "unknown"
    if healthy.high == 0:
        return "off"
    if value > healthy.high * SLACK:
        return "high"
    return "low" if value < healthy.low / SLACK else "healthy"


@dataclass(frozen=True)
class Stage:
    """A part of a run with its healthy ranges."""

    first: int  # step
    last: int  # step
    ranges: dict[str, tuple[float, float]]  # by term, "total" too: means over the last WINDOW steps, or all if fewer
    f1: tuple[float, float] | None = None  # of masks on the validation images; None: no run was validated in it


@cache
def demo_stages() -> tuple[Stage, ...]:
    """The stages of the default run on the demo, measured by scripts/healthy_stages.py over five seeds."""
    return msgspec.convert(json.loads(DEMO_RANGES.read_bytes())["stages"], tuple[Stage, ...])


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of a step; the last one beyond its end."""
    return next((stage for stage in stages if step <= stage.last), stages[-1])


def mean_terms(rows: Sequence[Row]) -> dict[str, float]:
    """The means of the weighted terms of the last row and of "total" over rows of kind "step"."""
    values = [{"total": row["total"], **row["terms"]} for row in rows]
    names = values[-1] if values else ()
    return {name: float(np.mean([row[name] for row in values if name in row])) for name in names}


def _expected_of_sam3(loss: LossConfig, row: Row) -> dict[str, Range]:
    epochs_done = row.get("epoch", 1) - 1
    epochs, lows, highs = zip(*SAM3_TOTALS, strict=True)
    total = (float(np.exp(np.interp(epochs_done, epochs, np.log(ends)))) for ends in (lows, highs))
    ranges = {"total": Range(*total)} if loss == RunConfig().loss else {}
    for name in row["terms"]:
        term, group = split_name(name)
        if term in SAM3_RAW:
            low, high = SAM3_RAW[term]
            most = _MATCHES_PER_OBJECT if group == ONE_TO_MANY and "_aux_" not in name else 1
            weight = weight_of(name, loss)
            ranges[name] = Range(low * weight, high * most * weight)
    return ranges
