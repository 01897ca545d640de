"""The ranges of healthy losses: what lies within which stage, and that what is stored was measured so."""

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.monitor import healthy_ranges
from sam3_lora.monitor.healthy_ranges import (
    WINDOW,
    Stage,
    demo_stages,
    expected,
    stage_at,
    verdicts,
)
from sam3_lora.monitor.messages import describe_verdict
from sam3_lora.text import amount
from scripts.healthy_stages import measure_stages, save_stages


def run(factor: float, steps: int = 30) -> list[dict]:
    rows = [
        {"kind": "step", "step": step, "total": factor * 100 / step, "terms": {"loss_mask": factor * 10 / step}}
        for step in range(1, steps + 1)
    ]
    return [*rows, {"kind": "validation", "step": steps, "total": 1e9, "terms": {"loss_mask": 1e9}}]


def test_ranges_span_the_means_of_all_runs_stage_by_stage():
    stages = measure_stages([run(1), run(2), run(1.5, steps=25)])
    assert [(stage.first, stage.last) for stage in stages] == [(1, 10), (11, 20), (21, 25)]
    low, high = stages[0].ranges["total"]
    assert low == pytest.approx(sum(100 / step for step in range(1, 11)) / 10)  # the lower run at step 10
    assert high == pytest.approx(200)  # the higher one at step 1
    assert stages[2].ranges["total"][0] == pytest.approx(sum(100 / step for step in range(6, 26)) / WINDOW)
    assert stages[0].ranges["loss_mask"] == pytest.approx((low / 10, high / 10))


def test_the_runs_that_ranges_were_measured_on_are_healthy_at_every_step(monkeypatch):
    runs = [run(factor) for factor in (1, 1.2, 2)]
    monkeypatch.setattr(healthy_ranges, "demo_stages", lambda: measure_stages(runs))
    for rows in runs:
        for step in range(1, 31):
            found = verdicts(RunConfig(), rows[:step])
            assert {verdict.level for verdict in found.values()} == {"healthy"}
            assert all(verdict.expected.low <= verdict.value <= verdict.expected.high for verdict in found.values())


def test_the_stage_of_a_step(tmp_path):
    stages = (Stage(1, 10, {}), Stage(11, 40, {}))
    assert [stage_at(stages, step).last for step in (1, 10, 11, 40, 41, 999)] == [10, 10, 40, 40, 40, 40]
    save_stages(measure_stages([run(1)]), tmp_path / "healthy.json", about="a test")
    assert "loss_mask" in (tmp_path / "healthy.json").read_text()


def test_the_demo_has_a_range_for_every_term_at_every_step_and_no_other_data_has():
    config, row = RunConfig(), {"kind": "step", "step": 1, "terms": dict.fromkeys(demo_stages()[0].ranges, 1.0)}
    for step in (1, 100, 640, 10_000):
        ranges = expected(config, row | {"step": step})
        assert set(ranges) == set(demo_stages()[0].ranges)
        assert all(0 <= one.low <= one.high for one in ranges.values())
    early, late = (expected(config, row | {"step": step})["total"] for step in (1, 640))
    assert late.high < early.low  # a healthy run learns
    assert expected(config.with_settings({"data.path": "elsewhere"}), row) == {}


def test_a_term_without_weight_is_switched_off_and_not_healthy():
    config = RunConfig().with_settings({"loss.loss_dice": 0.0})
    row = {"kind": "step", "step": 1, "epoch": 1, "total": 5.0, "terms": {"loss_mask": 5.0, "loss_dice": 0.0}}
    verdict = verdicts(config, [row])["loss_dice"]
    assert (verdict.level, verdict.expected) == ("off", None)
    assert "Switched off" in describe_verdict(verdict)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.01234, "0.0123"),
        (12.34, "12.3"),
        (999.4, "999"),
        (999.6, "1,000"),
        (159224.4, "159,224"),
        (1.6e12, "1.6e+12"),
    ],
)
def test_losses_are_written_as_people_read_them(value, words):
    assert amount(value) == words
    assert amount(-value) == f"-{words}"
