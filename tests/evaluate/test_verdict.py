"""Intervals, alarms and the verdict's sentence on made cases."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.evaluate import bootstrap
from sam3_lora.evaluate.report import Difference, Kept
from sam3_lora.evaluate.verdict import alarms, better, verdict


def difference(metric="map_segm", base=0.2, adapter=0.5, low=0.2, high=0.4, subject="all", name="") -> Difference:
    return Difference(subject, name, metric, base, adapter, adapter - base, low, high)


def test_the_interval_of_a_mean_is_that_of_statistics() -> None:
    values = np.random.default_rng(1).normal(3, 2, 200)
    drawn = bootstrap.draws(200, 4000)
    low, high = bootstrap.interval((bootstrap.weights_of(drawn) @ values) / 200)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_the_same_split_is_drawn_for_both_models() -> None:
    assert (bootstrap.draws(30, 5) == bootstrap.draws(30, 5)).all()
    assert bootstrap.weights_of(bootstrap.draws(30, 5)).sum(1).tolist() == [30] * 5


def test_what_is_hardly_ever_defined_has_no_interval() -> None:
    assert bootstrap.interval(np.array([1, np.nan, np.nan])) is None
    assert bootstrap.interval(np.array([1, 1, np.nan])) == (1, 1)


def test_large_splits_are_drawn_less_often_but_often_enough() -> None:
    assert bootstrap.resamples_for(24, 4) == bootstrap.RESAMPLES
    assert bootstrap.resamples_for(10**6, 80) == bootstrap.MIN_RESAMPLES


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("map_segm", 0.1, 0.3, True),
        ("map_segm", -0.3, -0.1, False),
        ("map_segm", -0.1, 0.3, None),
        ("false_firing", -0.3, -0.1, True),
        ("false_firing", 0.1, 0.3, False),
    ],
)
def test_better_is_what_the_whole_interval_says(metric: str, low: float, high: float, expected: bool | None) -> None:
    assert better(difference(metric, 0.5, 0.5 + (low + high) / 2, low, high)) is expected


PHRASES = [difference(subject="phrase", name="crack"), difference(subject="phrase", name="joint")]
WORSE_JOINT = difference(subject="phrase", name="joint", base=0.5, adapter=0.2, low=-0.4, high=-0.2)
FORGOTTEN = Kept(20, 6, 0.2, 0.4, {"car": [15, 3], "tree": [5, 3]})


def test_nothing_is_alarming_where_nothing_got_worse() -> None:
    assert alarms([difference(), *PHRASES], Kept(20, 19, 0.85, 1.0, {}), "map_segm") == []


@pytest.mark.parametrize(
    ("differences", "kept", "kind", "word"),
    [
        ([difference(), PHRASES[0], WORSE_JOINT], None, "phrase", "joint"),
        ([difference(subject="size", name="small", base=0.5, adapter=0.2, low=-0.4, high=-0.2)], None, "size", "small"),
        ([difference("false_firing", 0.1, 0.4, 0.2, 0.4)], None, "metric", "fires"),
        ([difference("cgf1", 0.5, 0.2, -0.4, -0.2)], None, "metric", "cgF1"),
        ([difference()], FORGOTTEN, "forgotten", "forgot 14 of 20"),
    ],
)
def test_an_alarm_for_what_got_worse(differences: list, kept: Kept | None, kind: str, word: str) -> None:
    (alarm,) = alarms(differences, kept, "map_segm")
    assert alarm.kind == kind and word in alarm.short
    assert alarm.message.endswith(".")


def test_no_alarm_on_what_chance_explains_or_hardly_anything_shows() -> None:
    wide = difference(subject="phrase", name="joint", base=0.5, adapter=0.4, low=-0.3, high=0.1)
    unsure = difference(subject="size", name="small", base=0.5, adapter=0.4, low=None, high=None)
    assert alarms([difference(), PHRASES[0], wide, unsure], Kept(3, 0, 0.0, 0.0, {"car": [3, 0]}), "map_segm") == []


def test_the_only_phrase_gives_no_second_alarm() -> None:
    assert alarms([WORSE_JOINT], None, "map_segm") == []


def sentence(one: Difference, found=(), images: int = 40) -> str:
    said = verdict([one], found, "map_segm", images, one.base)
    assert said.endswith(".") and "\n" not in said
    return said


def test_the_verdict_follows_from_interval_and_alarms() -> None:
    (alarm,) = alarms([difference(), PHRASES[0], WORSE_JOINT], None, "map_segm")
    assert sentence(difference()).startswith("Worth it: the adapter raises mask mAP from 0.200 to 0.500 (+0.300, 95 %")
    assert "nothing else that was measured got worse" in sentence(difference())
    assert sentence(difference(), [alarm]).startswith("Mixed") and "but joint got worse" in sentence(
        difference(), [alarm]
    )
    lower = difference(base=0.5, adapter=0.2, low=-0.4, high=-0.2)
    assert sentence(lower).startswith("Not worth it: the adapter lowers")
    assert sentence(difference(base=0.2, adapter=0.25, low=-0.1, high=0.2)).startswith("Not decided")
    assert sentence(difference(base=0.3, adapter=0.3, low=0.0, high=0.0)).startswith("No difference")


def test_four_alarms_are_not_all_listed() -> None:
    many = alarms([difference(subject="size", name=name, low=-0.4, high=-0.2) for name in "abcd"], None, "map_segm")
    assert len(many) == 4
    assert "and 1 more" in sentence(difference(), many)


def test_without_an_adapter_the_verdict_says_so() -> None:
    said = verdict([], [], "map_segm", 24, 0.25)
    assert "base model reaches a mask mAP of 0.250" in said and "no adapter" in said


def test_an_adapter_that_finds_nothing_at_half_is_not_worth_it_however_surely_it_is_better() -> None:
    found_nothing = [difference(base=0, adapter=0.02, low=0.01, high=0.03), difference("f1_50", 0, 0.01, 0.0, 0.02)]
    said = verdict(found_nothing, [], "map_segm", 40, 0)
    assert said.startswith("Too little learned") and "F1 0.010" in said


def test_an_interval_that_begins_at_what_is_printed_as_zero_decides_nothing() -> None:
    assert better(difference(base=0, adapter=0.002, low=0.0001, high=0.009)) is None
