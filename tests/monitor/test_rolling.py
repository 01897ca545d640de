"""What is kept of a growing run says the same as all of it would, and stays small."""

from __future__ import annotations

import math

import pytest

from sam3_lora.monitor import rolling
from sam3_lora.monitor.diagnosis import diagnose
from sam3_lora.monitor.healthy_ranges import verdicts
from sam3_lora.monitor.rolling import MAX_STEPS, WHOLE, RollingMetrics
from tests.monitor.helpers import CONFIG, falling


def fed(rows: list[dict], portion: int = 7) -> RollingMetrics:
    found = RollingMetrics()
    for start in range(0, len(rows), portion):
        found.extend(rows[start : start + portion])
    return found


def sick(kind: str) -> list[dict]:
    """A long course with one illness, so that most of its rows are kept without their terms."""
    rows = falling(2 * WHOLE + 50)
    if kind == "not-finite":
        rows[100]["terms"]["loss_mask"] = math.nan
    elif kind == "exploding":
        for one in rows[-10:]:
            one["grad_norm"] = 1e6
    elif kind == "no-gradient":
        for one in rows[::20]:
            one["grad_norm_by_component"] = {"scoring": 0.0, "detr_decoder": 1.0}
    return rows


@pytest.mark.parametrize("kind", ["healthy", "not-finite", "exploding", "no-gradient"])
def test_what_is_said_is_what_all_rows_would_say(kind: str) -> None:
    rows = sick(kind)
    found = fed(rows)
    assert found.alerts(CONFIG) == diagnose(rows, CONFIG)
    assert found.verdicts(CONFIG) == verdicts(CONFIG, rows)
    assert [one.kind for one in found.alerts(CONFIG)] == ([] if kind == "healthy" else [kind])


def test_a_resumed_run_forgets_what_was_taken_back() -> None:
    rows = [*falling(WHOLE + 100), {"kind": "resume", "step": 50}, *falling(120)[50:]]
    assert fed(rows).verdicts(CONFIG) == verdicts(CONFIG, rows)


def test_a_very_long_run_stays_small_and_keeps_what_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "MAX_STEPS", 3 * WHOLE)
    rows = falling(10 * WHOLE)
    rows.insert(500, {"kind": "note", "step": 500, "about": "dataset-changed", "message": "It has changed."})
    rows[700]["terms"]["loss_dice"] = math.inf
    found = fed(rows, portion=100)
    assert len(found._rows) <= 3 * WHOLE + 100 < MAX_STEPS
    assert sum(bool(one.get("terms")) for one in found._rows) <= WHOLE + 1
    assert any(one["kind"] == "note" for one in found._rows)
    assert found.alerts(CONFIG)[0].step == 700
