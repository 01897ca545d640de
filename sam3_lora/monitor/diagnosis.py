"""Finds what is wrong with a run from its metrics: alerts with a kind and numbers.

Every check is a pure function of a :class:`_Table` and must stay silent on healthy runs. The words of the alerts are in
:mod:`sam3_lora.monitor.messages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
    alerts = [alert for check, steps in _CHECKS.items() if len(table.steps) >= steps for alert in check(table)]
    return sorted(alerts, key=lambda alert: _SEVERITIES.index(alert.severity))


class _Table:
    """The rows by kind, and those columns that most checks need."""

    def __init__(self, rows: list[Row], config: RunConfig) -> None:
        self.config = config
        self.steps = [row for row in rows if row["kind"] == "step"]
        self.validations = [row for row in rows if row["kind"] == "validation"]
        self.notes = [row for row in rows if row["kind"] == "note"]
        self.totals = np.array([row["total"] for row in self.steps], dtype=float)
        self.recent = self.steps[-RECENT:]
        self.last_step = self.steps[-1]["step"] if self.steps else 0

    def recent_median(self, value: Callable[[Row], Any]) -> float:
        """Over the recent rows that have it; NaN if none has."""
        values = [number for row in self.recent if not math.isnan(number := _number(value(row)))]
        return float(np.median(values)) if values else math.nan


def _not_finite(table: _Table) -> Iterator[Alert]:
    note = next((note for note in table.notes if note.get("about") == "not-finite"), None)
    if note is not None:
        # Earlier versions wrote it into the message only.
        terms = note.get("terms_not_finite", ["the loss or the gradients"])
        yield Alert("not-finite", "error", note["step"], names=tuple(terms), images=tuple(note.get("images", ())))
        return
    for row in table.steps:
        broken = [name for name, value in row["terms"].items() if not math.isfinite(value)]
        if broken or not math.isfinite(row["total"]):
            yield Alert("not-finite", "error", row["step"], names=tuple(broken) or ("total",))
            return


def _nothing_matched(table: _Table) -> Iterator[Alert]:
    with_objects = [row for row in table.steps if _objects(row) > 0]
    rows = with_objects[-RECENT:] or table.steps
    highest = max(row["total"] for row in rows)
    total, step = table.steps[-1]["total"], table.last_step
    if not with_objects:
        # Where most images are empty, so are some batches in a row at first.
        certain = len(rows) >= 5 * RECENT or highest < NO_NEGATIVES_TOTAL
        yield Alert("no-objects", "error" if certain else "warning", step, total, steps=len(rows))
    elif len(rows) == RECENT and highest < NO_MATCH_TOTAL:
        yield Alert("nothing-matched", "error", step, total, steps=RECENT)


def _huge(table: _Table) -> Iterator[Alert]:
    """Totals that have diverged, or that are huge and have never fallen."""
    last = float(np.median(table.totals[-RECENT:]))
    lowest = _lowest_median(table.totals[:-RECENT])
    # A total that fell at first may be as flat now as one that never did.
    earlier = (table.totals[:RECENT], table.totals[-20 * RECENT : -19 * RECENT])
    before = float(min(np.median(totals) for totals in earlier if len(totals) == RECENT))
    if last > HUGE_TOTAL and last > DIVERGENCE * lowest:
        yield Alert("diverged", "error", table.last_step, last, lowest)
    elif last > HUGE_TOTAL and last > 0.9 * before:
        yield Alert("huge-and-flat", "error", table.last_step, last, before)


def _boxes_far_out(table: _Table) -> Iterator[Alert]:
    distance = table.recent_median(lambda row: row.get("raw", {}).get("loss_bbox"))
    if distance > FARTHEST_BOX:
        yield Alert("boxes-far-out", "error", table.last_step, distance)


def _one_term_dominates(table: _Table) -> Iterator[Alert]:
    if not table.recent_median(lambda row: row["total"]) > NO_MATCH_TOTAL:
        return
    shares: dict[str, float] = {}
    for row in table.recent:
        for name, value in row["terms"].items():
            term = split_name(name)[0]
            shares[term] = shares.get(term, 0.0) + (value / row["total"] / RECENT if row["total"] else 0.0)
    if len(shares) < 2:
        return
    dominant = max(shares, key=lambda term: shares[term])
    others_count = any(getattr(table.config.loss, name, 0) > 0 for name in shares if name != dominant)
    if shares[dominant] > DOMINANT_SHARE and others_count:
        yield Alert("one-term-dominates", "warning", table.last_step, shares[dominant], names=(dominant,))


def _presence_always(table: _Table) -> Iterator[Alert]:
    counts = [(row.get("phrases"), row.get("negatives")) for row in table.steps[-2 * RECENT :]]
    if any(None in pair for pair in counts):  # files of an earlier version lack them
        return
    phrases, negatives = (sum(map(_number, column)) for column in zip(*counts, strict=True))
    if phrases and negatives / phrases < MIN_NEGATIVES:
        presence = table.recent_median(lambda row: row.get("raw", {}).get("presence_loss"))
        yield Alert("presence-always", "error" if presence < 0.02 else "warning", table.last_step)


def _no_gradient(table: _Table) -> Iterator[Alert]:
    rows = [row for row in table.steps if row.get("grad_norm_by_component") and row.get("objects") != 0]
    if not rows:
        return
    readings = [row["grad_norm_by_component"] or {} for row in rows]
    alive = {  # component -> positions of its readings that are not zero
        name: [position for position, norms in enumerate(readings) if norms.get(name) != 0] for name in readings[-1]
    }
    vanished = {
        name: rows[positions[-1]]["step"]
        for name, positions in alive.items()
        if positions and len(rows) - 1 - positions[-1] >= max(MIN_DEAD_READINGS, 3 * _longest_gap(positions))
    }
    if never := tuple(name for name, positions in alive.items() if not positions):
        yield Alert("no-gradient", "error" if len(rows) > 1 else "warning", rows[-1]["step"], names=never)
    elif vanished:
        since = max(vanished.values())
        yield Alert("gradient-vanished", "warning", rows[-1]["step"], since=since, names=tuple(vanished))


def _longest_gap(indices: list[int]) -> int:
    """The largest distance between neighbors, and before the first."""
    return int(np.diff(indices, prepend=-1).max())


def _exploding(table: _Table) -> Iterator[Alert]:
    # Steps without objects have short gradients, and there may be many of them.
    norms = np.array([_number(row.get("grad_norm")) for row in table.steps if row.get("objects") != 0])
    if len(norms) < 4 * RECENT:
        return
    # Compared with the calmest part of the run, so that an explosion stays one however long it lasts.
    usual, now = _lowest_median(norms[:-RECENT]), float(np.nanmedian(norms[-RECENT:]))
    if usual > 0 and now > EXPLOSION * usual:
        yield Alert("exploding", "error", table.last_step, now, usual)


def _lowest_median(values: np.ndarray) -> float:
    """The lowest median of BLOCK values, zeros and values that are not finite left out; NaN without a block."""
    sound = values[np.isfinite(values) & (values > 0)]
    count = len(sound) // BLOCK
    return float(np.median(sound[: count * BLOCK].reshape(count, BLOCK), axis=1).min()) if count else math.nan


def _plateau(table: _Table) -> Iterator[Alert]:
    # At the end of the learning-rate schedule the loss is meant to become flat.
    if _number(table.steps[-1].get("lr")) < 0.3 * table.config.training.learning_rate:
        return
    before = float(np.median(table.totals[-2 * PLATEAU_STEPS : -PLATEAU_STEPS]))
    now = float(np.median(table.totals[-PLATEAU_STEPS:]))
    if now > (1 - PLATEAU_GAIN) * before:
        yield Alert("plateau", "info", table.last_step, now, before)


def _overfitting(table: _Table) -> Iterator[Alert]:
    losses = [row["total"] for row in table.validations]
    if len(losses) <= OVERFIT_EVALUATIONS:
        return
    best = int(np.argmin(losses))
    since = losses[best + 1 :]
    rising = len(since) >= OVERFIT_EVALUATIONS and min(since[-OVERFIT_EVALUATIONS:]) > (1 + OVERFIT_RISE) * losses[best]
    if not rising or not since[-1] >= since[-OVERFIT_EVALUATIONS]:
        return
    f1 = [_number(_f1(row)) for row in table.validations]
    if max(f1[best + 1 :]) > f1[best]:  # it still finds more, at lower scores
        return
    turned = table.validations[best]["step"]
    numbers = np.array([row["step"] for row in table.steps])
    around, after = table.totals[numbers <= turned][-50:], table.totals[-50:]
    if len(around) and np.median(after) < np.median(around):
        yield Alert("overfitting", "warning", table.validations[-1]["step"], losses[-1], losses[best], since=turned)


def _finds_nothing(table: _Table) -> Iterator[Alert]:
    if not table.validations:
        return
    last, training = table.validations[-1], table.config.training
    is_over = last.get("epoch", 0) >= training.epochs or last["step"] == training.max_steps
    has_objects = last.get("raw", {}).get("loss_bbox", 0.0) > 0
    if is_over and has_objects and _f1(last) == 0:
        yield Alert("finds-nothing", "warning", last["step"], min(training.warmup_steps, last["step"] // 2))


_CHECKS: dict[Callable[[_Table], Iterator[Alert]], int] = {  # check -> steps that it needs
    _not_finite: 0,
    _nothing_matched: RECENT,
    _huge: 2 * RECENT,
    _boxes_far_out: RECENT,
    _one_term_dominates: 2 * RECENT,
    _presence_always: 2 * RECENT,
    _no_gradient: 0,
    _exploding: 4 * RECENT,
    _plateau: 2 * PLATEAU_STEPS,
    _overfitting: 0,
    _finds_nothing: 1,
}


def _objects(row: Row) -> float:
    """In a step's targets; for files of an earlier version something above 0 if there were some."""
    if "objects" in row:
        return row["objects"]
    return sum(row.get("raw", {}).get(name, 0.0) for name in ("loss_bbox", "loss_giou", "loss_dice"))


def _f1(row: Row) -> float | None:
    """A validation's; in files of an earlier version that of boxes."""
    return row["f1_50"] if "f1_50" in row else row.get("box_f1_50")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
