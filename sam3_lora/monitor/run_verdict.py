"""One verdict on a run, of its losses, its F1 and its alerts; in words by :mod:`sam3_lora.monitor.messages`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.healthy_ranges import Range, Verdict, demo_stages, stage_at
from sam3_lora.monitor.history import Validation
from sam3_lora.monitor.terms import MAIN, split_name

USABLE_F1 = 0.5  # from which an adapter detects more of the objects than it misses or invents

Standing = Literal[
    "wrong",  # an alert of severity "error"
    "starting",  # no validation yet
    "not-measured",  # a validation without F1: nothing is annotated, or a file of an earlier version
    "detects-nothing",  # F1 0
    "not-usable",  # F1 below USABLE_F1
    "usable",
]


@dataclass(frozen=True)
class RunVerdict:
    """How far a run has come."""

    standing: Standing
    step: int  # of the last validation; of the last step without one
    f1: float  # of the last validation, NaN without one
    healthy_f1: Range | None  # of healthy runs at this step, where known
    high: tuple[str, ...]  # terms of the last layer, and "total", that are above their range
    compared: bool  # whether any term has a healthy range


def judge(
    config: RunConfig,
    step: int,
    terms: Mapping[str, Verdict],
    validations: Sequence[Validation],
    alerts: Sequence[Alert] = (),
) -> RunVerdict | None:
    """The verdict on a run; None before its first step.

    Args:
        config: the run's.
        step: the last one.
        terms: the verdict on each, see :func:`sam3_lora.monitor.healthy_ranges.verdicts`.
        validations: so far.
        alerts: of the run.
    """
    if not terms:
        return None
    last = validations[-1] if validations else None
    f1 = math.nan if last is None else last.f1
    return RunVerdict(
        standing="wrong" if any(alert.severity == "error" for alert in alerts) else _standing(last),
        step=step if last is None else last.step,
        f1=f1,
        healthy_f1=None if last is None else healthy_f1(config, last.step),
        high=tuple(name for name, of in terms.items() if of.level == "high" and split_name(name)[1] == MAIN),
        compared=any(of.expected is not None for of in terms.values()),
    )


def _standing(last: Validation | None) -> Standing:
    if last is None:
        return "starting"
    if math.isnan(last.f1):
        return "not-measured"
    if last.f1 == 0:
        return "detects-nothing"
    return "usable" if last.f1 >= USABLE_F1 else "not-usable"


def healthy_f1(config: RunConfig, step: int) -> Range | None:
    """The range of the F1 of healthy runs, measured with the demo on its own dataset alone; None where unknown."""
    if config.model.base != DEMO or config.data.path != DEMO:
        return None
    ends = stage_at(demo_stages(), step).f1
    return None if ends is None else Range(*ends)
