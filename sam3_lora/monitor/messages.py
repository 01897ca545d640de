"""Alerts and verdicts in words: what is wrong, why, and the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sam3_lora.config import RunConfig
from sam3_lora.errors import NotFiniteError
from sam3_lora.monitor.diagnosis import FARTHEST_BOX, PLATEAU_STEPS, Alert
from sam3_lora.monitor.healthy_ranges import Range, Verdict
from sam3_lora.monitor.run_verdict import RunVerdict
from sam3_lora.text import amount, plural


class AlertText(NamedTuple):
    """An alert in words, each part as sentences."""

    message: str
    cause: str
    fix: str


def describe_alert(alert: Alert, config: RunConfig) -> AlertText:
    """What is wrong, why, and the fix.

    Args:
        alert: from :func:`sam3_lora.monitor.diagnosis.diagnose`.
        config: the run's.
    """
    return AlertText(*_ALERTS[alert.kind](alert, config))


_TRENDS = {"rising": "up", "falling": "down"}


def describe_verdict(verdict: Verdict) -> str:
    """A term's value, its trend and what they mean, as a sentence."""
    if verdict.level == "off":
        return "Switched off: its weight is 0."
    value = amount(verdict.value)
    if verdict.change is not None:
        value += ", steady" if verdict.trend == "steady" else f", {_TRENDS[verdict.trend]} {abs(verdict.change):.0%}"
    if verdict.expected is None:
        return value if verdict.change is None else f"{value}."
    band = describe_range(verdict.expected)
    if verdict.level == "high":
        outlook = "it is still falling" if verdict.trend == "falling" else "look for a cause"
        return f"{value}; above the usual {band}: {outlook}."
    if verdict.level == "low":
        cause = (
            "not a good sign while other terms are above theirs"
            if verdict.others_high
            else "an easy dataset, or nothing to learn from"
        )
        return f"{value}; below the usual {band}: {cause}."
    close = "" if verdict.expected.low <= verdict.value <= verdict.expected.high else ", just outside"
    return f"{value}; usual: {band}{close}."


def describe_run(verdict: RunVerdict) -> str:
    """How far a run has come, as one sentence or two."""
    steps = f"after {plural(verdict.step, 'step')}"
    losses = ""
    if verdict.high:
        losses = f" {', '.join(verdict.high)} above the usual range."
    elif verdict.compared:
        losses = " The losses are in their usual ranges."
    usual = "" if verdict.healthy_f1 is None else f"; healthy runs have {_f1_range(verdict.healthy_f1)} by then"
    if verdict.healthy_f1 is not None and verdict.f1 == 0 and verdict.healthy_f1.high < 0.005:
        usual = ", as in healthy runs at this step"
    f1 = f"F1 {verdict.f1:.2f} {steps}{usual}."
    sentences = {
        "wrong": f"Something is wrong {steps}: see below.",
        "starting": f"Not validated yet {steps}: F1 is measured at the end of each epoch.{losses}",
        "not-measured": f"F1 was not measured {steps}: there are no objects to validate on.{losses}",
        "detects-nothing": f"Detects nothing yet at score 0.5: {f1}{losses}",
        "not-usable": f"Learning, but not usable yet: {f1}{losses}",
        "usable": f"Usable: {f1}{losses}",
    }
    return sentences[verdict.standing]


def _f1_range(healthy: Range) -> str:
    return f"{healthy.low:.2f} to {healthy.high:.2f}"


def describe_range(healthy: Range) -> str:
    """ "20 to 100"."""
    return f"{amount(healthy.low)} to {amount(healthy.high)}"


def _not_finite(alert: Alert, config: RunConfig) -> tuple[str, str, str]:
    fp16 = config.training.precision == "fp16"
    error = NotFiniteError(alert.names, alert.images, fp16)
    cause = "The learning rate is too high, " + ("fp16 overflows, " if fp16 else "")
    return f"{error.message}.", f"{cause}or an annotation of these images is wrong.", f"{error.fix}."


_LOWER_RATE = (
    "The learning rate is too high, or the run has left the region where it learned.",
    "Stop, lower training.learning_rate, and continue from adapters/best with model.adapter.",
)
_NO_ANNOTATIONS = (
    "The annotations were not found: they are under other keys, or belong to other images or categories.",
    "Open the dataset page: it shows what was read and names what is wrong with the file.",
)
_ALERTS: dict[str, Callable[[Alert, RunConfig], tuple[str, str, str]]] = {
    "not-finite": _not_finite,
    "nothing-matched": lambda it, _: (
        f"The objects of the last {it.steps} steps hardly contribute to the loss (total {it.value:.2g}): nothing is "
        "learned.",
        *_NO_ANNOTATIONS,
    ),
    "no-objects": lambda it, _: (
        f"No object reached the loss in {plural(it.steps, 'step')} (total {it.value:.2g}): nothing is learned.",
        *_NO_ANNOTATIONS,
    ),
    "huge-and-flat": lambda it, _: (
        f"The total is {it.value:,.0f} and barely falls (it was {it.reference:,.0f}).",
        "The terms are weighted wrongly, or targets are far off; a healthy total begins in the hundreds.",
        "Reset the weights under 'loss' to their defaults, and check the boxes on the dataset page.",
    ),
    "diverged": lambda it, _: (
        f"The total has risen to {amount(it.value)}, and it was {amount(it.reference)} before: the run has diverged.",
        *_LOWER_RATE,
    ),
    "boxes-far-out": lambda it, _: (
        f"Predicted and ground-truth boxes are {it.value:,.0f} apart on average, but inside an image it is at most "
        f"{FARTHEST_BOX:g}.",
        "The targets are not in [0, 1]: most likely boxes in pixels where fractions are expected.",
        "Check the boxes on the dataset page, and export the dataset again as COCO JSON.",
    ),
    "one-term-dominates": lambda it, _: (
        f"{it.names[0]} makes up {it.value:.0%} of the total: the other terms hardly count.",
        "Its weight is too high for its values, or its targets are wrong.",
        f"Compare loss.{it.names[0]} with its default, and check the annotations on the dataset page.",
    ),
    "presence-always": lambda it, _: (
        "The model hardly ever sees a negative phrase"
        + (", and has learned to say that everything is present." if it.severity == "error" else "."),
        "Without negative phrases 'present' is always right.",
        "Set data.num_negatives to 3 or more; otherwise the adapter finds something for every phrase.",
    ),
    "no-gradient": lambda it, _: (
        f"No gradient reaches {', '.join(it.names)}: its adapter stays as it is, a silent no-op.",
        "No weighted term of the loss depends on it: a weight is 0, or no object has a mask.",
        "Give the terms that depend on it a weight under 'loss', or remove it from lora.components.",
    ),
    "gradient-vanished": lambda it, _: (
        f"No gradient reaches {', '.join(it.names)} any more since step {it.since:,}: its adapter stays as it is.",
        "Its layers have reached a state that no gradient passes, or no object has a mask any more.",
        "Start a new run with a lower training.learning_rate, or remove it from lora.components.",
    ),
    "exploding": lambda it, _: (
        f"The gradients are {it.value / it.reference:,.0f} times as long as before: their norm is {amount(it.value)} "
        f"instead of {amount(it.reference)}.",
        *_LOWER_RATE,
    ),
    "plateau": lambda it, _: (
        f"The loss has not fallen for {PLATEAU_STEPS} steps ({amount(it.value)}, before {amount(it.reference)}).",
        "The run has learned what these settings can learn, or the learning rate is too low or too high.",
        "Look at the validation metrics: if they are good enough, stop; else try another learning rate or a higher "
        "rank.",
    ),
    "overfitting": lambda it, _: (
        f"The validation loss rises since step {it.since:,} ({amount(it.reference)}, now {amount(it.value)}) while the "
        "training loss falls.",
        "The adapter overfits: too many epochs on too few images, or too high a rank.",
        "Use adapters/best; next time fewer epochs, a lower rank or more images.",
    ),
    "finds-nothing": lambda it, _: (
        f"After {plural(it.step, 'step')} the adapter finds nothing yet: at a score of 0.5 no prediction on the "
        "validation images is a true positive (F1 0).",
        "It was not trained for long enough, or too slowly"
        + (f": {it.value:,.0f} of the steps warmed up the learning rate." if 4 * it.value > it.step else "."),
        "Continue training from the last adapter for more epochs, or raise training.learning_rate.",
    ),
}
