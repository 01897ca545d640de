"""Names sick patterns in a run's metrics as soon as they show, each with its cause and its fix.

Every check is a pure function of a :class:`_Table`; none may cry wolf over a healthy run.
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
from sam3_lora.runs.nan_fix import nan_fix
from sam3_lora.text import amount, plural

RECENT = 10  # steps that a sign must last: a single odd batch is no illness
NOTHING_TOTAL = 0.05  # a total that no step with objects reaches
NOT_EVEN_NEGATIVES = 0.001  # a total that no step reaches whose phrases are asked of real images
HUGE_TOTAL = 1_000
FARTHEST_BOX = 4.0  # L1 distance of two boxes cxcywh inside [0, 1]: more cannot be
DROWNING_SHARE = 0.95
MIN_NEGATIVES = 0.02  # of the phrases asked
EXPLOSION = 30  # times the usual gradient norm
DIVERGENCE = 3  # times the lowest total
BLOCK = 30  # steps whose median stands for a part of the run
MIN_DEAD_READINGS = 10  # at a component's gradient, that must find nothing once it was alive
PLATEAU_STEPS, PLATEAU_GAIN = 400, 0.01
OVERFIT_EVALUATIONS, OVERFIT_RISE = 3, 0.03


@dataclass(frozen=True)
class Alert:
    """Something that is wrong with a run.

    kind: a stable name such as "nothing-matched"; severity: "error" means it will not get better by
    itself; step: when it was seen.
    """

    kind: str
    severity: Literal["error", "warning", "info"]
    message: str
    cause: str
    fix: str
    step: int


def diagnose(rows: Iterable[Row], config: RunConfig) -> list[Alert]:
    """What is wrong with a run, the worst first; nothing for a healthy one.

    Args:
        rows: of metrics.jsonl, from the beginning.
    """
    table = _Table(effective_rows(rows), config)
    found = [symptom for check in _CHECKS if (symptom := check(table)) is not None]
    return sorted(found, key=lambda symptom: ("error", "warning", "info").index(symptom.severity))


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
        """Of a count over the last so many rows; None if they do not hold it."""
        values = [row.get(name) for row in self.steps[-rows:]]
        return None if not values or None in values else float(sum(values))


def _not_finite(table: _Table) -> Alert | None:
    notes = [note for note in table.notes if note.get("about") == "not-finite"]
    sick = [row for row in table.steps if not all(map(math.isfinite, (row["total"], *row["terms"].values())))]
    if not notes and not sick:
        return None
    first = notes[0] if notes else sick[0]
    names = [name for name, value in first.get("terms", {}).items() if not math.isfinite(value)]
    return Alert(
        "not-finite",
        "error",
        first.get("message") or f"At step {first['step']} {', '.join(names) or 'the total'} is not a number any more.",
        "The learning rate is too high, "
        + ("fp16 overflows, " if table.config.training.precision == "fp16" else "")
        + "or an annotation of these images makes no sense.",
        f"{nan_fix(table.config, first.get('images', ()))}.",
        first["step"],
    )


def _nothing_matched(table: _Table) -> Alert | None:
    if not table.recent:
        return None
    seen = [row for row in table.steps if _objects(row) > 0]
    looked_at = seen[-RECENT:] if seen else table.steps
    highest = max(row["total"] for row in looked_at)
    if seen and (len(seen) < RECENT or not highest < NOTHING_TOTAL):
        return None
    # Where most images are empty, so are some batches in a row at first.
    certain = seen or len(looked_at) >= 5 * RECENT or highest < NOT_EVEN_NEGATIVES
    message = (
        f"The objects of the last {len(looked_at)} steps that have some hardly reach the loss"
        if seen
        else f"Not one object reached the loss in {plural(len(looked_at), 'step')}"
    )
    return Alert(
        "nothing-matched",
        "error" if certain else "warning",
        f"{message} (total {table.steps[-1]['total']:.2g}): nothing is learned.",
        "The annotations were not found: they stand under other keys, or belong to other images or categories.",
        "Open the dataset page: it shows what was read and names what is wrong with the file.",
        table.last_step,
    )


def _huge_and_flat(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * RECENT or _has_diverged(table):
        return None
    last = np.median(table.totals[-RECENT:])
    # A total that fell at first may be as flat now as one that never did.
    earlier = (table.totals[:RECENT], table.totals[-20 * RECENT : -19 * RECENT])
    before = min(np.median(totals) for totals in earlier if len(totals) == RECENT)
    if not (last > HUGE_TOTAL and last > 0.9 * before):
        return None
    return Alert(
        "huge-and-flat",
        "error",
        f"The total is {last:,.0f} and barely falls (it was {before:,.0f}).",
        "The terms are weighted wrongly, or targets are far off; a healthy total begins in the hundreds.",
        "Put the weights under 'loss' back to their defaults, and look at the boxes on the dataset page.",
        table.last_step,
    )


def _has_diverged(table: _Table) -> bool:
    lowest = _lowest_median(table.totals[:-RECENT])
    last = np.median(table.totals[-RECENT:])
    return bool(last > HUGE_TOTAL and last > DIVERGENCE * lowest)


def _diverged(table: _Table) -> Alert | None:
    if len(table.steps) < 4 * RECENT or not _has_diverged(table):
        return None
    last, lowest = np.median(table.totals[-RECENT:]), _lowest_median(table.totals[:-RECENT])
    return Alert(
        "diverged",
        "error",
        f"The total has risen to {amount(last)}, and it was {amount(lowest)} before: the run has diverged.",
        "The learning rate is too high, or the run has left the region where it learned.",
        "Stop, lower training.learning_rate, and go on from adapters/best with model.adapter.",
        table.last_step,
    )


def _boxes_far_out(table: _Table) -> Alert | None:
    distance = table.recent_median(lambda row: row.get("raw", {}).get("loss_bbox"))
    if not distance > FARTHEST_BOX:
        return None
    return Alert(
        "boxes-far-out",
        "error",
        f"Predicted and true boxes are {distance:,.0f} apart on average, but inside an image it is at most "
        f"{FARTHEST_BOX:g}.",
        "The targets are not in [0, 1]: most likely boxes in pixels where fractions are expected.",
        "Look at the boxes on the dataset page, and export the dataset again as COCO JSON.",
        table.last_step,
    )


def _one_term_drowns(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * RECENT or not table.recent_median(lambda row: row["total"]) > NOTHING_TOTAL:
        return None
    shares: dict[str, list[float]] = {}
    for row in table.recent:
        for name, value in row["terms"].items():
            shares.setdefault(split_name(name)[0], []).append(value / row["total"] if row["total"] else 0.0)
    if len(shares) < 2:
        return None
    term, share = max(((name, sum(of) / len(table.recent)) for name, of in shares.items()), key=lambda pair: pair[1])
    others_count = any(getattr(table.config.loss, name, 0) > 0 for name in shares if name != term)
    if not share > DROWNING_SHARE or not others_count:
        return None
    return Alert(
        "one-term-drowns",
        "warning",
        f"{term} makes up {share:.0%} of the total: the other terms hardly count.",
        "Its weight is too high for its values, or its targets are wrong.",
        f"Compare loss.{term} with its default, and look at the annotations on the dataset page.",
        table.last_step,
    )


def _presence_always(table: _Table) -> Alert | None:
    phrases, negatives = (table.recent_sum(name, 2 * RECENT) for name in ("phrases", "negatives"))
    if len(table.steps) < 2 * RECENT or not phrases or negatives is None or negatives / phrases >= MIN_NEGATIVES:
        return None
    presence = table.recent_median(lambda row: row.get("raw", {}).get("presence_loss"))
    collapsed = presence < 0.02
    return Alert(
        "presence-always",
        "error" if collapsed else "warning",
        "The model is hardly ever asked for something that is not there"
        + (", and has learned to say that everything always is." if collapsed else "."),
        "There are no negative phrases, so 'present' is always the right answer.",
        "Set data.num_negatives to 3 or more; otherwise the adapter fires on every word.",
        table.last_step,
    )


def _no_gradient(table: _Table) -> Alert | None:
    looks = [row for row in table.steps if row.get("grad_norm_by_component") and row.get("objects") != 0]
    if not looks:
        return None
    dead, last_alive = [], {}
    for name in looks[-1]["grad_norm_by_component"]:
        alive = [index for index, row in enumerate(looks) if row["grad_norm_by_component"].get(name) != 0]
        if not alive:
            dead.append(name)
        elif len(looks) - 1 - alive[-1] >= max(MIN_DEAD_READINGS, 3 * _longest_gap(alive)):
            last_alive[name] = looks[alive[-1]]["step"]
    if not dead and not last_alive:
        return None
    since = "" if dead else f" any more since step {max(last_alive.values()):,}"
    return Alert(
        "no-gradient",
        "error" if dead and len(looks) > 1 else "warning",
        f"No gradient reaches {', '.join(dead or last_alive)}{since}: its adapter stays as it is, a silent no-op.",
        "No weighted term of the loss depends on it: a weight is 0, or no object has a mask."
        if dead
        else "Its layers have come to a state that nothing flows through, or no object has a mask any more.",
        "Give the terms it serves a weight under 'loss', or take it out of lora.components."
        if dead
        else "Start a new run with a lower training.learning_rate, or take it out of lora.components.",
        looks[-1]["step"],
    )


def _longest_gap(indices: list[int]) -> int:
    """Between neighbours, and before the first."""
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
    return Alert(
        "exploding",
        "error",
        f"The gradients are {now / usual:,.0f} times as long as before: "
        f"their norm is {amount(now)} instead of {amount(usual)}.",
        "The learning rate is too high, or the run has left the region where it learned.",
        "Stop, lower training.learning_rate, and go on from adapters/best with model.adapter.",
        table.last_step,
    )


def _lowest_median(values: np.ndarray) -> float:
    """The least of the medians of BLOCK values each, zeros and what is not finite left out; NaN without a block."""
    sound = values[np.isfinite(values) & (values > 0)]
    count = len(sound) // BLOCK
    return float(np.median(sound[: count * BLOCK].reshape(count, BLOCK), axis=1).min()) if count else math.nan


def _plateau(table: _Table) -> Alert | None:
    if len(table.steps) < 2 * PLATEAU_STEPS:
        return None
    # At the end of its schedule a run is meant to come to rest.
    if _number(table.steps[-1].get("lr")) < 0.3 * table.config.training.learning_rate:
        return None
    before = np.median(table.totals[-2 * PLATEAU_STEPS : -PLATEAU_STEPS])
    now = np.median(table.totals[-PLATEAU_STEPS:])
    if not now > (1 - PLATEAU_GAIN) * before:
        return None
    return Alert(
        "plateau",
        "info",
        f"The loss has not fallen for {PLATEAU_STEPS} steps ({amount(now)}, before {amount(before)}).",
        "It has learned what these settings can learn, or the learning rate is too low or too high to go on.",
        "Look at the validation metrics: if they are good enough, stop; else try another rate or a higher rank.",
        table.last_step,
    )


def _overfitting(table: _Table) -> Alert | None:
    losses = [row["total"] for row in table.validations]
    if len(losses) <= OVERFIT_EVALUATIONS:
        return None
    best = int(np.argmin(losses))
    since = losses[best + 1 :]
    rising = len(since) >= OVERFIT_EVALUATIONS and min(since[-OVERFIT_EVALUATIONS:]) > (1 + OVERFIT_RISE) * losses[best]
    if not rising or not since[-1] >= since[-OVERFIT_EVALUATIONS]:
        return None
    found = [_number(row.get("box_f1_50")) for row in table.validations]
    if max(found[best + 1 :]) > found[best]:  # it still finds more, only less sure of it
        return None
    turned = table.validations[best]["step"]
    numbers = np.array([row["step"] for row in table.steps])
    around, after = table.totals[numbers <= turned][-50:], table.totals[-50:]
    if not len(around) or not np.median(after) < np.median(around):
        return None
    return Alert(
        "overfitting",
        "warning",
        f"The validation loss rises since step {turned} ({amount(losses[best])}, now {amount(losses[-1])}) "
        "while the training loss falls.",
        "The adapter learns the training images by heart: too many passes over too few images, or too high a rank.",
        "Use adapters/best, which was kept at that step; next time fewer epochs, a lower rank or more images.",
        table.validations[-1]["step"],
    )


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
    return Alert(
        "finds-nothing",
        "warning",
        f"After {plural(steps, 'step')} the adapter finds nothing yet: at a score of 0.5 no box on the validation "
        "images is right (F1 0).",
        "It has not learned for long enough, or too slowly"
        + (f": {warmup:,} of the steps were warm-up." if 4 * warmup > steps else "."),
        "Train on from the last adapter for more epochs, or raise training.learning_rate.",
        steps,
    )


_CHECKS = (
    _not_finite,
    _nothing_matched,
    _diverged,
    _huge_and_flat,
    _boxes_far_out,
    _one_term_drowns,
    _presence_always,
    _no_gradient,
    _exploding,
    _plateau,
    _overfitting,
    _finds_nothing,
)


def _objects(row: Row) -> float:
    """In a step's targets; of a file of an earlier version, something above 0 where there were some."""
    if "objects" in row:
        return row["objects"]
    return sum(row.get("raw", {}).get(name, 0.0) for name in ("loss_bbox", "loss_giou", "loss_dice"))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
