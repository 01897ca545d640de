"""The one verdict on a run: by its last validation, its losses and its alerts."""

from __future__ import annotations

import math

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.monitor import healthy_ranges
from sam3_lora.monitor.diagnosis import Alert
from sam3_lora.monitor.healthy_ranges import Range, Stage, verdicts
from sam3_lora.monitor.history import Validation
from sam3_lora.monitor.messages import describe_run
from sam3_lora.monitor.run_verdict import USABLE_F1, RunVerdict, judge
from tests.monitor.helpers import CONFIG, falling


def verdict_at(f1: float | None, factor: float = 0.5, config: RunConfig = CONFIG, *alerts: Alert) -> RunVerdict:
    rows = falling(120)
    for row in rows:
        row["terms"] = {name: value * factor for name, value in row["terms"].items()}
    validations = [] if f1 is None else [Validation(120, 60.0, 20.0, f1, math.nan, math.nan)]
    verdict = judge(config, 120, verdicts(config, rows), validations, alerts)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(
    ("f1", "standing"),
    [
        (None, "starting"),
        (math.nan, "not-measured"),
        (0.0, "detects-nothing"),
        (USABLE_F1 - 0.01, "not-usable"),
        (USABLE_F1, "usable"),
    ],
)
def test_the_last_f1_decides(f1: float | None, standing: str) -> None:
    verdict = verdict_at(f1)
    assert verdict.standing == standing and not verdict.high
    assert "120 steps" in describe_run(verdict) and "nan" not in describe_run(verdict)


def test_an_error_comes_before_any_number_and_a_warning_does_not() -> None:
    assert verdict_at(0.9, 0.5, CONFIG, Alert("diverged", "error", 120)).standing == "wrong"
    assert verdict_at(0.9, 0.5, CONFIG, Alert("overfitting", "warning", 120)).standing == "usable"


def test_terms_above_their_range_are_named() -> None:
    verdict = verdict_at(0.1, factor=20)
    assert verdict.compared and "loss_mask" in verdict.high
    assert "loss_mask" in describe_run(verdict) and "usual ranges" not in describe_run(verdict)


def test_the_demo_is_compared_with_the_f1_of_healthy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (Stage(1, 100, {}), Stage(101, 200, {}, (0.2, 0.4)))
    monkeypatch.setattr("sam3_lora.monitor.run_verdict.demo_stages", lambda: stages)
    monkeypatch.setattr(healthy_ranges, "demo_stages", lambda: stages)
    verdict = verdict_at(0.04, 0.5, RunConfig())
    assert verdict.healthy_f1 == Range(0.2, 0.4) and "0.20 to 0.40" in describe_run(verdict)
    assert verdict_at(0.04).healthy_f1 is None


def test_there_is_no_verdict_before_the_first_step() -> None:
    assert judge(CONFIG, 0, {}, []) is None
