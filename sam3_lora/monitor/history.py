"""The metrics of a run as columns for charts and tables, and their smoothing and downsampling; no Streamlit."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from sam3_lora.monitor.terms import AUXILIARY, MAIN, ONE_TO_MANY, split_name

GROUPS = (MAIN, AUXILIARY, ONE_TO_MANY)
# The order of the reference's documentation, so that a term keeps its place and its color everywhere.
TERMS = ("loss_mask", "loss_dice", "loss_bbox", "loss_giou", "loss_ce", "presence_loss")

REPLAY = "replay"  # the group of the terms of replay, which are not part of the total

# Columns of metrics.jsonl with one number a step.
MEASURES = ("lr", "images_per_second", "grad_norm", "memory_bytes")

Columns = dict[tuple[str, str], list[float]]  # (term, group) -> its values


def by_group(terms: Mapping[str, float], together: Callable[[list[float]], float]) -> dict[tuple[str, str], float]:
    """(term, group) -> the values of all its layers in one.

    Args:
        terms: values by name, weighted or raw.
        together: makes one of several, such as their sum: that of all weighted values is the total.
    """
    found: Columns = {}
    for name, value in terms.items():
        found.setdefault(split_name(name), []).append(_number(value))
    return {key: together(values) for key, values in found.items()}


def last_step_table(terms: Mapping[str, float], raw: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per term, then their sum: weighted value per group, share of the total, raw value of the main layer.

    Args:
        terms: weighted, by name.
        raw: unweighted, by name.

    Returns:
        Rows with "term", a column per group (None where the term does not exist: masks have no auxiliary layers),
        "weighted", "share" in [0, 1] and "raw".
    """
    sums, total = by_group(terms, sum), sum(terms.values())
    rows: list[dict[str, Any]] = [
        {"term": term, **{group: sums.get((term, group)) for group in GROUPS}}
        for term in in_order({term for term, _ in sums})
    ]
    rows.append({"term": "total", **{group: sum(row[group] or 0.0 for row in rows) for group in GROUPS}})
    for row in rows:
        weighted = sum(row[group] or 0.0 for group in GROUPS)
        row |= {"weighted": weighted, "share": weighted / total if total else 0.0, "raw": raw.get(row["term"])}
    return rows


def replay_table(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per term of replay, then their sum: weighted and raw value; none for a step without replay."""
    terms, raw = row.get("replay", {}), row.get("replay_raw", {})
    rows = [{"term": name, "weighted": value, "raw": raw.get(name)} for name, value in terms.items()]
    return rows + [{"term": "total of replay", "weighted": sum(terms.values()), "raw": None}] if rows else []


def in_order(terms: Iterable[str]) -> list[str]:
    """Known terms in their order, then others by name."""
    return sorted(terms, key=lambda term: (TERMS.index(term) if term in TERMS else len(TERMS), term))


@dataclass(frozen=True)
class Validation:
    """One evaluation on the validation split."""

    step: int
    seconds: float  # of training before it
    total: float
    f1: float  # of masks; NaN where it is not defined or was not measured, as the others
    cgf1: float
    box_f1: float  # in files of earlier versions


@dataclass
class History:
    """The metrics of one run as columns of bounded size.

    Beyond ``limit`` steps they are downsampled: of four neighbors the two with the lowest and the highest total stay,
    so that spikes remain visible. The file keeps everything.
    """

    limit: int = 20_000
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of training so far; pauses before a resume do not count
    totals: list[float] = field(default_factory=list)
    columns: Columns = field(default_factory=dict)  # weighted sums
    raws: Columns = field(default_factory=dict)  # means of raw values
    replays: Columns = field(default_factory=dict)  # weighted terms of replay, of the group REPLAY
    measures: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})
    validation: list[Validation] = field(default_factory=list)
    last: dict[str, Any] | None = None  # the newest row of kind "step"
    _clock: float | None = None  # unix seconds up to which seconds were counted

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds new rows. A step that is repeated (the run was resumed before it) replaces the later ones."""
        for row in rows:
            kind, step = row.get("kind", "step"), row["step"]
            if kind == "resume":
                self._forget_after(step)
                self._clock = None
            elif kind == "validation":
                self.validation = [point for point in self.validation if point.step < step]
                numbers = (_number(row.get(name)) for name in ("total", "f1_50", "cgf1", "box_f1_50"))
                self.validation.append(Validation(step, self._tick(row), *numbers))
            elif kind == "step":
                self._forget_after(step - 1)
                self._append(row)
        while len(self.steps) > self.limit:
            self._downsample()

    def _append(self, row: Mapping[str, Any]) -> None:
        self.seconds.append(self._tick(row))
        self.steps.append(row["step"])
        self.totals.append(_number(row["total"]))
        for name, column in self.measures.items():
            column.append(_number(row.get(name)))
        _append_values(self.columns, by_group(row["terms"], sum), len(self.steps))
        _append_values(self.raws, by_group(row.get("raw", {}), fmean), len(self.steps))
        replayed = {(name, REPLAY): _number(value) for name, value in row.get("replay", {}).items()}
        _append_values(self.replays, replayed, len(self.steps))
        self.last = dict(row)

    def _tick(self, row: Mapping[str, Any]) -> float:
        """Seconds of training up to a row."""
        before, now = self.seconds[-1] if self.seconds else 0.0, row.get("time")
        if not isinstance(now, (int, float)):
            return before
        passed = 0.0 if self._clock is None else max(0.0, now - self._clock)
        if row["kind"] == "step":
            self._clock = now
        return before + passed

    def _forget_after(self, step: int) -> None:
        """Drops steps and validations beyond a step."""
        self.validation = [point for point in self.validation if point.step <= step]
        keep = bisect_right(self.steps, step)
        if keep < len(self.steps):
            self._select(range(keep))

    def _downsample(self) -> None:
        kept = bucket_extremes(np.asarray(self.totals), bucket=4)
        self._select(np.union1d(kept, [len(self.steps) - 1]).tolist())

    def _select(self, indices: Sequence[int]) -> None:
        self.steps = [self.steps[index] for index in indices]
        several = (*self.measures.values(), *self.columns.values(), *self.raws.values(), *self.replays.values())
        for column in (self.seconds, self.totals, *several):
            column[:] = [column[index] for index in indices]


def _append_values(columns: Columns, values: Mapping[tuple[str, str], float], length: int) -> None:
    """Adds a row to columns; some may be new, others may have no value."""
    for key in values.keys() - columns.keys():
        columns[key] = [math.nan] * (length - 1)
    for key, column in columns.items():
        column.append(values.get(key, math.nan))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def smooth(steps: np.ndarray, values: np.ndarray, amount: float) -> np.ndarray:
    """Exponential moving average over steps, without bias towards zero at the start.

    Args:
        steps: (n,) increasing; a gap of k steps decays as much as k single steps.
        values: (n,); a value that is not finite leaves a gap and does not affect the others.
        amount: weight of the past per step, in [0, 1); 0 returns the values unchanged.
    """
    if amount <= 0:
        return values
    known = np.isfinite(values)
    # pandas measures distances in time: a step is a second.
    import pandas as pd  # not with the module: pages show runs without curves, too

    half_life = pd.Timedelta(seconds=math.log(0.5) / math.log(amount))
    moments = pd.DatetimeIndex(steps[known].astype("datetime64[s]"))
    smoothed = np.full(len(values), np.nan)
    smoothed[known] = pd.Series(values[known]).ewm(halflife=half_life, times=moments).mean()
    return smoothed


def downsample(values: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most ``points`` values that look the same on a screen: lowest and highest of each bucket.

    Buckets are powers of two long, so that the curve does not flicker while it grows.

    Args:
        values: (n,).
        points: at least 3.
    """
    if len(values) <= points:
        return np.arange(len(values))
    bucket = 4
    while 2 * math.ceil(len(values) / bucket) > points - 2:
        bucket *= 2
    return np.union1d(bucket_extremes(values, bucket), [0, len(values) - 1])


def bucket_extremes(values: np.ndarray, bucket: int) -> np.ndarray:
    """Sorted indices of the lowest and the highest value of each bucket; of NaN only where all are.

    Args:
        values: (n,).
        bucket: how many neighbors are compared.
    """
    padded = np.full(math.ceil(len(values) / bucket) * bucket, np.nan)
    padded[: len(values)] = values
    grid = padded.reshape(-1, bucket)
    known = np.isfinite(grid)
    starts = np.arange(len(grid)) * bucket
    lowest = starts + np.where(known, grid, np.inf).argmin(1)
    highest = starts + np.where(known, grid, -np.inf).argmax(1)
    return np.union1d(lowest, highest)
