"""From rows of metrics to what the training chart is given: sums, smoothing, thinning, bounded memory."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sam3_lora.monitor.curves import COMPARED, POINTS_PER_CURVE, SHOWN, STEPS, TIME, compare, draw
from sam3_lora.monitor.history import (
    AUXILIARY,
    MAIN,
    ONE_TO_MANY,
    History,
    by_group,
    downsample,
    last_step_table,
    smooth,
)
from sam3_lora.monitor.terms import split_name


def terms_of(step: int) -> dict[str, float]:
    """Names as the loss gives them, values that differ in every term and step."""
    names = [f"{term}{group}" for term in ("loss_bbox", "loss_ce") for group in ("", "_aux_0", "_aux_4", "_o2m")]
    names += ["loss_mask", "loss_mask_o2m", "presence_loss", "loss_bbox_aux_0_o2m"]
    return {name: 1 + index + 100 / step for index, name in enumerate(names)}


def row(step: int, **changes: object) -> dict:
    terms = terms_of(step)
    return {
        "kind": "step",
        "step": step,
        "epoch": 1,
        "total": sum(terms.values()),
        "terms": terms,
        "raw": {name: value / 2 for name, value in terms.items()},
        "lr": 1e-4,
        "grad_norm": 2.0,
        "images_per_second": 3.0,
        "memory_bytes": step * 10**9,
        "time": 10.0 * step,
    } | changes


def history_of(steps: int, **options: int) -> History:
    history = History(**options)
    history.extend([row(step) for step in range(1, steps + 1)])
    return history


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss_mask", ("loss_mask", MAIN)),
        ("presence_loss", ("presence_loss", MAIN)),
        ("loss_bbox_aux_3", ("loss_bbox", AUXILIARY)),
        ("loss_ce_o2m", ("loss_ce", ONE_TO_MANY)),
        ("loss_ce_aux_10_o2m", ("loss_ce", ONE_TO_MANY)),
        ("loss_ce_o2m_aux_10", ("loss_ce", ONE_TO_MANY)),
    ],
)
def test_terms_are_told_apart_by_their_names(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


def test_groups_together_are_the_total() -> None:
    terms = terms_of(7)
    sums = by_group(terms, sum)
    assert math.isclose(sum(sums.values()), sum(terms.values()))
    assert math.isclose(sums["loss_bbox", AUXILIARY], terms["loss_bbox_aux_0"] + terms["loss_bbox_aux_4"])


def test_table_of_the_last_step_adds_up() -> None:
    terms = terms_of(3)
    *rows, total = last_step_table(terms, {"loss_mask": 0.25})
    assert math.isclose(sum(entry["weighted"] for entry in rows), total["weighted"])
    assert math.isclose(total["weighted"], sum(terms.values()))
    assert math.isclose(sum(entry["share"] for entry in rows), 1)
    mask = next(entry for entry in rows if entry["term"] == "loss_mask")
    assert mask[AUXILIARY] is None and mask["raw"] == 0.25


def test_table_of_a_loss_of_zero_has_no_shares() -> None:
    assert all(entry["share"] == 0 for entry in last_step_table({"loss_mask": 0.0}, {}))


@pytest.mark.parametrize("shown", ["Weighted terms", "Every weighted term", "Sums by layer and queries"])
def test_curves_beside_the_total_sum_up_to_it(shown: str) -> None:
    total, *others = draw(history_of(20), shown).curves
    assert total["id"] == "total"
    np.testing.assert_allclose(np.sum([curve["y"] for curve in others], axis=0), total["y"], rtol=1e-4)


@pytest.mark.parametrize("shown", ["Shares of the total", "Shares by layer and queries"])
def test_shares_add_up_to_a_hundred_percent(shown: str) -> None:
    curves = draw(history_of(20), shown).curves
    np.testing.assert_allclose(np.sum([curve["y"] for curve in curves], axis=0), 100, rtol=1e-3)


def test_raw_values_are_means_over_the_layers_of_a_group() -> None:
    curves = {curve["id"]: curve["y"][-1] for curve in draw(history_of(7), "Every raw value").curves}
    terms = terms_of(7)  # raw values are half of them
    assert curves["loss_mask-main"] == pytest.approx(terms["loss_mask"] / 2, rel=1e-4)
    in_layers = (terms["loss_bbox_aux_0"] + terms["loss_bbox_aux_4"]) / 4
    assert curves["loss_bbox-auxiliary"] == pytest.approx(in_layers, rel=1e-4)


@pytest.mark.parametrize("shown", SHOWN)
def test_curve_ids_are_unique_and_stay_while_the_run_grows(shown: str) -> None:
    short, long = ([curve["id"] for curve in draw(history_of(n), shown, smoothing=0.5).curves] for n in (2, 50))
    assert short == long
    assert len(set(short)) == len(short)


def test_smoothing_keeps_the_measured_values_as_a_faint_line() -> None:
    faint, smoothed, *_ = draw(history_of(30), "Weighted terms", smoothing=0.9).curves
    measured, *_ = draw(history_of(30), "Weighted terms").curves
    assert faint["faint"] and faint["of"] == smoothed["id"]
    assert faint["y"] == measured["y"] != smoothed["y"]


def test_what_does_not_scatter_is_never_smoothed() -> None:
    for shown in ("Memory", "Learning rate"):
        assert draw(history_of(30), shown, smoothing=0.9) == draw(history_of(30), shown)


def test_along_the_time_a_pause_between_two_processes_does_not_count() -> None:
    history = History()
    history.extend([row(step, time=1_000.0 + 60 * step) for step in (1, 2, 3)])
    history.extend([{"kind": "resume", "step": 2}, row(3, time=90_000.0), row(4, time=90_060.0)])
    history.extend([{"kind": "validation", "step": 4, "total": 5.0, "time": 90_066.0}])
    picture = draw(history, "Weighted terms", along=TIME)
    total, *_, validation = picture.curves
    assert picture.x_title == "Minutes of training"
    assert total["x"] == [0, 1, 1, 2], "how long the first step after a resume took is not known"
    assert validation["x"] == [pytest.approx(2.1)]


def test_long_runs_are_shown_in_hours() -> None:
    history = History()
    history.extend([row(1, time=0.0), row(2, time=4 * 3600.0)])
    picture = draw(history, "Learning rate", along=TIME)
    assert picture.x_title == "Hours of training" and picture.curves[0]["x"] == [0, 4]


@pytest.mark.parametrize("shown", COMPARED)
@pytest.mark.parametrize("along", [STEPS, TIME])
def test_runs_are_compared_by_one_curve_each(shown: str, along: str) -> None:
    histories = {"one": history_of(5), "other": history_of(9), "empty": History()}
    for history in list(histories.values())[:2]:
        history.extend([{"kind": "validation", "step": 5, "total": 3.0, "f1_50": 0.25, "cgf1": 0.1, "time": 50.0}])
    curves = compare(histories, shown, along=along).curves
    assert [curve["name"] for curve in curves] == ["one", "other", "empty"]
    assert len({curve["color"] for curve in curves}) == 3 and len({curve["id"] for curve in curves}) == 3
    assert curves[0]["y"] and not curves[2]["x"]
    json.dumps(curves, allow_nan=False)


def test_the_table_of_a_chart_has_a_row_for_each_evaluation_and_the_last_step() -> None:
    history = history_of(25)
    for step in (10, 20):
        history.extend([{"kind": "validation", "step": step, "total": 3.0, "f1_50": 0.25, "cgf1": None}])
    overview = next(name for name in SHOWN if any(c["id"] == "validation" for c in draw(history, name).curves))
    picture = draw(history, overview, smoothing=0.5)
    rows, names = picture.rows(), {curve["id"]: curve["name"] for curve in picture.curves}
    assert [row["Step"] for row in rows] == [25, 20, 10]
    assert [row[names["validation"]] for row in rows] == [None, 3.0, 3.0]
    total = next(curve for curve in picture.curves if curve["id"] == "total")
    assert [row[names["total"]] for row in rows] == [total["y"][step - 1] for step in (25, 20, 10)]
    assert 50 <= len(draw(history_of(3_000), overview).rows()) <= 70, "no more than one reads"
    assert draw(History(), overview).rows() == []


def test_f1_and_cgf1_are_curves_as_far_as_they_are_defined() -> None:
    history = history_of(30)
    numbers = [(10, 0.25, None), (20, 0.5, 0.125), (30, None, 0.25)]
    for step, f1, cgf1 in numbers:
        history.extend([{"kind": "validation", "step": step, "total": 3.0, "f1_50": f1, "cgf1": cgf1}])
    curves = draw(history, "Validation F1 and cgF1", smoothing=0.9).curves
    assert [(curve["name"], curve["y"]) for curve in curves] == [
        ("F1", [0.25, 0.5, None]),
        ("cgF1", [None, 0.125, 0.25]),
    ]


def test_the_f1_of_boxes_of_earlier_versions_is_a_curve_of_its_own() -> None:
    history = history_of(30)
    history.extend([{"kind": "validation", "step": 30, "total": 3.0, "box_f1_50": 0.25}])
    (curve,) = draw(history, "Validation F1 and cgF1").curves
    assert (curve["name"], curve["y"]) == ("F1 of boxes", [0.25])
    assert compare({"it": history}, "Validation F1").curves[0]["y"] == [None], "it is another number"


def test_smoothing_of_a_constant_is_the_constant_from_the_first_step_on() -> None:
    np.testing.assert_allclose(smooth(np.arange(50), np.full(50, 3.0), 0.97), 3.0)


def test_smoothing_is_a_weighted_mean_over_steps() -> None:
    smoothed = smooth(np.array([1, 2, 4]), np.array([1.0, 2.0, 5.0]), 0.5)
    # The weights halve per step; step 4 is two steps from step 2 and three from step 1.
    np.testing.assert_allclose(smoothed[2], (5 + 2 / 4 + 1 / 8) / (1 + 1 / 4 + 1 / 8))


def test_a_value_that_is_not_finite_does_not_spoil_the_smoothed_curve() -> None:
    values = np.array([1.0, math.nan, math.inf, 1.0])
    smoothed = smooth(np.arange(4), values, 0.9)
    assert np.isnan(smoothed[1:3]).all()
    assert smoothed[3] == pytest.approx(1.0)


def test_downsampling_keeps_ends_and_extremes_and_stays_within_its_limit() -> None:
    values = np.random.default_rng(0).normal(size=12_345)
    kept = downsample(values, 1_000)
    assert len(kept) <= 1_000 and (np.diff(kept) > 0).all()
    assert {0, 12_344, int(values.argmin()), int(values.argmax())} <= set(kept.tolist())


def test_downsampling_leaves_a_short_curve_alone() -> None:
    assert downsample(np.zeros(10), 10).tolist() == list(range(10))


def test_a_growing_curve_keeps_the_points_it_had() -> None:
    values = np.random.default_rng(1).normal(size=9_000)
    before, after = downsample(values[:8_990], 1_000), downsample(values, 1_000)
    assert len(set(before.tolist()) - set(after.tolist())) <= 2  # only its end may change


def test_what_the_chart_gets_is_plain_json() -> None:
    history = history_of(2 * POINTS_PER_CURVE)
    history.extend([row(2 * POINTS_PER_CURVE + 1, total=math.nan)])
    curves = [curve for shown in SHOWN for curve in draw(history, shown, smoothing=0.5).curves]
    json.dumps(curves, allow_nan=False)
    assert max(len(curve["x"]) for curve in curves) <= POINTS_PER_CURVE


def test_resuming_replaces_the_steps_after_the_checkpoint() -> None:
    history = history_of(10)
    history.extend([{"kind": "validation", "step": 10, "total": 5.0}, {"kind": "resume", "step": 6}])
    assert history.steps == list(range(1, 7)) and history.validation == []
    history.extend([row(7, total=-1.0)])
    assert history.steps[-1] == 7 and history.totals[-1] == -1.0
    assert all(len(column) == 7 for column in history.columns.values())


def test_terms_that_come_late_or_go_leave_gaps() -> None:
    history = History()
    history.extend(
        [row(1, terms={"loss_mask": 2.0}), row(2, terms={"loss_mask": 1.0, "loss_ce": 3.0}), row(3, terms={})]
    )
    assert history.columns["loss_mask", MAIN][:2] == [2.0, 1.0] and math.isnan(history.columns["loss_mask", MAIN][2])
    assert math.isnan(history.columns["loss_ce", MAIN][0]) and history.columns["loss_ce", MAIN][1] == 3.0
    json.dumps(draw(history, "Weighted terms").curves, allow_nan=False)


def test_memory_stays_bounded_and_spikes_stay_visible() -> None:
    history = History(limit=100)
    for start in range(1, 2_001, 50):
        history.extend([row(step, total=1e6 if step == 777 else 1.0) for step in range(start, start + 50)])
    assert len(history.steps) <= 100
    assert 777 in history.steps
    assert history.steps == sorted(history.steps) and history.steps[-1] == 2_000
    assert all(len(column) == len(history.steps) for column in history.columns.values())
