"""What the losses of a healthy run look like, and how a run's own compare with it.

For the demo the ranges were measured over runs of it, by stage; for full SAM 3 they are those that its
users report: totals by epoch, and raw values times the weights in force.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sam3_lora.config import ASSETS, DEMO, LossConfig, RunConfig
from sam3_lora.monitor.terms import ONE_TO_MANY, split_name, weight_of
from sam3_lora.runs.metrics import Row, effective_rows
from sam3_lora.text import amount

DEMO_RANGES = ASSETS / "demo" / "healthy.json"
STAGE_ENDS = (10, 20, 30, 45, 65, 95, 135, 190, 270, 380, 540, 760)  # steps: losses fall fast at first
WINDOW = 20  # steps that a verdict looks at: single batches scatter
SLACK = 1.25  # how far beyond a range its neighbourhood reaches, as a factor
# Full SAM 3 with auxiliary layers: epochs done -> total, and unweighted values of the last layer.
SAM3_TOTALS = ((0, 300, 600), (2, 270, 600), (5, 135, 300), (10, 65, 150), (20, 33, 75), (50, 15, 35))
SAM3_RAW = {
    "loss_bbox": (0.5, 2),
    "loss_giou": (0.5, 1),
    "loss_ce": (0.01, 0.1),
    "loss_mask": (0.1, 0.5),
    "loss_dice": (0.5, 1),
}
_EASY = "an easy dataset, or nothing to learn from"
_MATCHES_PER_OBJECT = 4  # of the one-to-many half's last layer, at most


@dataclass(frozen=True)
class Range:
    """The lowest and the highest weighted value that is healthy."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What a term's recent values mean.

    value: weighted mean over the last steps; change: relative to the same number of steps before, -0.1 is
    10 % less, None so early in a run; level: how it lies to the range; words: all of it as a sentence.
    """

    term: str
    value: float
    expected: Range | None
    change: float | None
    level: Literal["low", "healthy", "high", "unknown"]
    words: str


def expected(config: RunConfig, row: Row) -> dict[str, Range]:
    """The healthy ranges at a row's step, by term, "total" among them; a term without a known range is left out.

    Args:
        row: of kind "step".
    """
    if config.model.base != DEMO:
        return _expected_of_sam3(config.loss, row)
    if config.data.path != DEMO:  # nobody has measured the demo's little model on other data
        return {}
    stage, usual = stage_at(demo_stages(), row["step"]), LossConfig()
    ranges = {
        name: Range(*(end * _factor(name, config.loss, usual) for end in ends))
        for name, ends in stage.ranges.items()
        if name != "total" and name in row["terms"]
    }
    if config.loss == usual and "total" in stage.ranges:
        ranges["total"] = Range(*stage.ranges["total"])
    return ranges


def verdicts(config: RunConfig, rows: Iterable[Row]) -> dict[str, Verdict]:
    """What the last steps' values mean, by term, "total" first. Empty before the first step."""
    steps = [row for row in effective_rows(rows) if row["kind"] == "step"][-2 * WINDOW :]
    if not steps:
        return {}
    recent, before = steps[-WINDOW:], steps[:-WINDOW]
    ranges, now, earlier = expected(config, recent[-1]), _means(recent), _means(before)
    found = {name: _verdict(name, value, earlier.get(name), ranges.get(name)) for name, value in now.items()}
    if any(verdict.level == "high" for verdict in found.values()):
        for name, verdict in found.items():  # low beside high is no good sign
            found[name] = replace(
                verdict, words=verdict.words.replace(_EASY, "no good sign while others are above theirs")
            )
    return found


@dataclass(frozen=True)
class Stage:
    """Steps first to last, and for each term ("total" too) the lowest and highest value there that was healthy.

    Values are weighted means as verdicts compare them: over the last WINDOW steps, or as many as there are.
    """

    first: int
    last: int
    ranges: dict[str, tuple[float, float]]


@cache
def demo_stages() -> tuple[Stage, ...]:
    """The stages of the default run on the demo, as :func:`measure_stages` found them over five seeds."""
    stages = json.loads(DEMO_RANGES.read_text(encoding="utf-8"))["stages"]
    return tuple(
        Stage(one["first"], one["last"], {name: tuple(ends) for name, ends in one["ranges"].items()}) for one in stages
    )


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of a step; after the last stage, that one."""
    return next((stage for stage in stages if step <= stage.last), stages[-1])


def measure_stages(runs: Iterable[Iterable[dict[str, Any]]]) -> tuple[Stage, ...]:
    """The ranges over several healthy runs.

    Args:
        runs: of each run its lines of metrics.jsonl, from the first step on.

    Returns:
        Per stage, the lowest and the highest mean of any run at any of its steps; stages that a run did not reach are
        left out.
    """
    tables = [[line for line in run if line.get("kind") == "step"] for run in runs]
    reached = min(len(table) for table in tables)
    at = [{step: _means(table[max(0, step - WINDOW) : step]) for step in range(1, reached + 1)} for table in tables]
    stages, first = [], 1
    for end in STAGE_ENDS:
        if first > reached:
            break
        last = min(end, reached)
        means = [of_run[step] for of_run in at for step in range(first, last + 1)]
        names = set.intersection(*(set(mean) for mean in means))
        ranges = {
            name: (min(mean[name] for mean in means), max(mean[name] for mean in means)) for name in sorted(names)
        }
        stages.append(Stage(first, last, ranges))
        first = last + 1
    return tuple(stages)


def save_stages(stages: Sequence[Stage], path: Path, about: str) -> None:
    """Writes stages as JSON; about: how they were measured."""
    rounded = [
        {
            "first": stage.first,
            "last": stage.last,
            "ranges": {name: [float(f"{end:.4g}") for end in ends] for name, ends in stage.ranges.items()},
        }
        for stage in stages
    ]
    path.write_text(json.dumps({"about": about, "stages": rounded}, indent=1) + "\n", encoding="utf-8")


def _means(lines: list[dict[str, Any]]) -> dict[str, float]:
    rows = [{"total": line["total"], **line["terms"]} for line in lines]
    names = rows[-1] if rows else ()
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _expected_of_sam3(loss: LossConfig, row: Row) -> dict[str, Range]:
    epochs_done = row.get("epoch", 1) - 1
    epochs, lows, highs = zip(*SAM3_TOTALS, strict=True)
    total = (float(np.exp(np.interp(epochs_done, epochs, np.log(ends)))) for ends in (lows, highs))
    ranges = {"total": Range(*total)} if loss == LossConfig() else {}
    for name in row["terms"]:
        term, group = split_name(name)
        if term in SAM3_RAW:
            low, high = SAM3_RAW[term]
            most = _MATCHES_PER_OBJECT if group == ONE_TO_MANY and "_aux_" not in name else 1
            weight = weight_of(name, loss)
            ranges[name] = Range(low * weight, high * most * weight)
    return ranges


def _factor(name: str, loss: LossConfig, usual: LossConfig) -> float:
    """What other weights than the usual ones make of a term."""
    return weight_of(name, loss) / weight_of(name, usual)


def _verdict(name: str, value: float, earlier: float | None, healthy: Range | None) -> Verdict:
    change = value / earlier - 1 if earlier else None
    if change is None:
        trend = ""
    elif abs(change) < 0.02:
        trend = " and steady"
    else:
        trend = f" and {'rising' if change > 0 else 'falling'} ({change:+.0%})"
    if healthy is not None and healthy.high == 0:
        return Verdict(name, value, None, change, "unknown", "Switched off: its weight is 0.")
    if healthy is None:
        return Verdict(name, value, None, change, "unknown", f"{amount(value)}{trend}; no healthy range is known.")
    band = f"{amount(healthy.low)} to {amount(healthy.high)}"
    if value > healthy.high * SLACK:
        hope = "it is still falling" if change is not None and change < -0.02 else "look for a cause"
        words = f"{amount(value)}{trend}, above the healthy {band}: {hope}."
        return Verdict(name, value, healthy, change, "high", words)
    if value < healthy.low / SLACK:
        words = f"{amount(value)}{trend}, below the usual {band}: {_EASY}."
        return Verdict(name, value, healthy, change, "low", words)
    within = healthy.low <= value <= healthy.high
    words = f"{amount(value)}{trend}: healthy runs show {band} here" + ("." if within else ", and this is close to it.")
    return Verdict(name, value, healthy, change, "healthy", words)
