"""Each sick pattern is fed and named; a healthy run gets no name."""

import math

import pytest

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.monitor import healthy_ranges
from sam3_lora.monitor.diagnosis import diagnose
from sam3_lora.monitor.healthy_ranges import Range, Stage, expected, verdicts
from sam3_lora.monitor.messages import describe_alert, describe_verdict
from scripts.healthy_stages import save_stages
from tests.monitor.helpers import CONFIG, RAW, falling, row
from tests.train.helpers import train


def validation(step, total):
    return {"kind": "validation", "step": step, "total": total, "terms": {}}


def kinds(rows, config=CONFIG):
    return [alert.kind for alert in diagnose(rows, config)]


SICK = {
    "no-objects": [
        row(s, raw=dict.fromkeys(RAW, 0.0), objects=0, total=3e-5, terms={"presence_loss": 3e-5}) for s in range(1, 21)
    ],
    "huge-and-flat": [row(s, factor=100 + s % 3) for s in range(1, 41)],
    "boxes-far-out": [row(s, raw={"loss_bbox": 400.0 - s}) for s in range(1, 15)],
    "one-term-dominates": [row(s, raw={"loss_dice": 500.0 - 10 * s}) for s in range(1, 25)],
    "presence-always": [row(s, raw={"presence_loss": 0.001}, negatives=0, phrases=4) for s in range(1, 31)],
    "no-gradient": [
        row(s, **({"grad_norm_by_component": {"scoring": 0.0, "detr_decoder": 1.0}} if s in (1, 20) else {}))
        for s in range(1, 25)
    ],
    "exploding": [*falling(60), *(row(s, grad_norm=500.0) for s in range(61, 75))],
    "diverged": [*falling(100), *(row(s, factor=60) for s in range(101, 301))],
    "plateau": [row(s, factor=1 + 0.3 * math.sin(7 * s)) for s in range(1, 901)],
    "overfitting": [*falling(400), *(validation(100 * n, v) for n, v in enumerate((60, 50, 55, 58, 61), start=1))],
    "not-finite": [
        *falling(12),
        {"kind": "note", "about": "not-finite", "step": 13, "message": "The loss is not finite.", "images": ["a.png"]},
    ],
}


@pytest.mark.parametrize("kind", SICK)
def test_each_sick_pattern_is_named_with_cause_and_fix(kind):
    alerts = {alert.kind: alert for alert in diagnose(SICK[kind], CONFIG)}
    assert kind in alerts
    assert alerts[kind].step <= max(one["step"] for one in SICK[kind])
    assert all(sentence.endswith(".") for sentence in describe_alert(alerts[kind], CONFIG))


def test_what_is_not_finite_is_named_with_its_images():
    (alert,) = diagnose(SICK["not-finite"], CONFIG)
    assert (alert.severity, alert.step, alert.images) == ("error", 13, ("a.png",))
    text = describe_alert(alert, CONFIG)
    assert "a.png" in text.fix and "new run with a lower training.learning_rate" in text.fix
    assert "fp16" not in text.cause and "bf16" not in text.fix
    fp16 = CONFIG.with_settings({"training.precision": "fp16"})
    assert "fp16" in describe_alert(alert, fp16).cause and "bf16" in describe_alert(alert, fp16).fix


def test_the_three_bugs_that_this_project_exists_for_are_errors_within_a_minute():
    for kind in ("no-objects", "huge-and-flat", "boxes-far-out"):
        assert any(s.kind == kind and s.severity == "error" for s in diagnose(SICK[kind][:20], CONFIG)), kind


def test_a_nan_in_the_rows_is_seen_even_without_a_note():
    assert kinds([*falling(5), row(6, total=math.nan)]) == ["not-finite"]


def test_a_healthy_course_has_no_symptom_at_any_length():
    rows = falling(1500)
    for row_ in rows[::20]:
        row_["grad_norm_by_component"] = {"scoring": 0.2, "detr_decoder": 1.0}
    rows += [validation(100 * n, 200 / n) for n in range(1, 16)]
    for length in (1, 5, 12, 30, 100, 500, len(rows)):
        assert kinds(rows[:length]) == [], length


@pytest.mark.parametrize("name", ["f1_50", "box_f1_50"], ids=["masks", "boxes, as earlier versions wrote it"])
def test_a_rising_validation_loss_is_no_alarm_while_more_is_found(name):
    losses, found = (60, 50, 55, 58, 61), (0.1, 0.3, 0.35, 0.4, 0.4)
    both = zip(losses, found, strict=True)
    rows = [validation(100 * n, loss) | {name: f1} for n, (loss, f1) in enumerate(both, start=1)]
    assert kinds([*falling(400), *rows]) == []
    worse = [row | {name: min(row[name], 0.3)} for row in rows]
    assert kinds([*falling(400), *worse]) == ["overfitting"]


@pytest.mark.parametrize("name", ["f1_50", "box_f1_50"], ids=["masks", "boxes, as earlier versions wrote it"])
def test_a_run_that_has_ended_and_finds_nothing_is_told_so_and_no_other(name):
    ended = validation(40, 30) | {"epoch": CONFIG.training.epochs, "raw": {"loss_bbox": 0.3}, name: 0.0}
    assert kinds([*falling(40), ended]) == ["finds-nothing"]
    assert kinds([*falling(40), ended | {"epoch": 1}]) == []  # not over yet
    assert kinds([*falling(40), ended | {name: 0.1}]) == []
    assert kinds([*falling(40), ended | {"raw": {}}]) == []  # nothing there to be found
    assert kinds([*falling(40), ended | {name: None}]) == []  # not defined


def test_a_run_at_rest_at_the_end_of_its_schedule_is_no_plateau():
    assert kinds([dict(one, lr=1e-5) for one in SICK["plateau"]]) == []


def test_rows_before_a_resume_do_not_count():
    sick = row(12, total=math.nan)
    assert kinds([*falling(11), sick, {"kind": "resume", "step": 11}, row(12)]) == []


def test_a_dataset_of_mostly_empty_images_is_not_sick():
    rows = [row(s) if s % 9 == 0 else row(s, raw=dict.fromkeys(RAW, 0.0), objects=0, total=4.0) for s in range(1, 200)]
    for length in (50, 199):
        assert not {"nothing-matched", "no-objects"} & set(kinds(rows[:length]))


def test_a_dataset_of_almost_only_empty_images_is_never_an_error():
    empty = {"objects": 0, "total": 0.03, "raw": {}, "terms": {"presence_loss": 0.03}}
    rows = [row(s) | (empty if s % 25 else {"total": 5.0, "objects": 2}) for s in range(1, 101)]
    for length in range(10, 101):
        assert all(one.severity != "error" for one in diagnose(rows[:length], CONFIG)), length
    for length in range(25, 101):
        assert not {"nothing-matched", "no-objects"} & set(kinds(rows[:length])), length


def test_an_explosion_is_named_as_long_as_it_lasts_and_however_slowly_it_comes():
    lasting = [*falling(60), *(row(s, grad_norm=500.0) for s in range(61, 1000))]
    assert all("exploding" in kinds(lasting[:length]) for length in (80, 300, 999))
    assert "exploding" in kinds([one | {"grad_norm": 1.02 ** one["step"]} for one in falling(400)])


def test_a_total_that_rose_is_not_called_flat_and_one_that_fell_and_is_huge_still_is():
    risen = {one.kind: one for one in diagnose(SICK["diverged"], CONFIG)}
    assert risen["diverged"].value > 3 * risen["diverged"].reference and "huge-and-flat" not in risen
    fallen = [row(s, factor=100_000 if s <= 10 else 50) for s in range(1, 1001)]
    assert "huge-and-flat" in kinds(fallen) and "diverged" not in kinds(fallen)


def test_a_gradient_that_dies_later_is_named_and_a_rare_one_is_not_dead():
    def looks(alive):
        rows = falling(400)
        for one in rows[::20]:
            one["grad_norm_by_component"] = {"scoring": float(alive(one["step"])), "detr_decoder": 1.0}
        return diagnose(rows, CONFIG)

    (died,) = looks(lambda step: step <= 20)
    assert (died.kind, died.names, died.since) == ("gradient-vanished", ("scoring",), 1)
    assert died.severity == "warning"
    assert not looks(lambda step: step % 160 == 1)


def test_a_low_total_beside_high_terms_is_not_called_easy():
    raw = {"loss_bbox": 9.0, "loss_mask": 0.0, "loss_dice": 0.1}
    found = verdicts(CONFIG, [row(s, raw=raw) for s in range(1, 11)])
    assert (found["total"].level, found["loss_bbox"].level) == ("low", "high")
    assert found["total"].others_high and not found["loss_bbox"].others_high
    assert "easy" not in describe_verdict(found["total"]) and "not a good sign" in describe_verdict(found["total"])


def test_rows_whose_terms_differ_have_verdicts_too():
    rows = [row(1), row(2, terms={}), row(3, terms={"other": 1.0}), row(4)]
    for length in range(1, 5):
        assert verdicts(CONFIG, rows[:length])["total"]
        diagnose(rows[:length] * 10, CONFIG)


def test_rows_of_an_earlier_version_are_read():
    new = ("objects", "phrases", "negatives")
    rows = [{name: value for name, value in one.items() if name not in new} for one in falling(60)]
    assert kinds(rows) == []


def test_a_real_run_has_no_symptom_and_its_terms_have_verdicts(config, only_steps):
    run = train(config, training__max_steps=24, training__learning_rate=2e-3)
    rows = run.metrics()[0]
    assert diagnose(rows, config) == []
    found = verdicts(config, rows)
    assert next(iter(found)) == "total" and found["total"].trend == "falling"
    assert all(describe_verdict(verdict).endswith(".") for verdict in found.values() if verdict.change is not None)


def test_sam3_is_compared_by_epoch_and_weight():
    at_first, later = row(1), row(900, epoch=21)
    total = expected(CONFIG, at_first)["total"]
    assert (total.low, total.high) == pytest.approx((300, 600))
    assert expected(CONFIG, later)["total"].high < 100
    assert expected(CONFIG, at_first)["loss_mask"] == Range(20, 100)
    doubled = CONFIG.with_settings({"loss.loss_mask": 400.0})
    assert expected(doubled, at_first)["loss_mask"] == Range(40, 200)
    assert "total" not in expected(doubled, at_first)
    assert "presence_loss" not in expected(CONFIG, at_first)


def test_the_demo_is_compared_by_step_with_what_was_measured(tmp_path, monkeypatch):
    save_stages((Stage(1, 10, {"total": (90, 110), "loss_mask": (40, 60)}),), tmp_path / "h.json", "test")
    monkeypatch.setattr(healthy_ranges, "DEMO_RANGES", tmp_path / "h.json")
    healthy_ranges.demo_stages.cache_clear()
    try:
        assert expected(RunConfig(), row(3)) == {"total": Range(90, 110), "loss_mask": Range(40, 60)}
        halved = RunConfig().with_settings({"loss.loss_mask": 100.0})
        assert expected(halved, row(3)) == {"loss_mask": Range(20, 30)}
        assert expected(RunConfig().with_settings({"data.path": "other"}), row(3)) == {}
        levels = {v.term: v.level for v in verdicts(RunConfig(), [row(s) for s in range(1, 11)]).values()}
        assert levels["loss_mask"] == "healthy" and levels["loss_bbox"] == "unknown"
        high = verdicts(RunConfig(), [row(s, factor=3) for s in range(1, 11)])["loss_mask"]
        assert high.level == "high" and "above the usual 40 to 60" in describe_verdict(high)
    finally:
        healthy_ranges.demo_stages.cache_clear()


def test_the_demo_default_is_what_the_ranges_are_for():
    assert RunConfig().model.base == DEMO == RunConfig().data.path
