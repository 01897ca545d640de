"""Finds what is wrong with a run from its metrics: alerts with a kind and numbers.

Every check is a pure function of a :class:`_Table` and must stay silent on healthy runs. The words of the alerts are in
:mod:`sam3_lora.monitor.messages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sam3_lora.config import RunConfig
from sam3_lora.monitor.terms import split_name
from sam3_lora.runs.metrics import Row, effective_rows

RECENT = 10  # steps that a symptom must last: a single odd batch is normal
NO_MATCH_TOTAL = 0.05  # a total below that of any step with objects
NO_NEGATIVES_TOTAL = 0.001  # a total below that of any step with phrases and real images
HUGE_TOTAL = 1_000
FARTHEST_BOX = 4.0  # the largest possible L1 distance of two boxes cxcywh inside [0, 1]
DOMINANT_SHARE = 0.95
MIN_NEGATIVES = 0.02  # of all phrases
EXPLOSION = 30  # times the usual gradient norm
DIVERGENCE = 3  # times the lowest total
BLOCK = 30  # steps whose median represents a part of the run
MIN_DEAD_READINGS = 10  # of a component's gradient, that are zero after it was not
PLATEAU_STEPS, PLATEAU_GAIN = 400, 0.01
OVERFIT_EVALUATIONS, OVERFIT_RISE = 3, 0.03

AlertKind = Literal[
    "not-finite",  # names: terms, empty if it is the gradients; images
    "nothing-matched",  # value: total, steps: with objects that were looked at
    "no-objects",  # value: total, steps: that were looked at
    "diverged",  # value: total, reference: its lowest
    "huge-and-flat",  # value: total, reference: before
    "boxes-far-out",  # value: mean L1 distance
    "one-term-dominates",  # names: the term, value: share of the total
    "presence-always",
    "no-gradient",  # names: components that never had one
    "gradient-vanished",  # names: components, since: the last step with a gradient
    "exploding",  # value: gradient norm, reference: usual
    "plateau",  # value: total, reference: before
    "overfitting",  # value: validation loss, reference: its lowest, since: that step
    "finds-nothing",  # value: steps of warm-up
]
Severity = Literal["error", "warning", "info"]  # an error does not get better by itself
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Alert:
    """Something that is wrong with a run; which numbers it has depends on its kind."""

    kind: AlertKind
    severity: Severity
    step: int  # at which it was seen
    value: float = 0.0
    reference: float = 0.0
    steps: int = 0
    since: int = 0
    names: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


def diagnose(rows: Iterable[Row], config: RunConfig) -> list[Alert]:
    """What is wrong with a run, errors first; nothing for a healthy one.

    Args:
        rows: of metrics.jsonl, from the beginning.
        config: the run's.
    """
    table = _Table(effective_rows(rows), config)
    alerts = [alert for check in _CHECKS if (alert := check(table)) is not None]
    return sorted(alerts, key=lambda alert: _SEVERITIES.index(alert.severity))


class _Table:
    """The rows by kind, and those columns that most checks need."""

    def __init__(self, rows: list[Row], config: RunConfig) -> None:
        self.config = config
        self.steps = [row for row in rows if row["kind"] == "step"]
        self.validations = [row for row in rows if row["kind"] == "validation"]
        self.notes = [row for row in rows if row["kind"] == "note"]

    @property
    def recent(self) -> list[Row]:
        """The last steps; empty until there are enough of them."""
        return self.steps[-RECENT:] if len(self.steps) >= RECENT else []

    @property
    def last_step(self) -> int:
        return self.steps[-1]["step"]

    @cached_property
    def totals(self) -> np.ndarray:
        return np.array([row["total"] for row in self.steps], dtype=float)

    @cached_property
    def grad_norms(self) -> np.ndarray:
        return np.array([_number(row.get("grad_norm")) for row in self.steps])

    def recent_median(self, value: Callable[[Row], Any]) -> float:
        """Over the recent rows that have it; NaN if none has."""
        values = [number for row in self.recent if not math.isnan(number := _number(value(row)))]
        return float(np.median(values)) if values else math.nan

    def recent_sum(self, name: str, rows: int) -> float | None:
        """Sum of a count over the last so many rows; None if they lack it."""
        values = [row.get(name) for row in self.steps[-rows:]]
        return None if not values or None in values else float(sum(map(_number, values)))


def _not_finite(table: _Table) -> Alert | None:
    notes = [note for note in table.notes if note.get("about") == "not-finite"]
    broken = [row for row in table.steps if not all(map(math.isfinite, (row["total"], *row["terms"].values())))]
    if notes:
        # Earlier versions wrote it into the message only.
        terms = notes[0].get("terms_not_finite", ["the loss or the gradients"])
        images = notes[0].get("images", ())
        return Alert("not-finite", "error", notes[0]["step"], names=tuple(terms), images=tuple(images))
    if broken:
        terms = [name for name, value in broken[0]["terms"].items() if not math.isfinite(value)]
        return Alert("not-finite", "error", broken[0]["step"], names=tuple(terms) or ("total",))
    return None


def _nothing_matched(table: _Table) -> Alert | None:
    if not table.recent:
        return None
    with_objects = [row for row in table.steps if _objects(row) > 0]
    rows = with_objects[-RECENT:] if with_objects else table.steps
    highest = max(row["total"] for row in rows)
    total, step = table.steps[-1]["total"], table.last_step
    if not with_objects:
        # Where most images are empty, so are some batches in a row at first.
        certain = len(rows) >= 5 * RECENT or highest < NO_NEGATIVES_TOTAL
        return Alert("no-objects", "error" if certain else "warning", step, total, steps=len(rows))
    if len(rows) == RECENT and highest < NO_MATCH_TOTAL:
        return Alert("nothing-matched", "error", step, total, steps=RECENT)
    return None


def _huge_and_flat(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * RECENT or _has_diverged(table):
        return None
    last = np.median(table.totals[-RECENT:])
    # A total that fell at first may be as flat now as one that never did.
    earlier = (table.totals[:RECENT], table.totals[-20 * RECENT : -19 * RECENT])
    before = min(np.median(totals) for totals in earlier if len(totals) == RECENT)
    if not (last > HUGE_TOTAL and last > 0.9 * before):
        return None
    return Alert("huge-and-flat", "error", table.last_step, float(last), float(before))


def _has_diverged(table: _Table) -> bool:
    lowest = _lowest_median(table.totals[:-RECENT])
    last = np.median(table.totals[-RECENT:])
    return bool(last > HUGE_TOTAL and last > DIVERGENCE * lowest)


def _diverged(table: _Table) -> Alert | None:
    if len(table.steps) < 4 * RECENT or not _has_diverged(table):
        return None
    last, lowest = np.median(table.totals[-RECENT:]), _lowest_median(table.totals[:-RECENT])
    return Alert("diverged", "error", table.last_step, float(last), lowest)


def _boxes_far_out(table: _Table) -> Alert | None:
    distance = table.recent_median(lambda row: row.get("raw", {}).get("loss_bbox"))
    if not distance > FARTHEST_BOX:
        return None
    return Alert("boxes-far-out", "error", table.last_step, distance)


def _one_term_dominates(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * RECENT or not table.recent_median(lambda row: row["total"]) > NO_MATCH_TOTAL:
        return None
    shares: dict[str, list[float]] = {}
    for row in table.recent:
        for name, value in row["terms"].items():
            shares.setdefault(split_name(name)[0], []).append(value / row["total"] if row["total"] else 0.0)
    if len(shares) < 2:
        return None
    term, share = max(((name, sum(of) / len(table.recent)) for name, of in shares.items()), key=lambda pair: pair[1])
    others_count = any(getattr(table.config.loss, name, 0) > 0 for name in shares if name != term)
    if not share > DOMINANT_SHARE or not others_count:
        return None
    return Alert("one-term-dominates", "warning", table.last_step, share, names=(term,))


def _presence_always(table: _Table) -> Alert | None:
    phrases, negatives = (table.recent_sum(name, 2 * RECENT) for name in ("phrases", "negatives"))
    if len(table.steps) < 2 * RECENT or not phrases or negatives is None or negatives / phrases >= MIN_NEGATIVES:
        return None
    presence = table.recent_median(lambda row: row.get("raw", {}).get("presence_loss"))
    return Alert("presence-always", "error" if presence < 0.02 else "warning", table.last_step)


def _no_gradient(table: _Table) -> Alert | None:
    rows = [row for row in table.steps if row.get("grad_norm_by_component") and row.get("objects") != 0]
    if not rows:
        return None
    readings = [row["grad_norm_by_component"] or {} for row in rows]
    alive = {  # component -> positions of its readings that are not zero
        name: [position for position, norms in enumerate(readings) if norms.get(name) != 0] for name in readings[-1]
    }
    if never := tuple(name for name, positions in alive.items() if not positions):
        return Alert("no-gradient", "error" if len(rows) > 1 else "warning", rows[-1]["step"], names=never)
    vanished = {
        name: rows[positions[-1]]["step"]
        for name, positions in alive.items()
        if len(rows) - 1 - positions[-1] >= max(MIN_DEAD_READINGS, 3 * _longest_gap(positions))
    }
    if not vanished:
        return None
    step, since = rows[-1]["step"], max(vanished.values())
    return Alert("gradient-vanished", "warning", step, since=since, names=tuple(vanished))


def _longest_gap(indices: list[int]) -> int:
    """The largest distance between neighbours, and before the first."""
    return max(after - before for before, after in zip([-1, *indices], indices, strict=False))


def _exploding(table: _Table) -> Alert | None:
    # Steps without objects have short gradients, and there may be many of them.
    norms = table.grad_norms[[row.get("objects") != 0 for row in table.steps]]
    if len(norms) < 4 * RECENT:
        return None
    # Compared with the calmest part of the run, so that an explosion stays one however long it lasts.
    usual, now = _lowest_median(norms[:-RECENT]), np.nanmedian(norms[-RECENT:])
    if not (usual > 0 and now > EXPLOSION * usual):
        return None
    return Alert("exploding", "error", table.last_step, float(now), usual)


def _lowest_median(values: np.ndarray) -> float:
    """The lowest median of BLOCK values, zeros and values that are not finite left out; NaN without a block."""
    sound = values[np.isfinite(values) & (values > 0)]
    count = len(sound) // BLOCK
    return float(np.median(sound[: count * BLOCK].reshape(count, BLOCK), axis=1).min()) if count else math.nan


def _plateau(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * PLATEAU_STEPS:
        return None
    # At the end of the learning-rate schedule the loss is meant to become flat.
    if _number(table.steps[-1].get("lr")) < 0.3 * table.config.training.learning_rate:
        return None
    before = np.median(table.totals[-2 * PLATEAU_STEPS : -PLATEAU_STEPS])
    now = np.median(table.totals[-PLATEAU_STEPS:])
    if not now > (1 - PLATEAU_GAIN) * before:
        return None
    return Alert("plateau", "info", table.last_step, float(now), float(before))


def _overfitting(table: _Table) -> Alert | None:
    losses = [row["total"] for row in table.validations]
    if len(losses) <= OVERFIT_EVALUATIONS:
        return None
    best = int(np.argmin(losses))
    since = losses[best + 1 :]
    rising = len(since) >= OVERFIT_EVALUATIONS and min(since[-OVERFIT_EVALUATIONS:]) > (1 + OVERFIT_RISE) * losses[best]
    if not rising or not since[-1] >= since[-OVERFIT_EVALUATIONS]:
        return None
    f1 = [_number(row.get("box_f1_50")) for row in table.validations]
    if max(f1[best + 1 :]) > f1[best]:  # it still finds more, at lower scores
        return None
    turned = table.validations[best]["step"]
    numbers = np.array([row["step"] for row in table.steps])
    around, after = table.totals[numbers <= turned][-50:], table.totals[-50:]
    if not len(around) or not np.median(after) < np.median(around):
        return None
    return Alert("overfitting", "warning", table.validations[-1]["step"], losses[-1], losses[best], since=turned)


def _finds_nothing(table: _Table) -> Alert | None:
    if not table.steps or not table.validations:
        return None
    last, training = table.validations[-1], table.config.training
    is_over = last.get("epoch", 0) >= training.epochs or last["step"] == training.max_steps
    has_objects = last.get("raw", {}).get("loss_bbox", 0.0) > 0
    if not is_over or not has_objects or last.get("box_f1_50") != 0:
        return None
    steps = last["step"]
    warmup = min(training.warmup_steps, steps // 2)
    return Alert("finds-nothing", "warning", steps, warmup)


_CHECKS = (
    _not_finite,
    _nothing_matched,
    _diverged,
    _huge_and_flat,
    _boxes_far_out,
    _one_term_dominates,
    _presence_always,
    _no_gradient,
    _exploding,
    _plateau,
    _overfitting,
    _finds_nothing,
)


def _objects(row: Row) -> float:
    """In a step's targets; for files of an earlier version something above 0 if there were some."""
    if "objects" in row:
        return row["objects"]
    return sum(row.get("raw", {}).get(name, 0.0) for name in ("loss_bbox", "loss_giou", "loss_dice"))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
