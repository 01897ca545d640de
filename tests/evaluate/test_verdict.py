"""Confidence intervals, alerts and verdicts on made-up cases."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.evaluate import bootstrap
from sam3_lora.evaluate.report import Difference, Retention
from sam3_lora.evaluate.text.messages import alert_phrase, alert_sentence, verdict_sentence
from sam3_lora.evaluate.verdict import VerdictKind, find_alerts, improvement, judge


def difference(metric="map_segm", base=0.2, adapter=0.5, low=0.2, high=0.4, subject="all", name="") -> Difference:
    return Difference(subject, name, metric, base, adapter, adapter - base, low, high)


def test_the_interval_of_a_mean_is_that_of_statistics() -> None:
    values = np.random.default_rng(1).normal(3, 2, 200)
    samples = bootstrap.resample(200, 4000)
    low, high = bootstrap.confidence_interval((bootstrap.image_weights(samples) @ values) / 200)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_the_same_split_is_drawn_for_both_models() -> None:
    assert (bootstrap.resample(30, 5) == bootstrap.resample(30, 5)).all()
    assert bootstrap.image_weights(bootstrap.resample(30, 5)).sum(1).tolist() == [30] * 5


def test_what_is_hardly_ever_defined_has_no_interval() -> None:
    assert bootstrap.confidence_interval(np.array([1, np.nan, np.nan])) is None
    assert bootstrap.confidence_interval(np.array([1, 1, np.nan])) == (1, 1)


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
def test_improvement_is_what_the_whole_interval_says(
    metric: str, low: float, high: float, expected: bool | None
) -> None:
    assert improvement(difference(metric, 0.5, 0.5 + (low + high) / 2, low, high)) is expected


PHRASES = [difference(subject="phrase", name="crack"), difference(subject="phrase", name="joint")]
WORSE_JOINT = difference(subject="phrase", name="joint", base=0.5, adapter=0.2, low=-0.4, high=-0.2)
FORGOTTEN = Retention(20, 6, 0.2, 0.4, {"car": [15, 3], "tree": [5, 3]})


def test_no_alert_where_nothing_got_worse() -> None:
    assert find_alerts([difference(), *PHRASES], Retention(20, 19, 0.85, 1.0, {}), "map_segm") == []


@pytest.mark.parametrize(
    ("differences", "retention", "kind", "phrase"),
    [
        ([difference(), PHRASES[0], WORSE_JOINT], None, "phrase", "joint got worse"),
        (
            [difference(subject="size", name="small", base=0.5, adapter=0.2, low=-0.4, high=-0.2)],
            None,
            "size",
            "small objects got worse",
        ),
        ([difference("false_firing", 0.1, 0.4, 0.2, 0.4)], None, "metric", "fires more often"),
        ([difference("cgf1", 0.5, 0.2, -0.4, -0.2)], None, "metric", "cgF1 fell"),
        ([difference()], FORGOTTEN, "forgotten", "14 of 20"),
    ],
)
def test_an_alert_for_what_got_worse(differences: list, retention: Retention | None, kind: str, phrase: str) -> None:
    (alert,) = find_alerts(differences, retention, "map_segm")
    assert alert.kind == kind
    assert (alert.difference, alert.retention) == (None if retention else differences[-1], retention)
    assert phrase in alert_phrase(alert)
    assert alert_sentence(alert).endswith(".")


def test_no_alert_where_chance_explains_it_or_there_is_too_little_data() -> None:
    wide = difference(subject="phrase", name="joint", base=0.5, adapter=0.4, low=-0.3, high=0.1)
    unsure = difference(subject="size", name="small", base=0.5, adapter=0.4, low=None, high=None)
    assert (
        find_alerts([difference(), PHRASES[0], wide, unsure], Retention(3, 0, 0.0, 0.0, {"car": [3, 0]}), "map_segm")
        == []
    )


def test_the_only_phrase_gives_no_second_alert() -> None:
    assert find_alerts([WORSE_JOINT], None, "map_segm") == []


def judged(one: Difference, alerts=(), images: int = 40):
    verdict = judge([one], alerts, "map_segm", images, one.base)
    said = verdict_sentence(verdict)
    assert said.endswith(".") and "\n" not in said
    return verdict.kind, said


def test_the_verdict_follows_from_interval_and_alerts() -> None:
    (alert,) = find_alerts([difference(), PHRASES[0], WORSE_JOINT], None, "map_segm")
    kind, said = judged(difference())
    assert kind == VerdictKind.WORTH_IT
    assert said.startswith("Worth it: the adapter raises mask mAP from 0.200 to 0.500 (+0.300, 95 % interval +0.200 to")
    kind, said = judged(difference(), [alert])
    assert kind == VerdictKind.MIXED and said.startswith("Mixed") and "but joint got worse" in said
    assert judged(difference(base=0.5, adapter=0.2, low=-0.4, high=-0.2))[0] == VerdictKind.NOT_WORTH_IT
    assert judged(difference(base=0.2, adapter=0.25, low=-0.1, high=0.2))[0] == VerdictKind.NOT_SIGNIFICANT
    assert judged(difference(base=0.3, adapter=0.3, low=0.0, high=0.0))[0] == VerdictKind.NO_DIFFERENCE
    assert judged(difference(low=None, high=None), images=1)[0] == VerdictKind.TOO_FEW_IMAGES
    undefined = Difference("all", "", "map_segm", None, 0.5, None)
    assert judged(undefined)[0] == VerdictKind.UNDEFINED


def test_forgetting_that_routing_prevents_does_not_spoil_the_verdict_but_is_said() -> None:
    (alert,) = find_alerts([difference()], FORGOTTEN, "map_segm", Retention(20, 19, 0.9, 1.0, {}))
    kind, said = judged(difference(), [alert])
    assert kind == VerdictKind.WORTH_IT and "Route it by phrase" in said and "14 of 20" in said
    (unmended,) = find_alerts([difference()], FORGOTTEN, "map_segm", Retention(20, 12, 0.4, 0.8, {}))
    assert judged(difference(), [unmended])[0] == VerdictKind.MIXED


def test_four_alerts_are_not_all_listed() -> None:
    many = find_alerts(
        [difference(subject="size", name=name, low=-0.4, high=-0.2) for name in "abcd"], None, "map_segm"
    )
    assert len(many) == 4
    assert "and 1 more" in judged(difference(), many)[1]


def test_without_an_adapter_the_verdict_is_about_the_base() -> None:
    verdict = judge([], [], "map_segm", 24, 0.25)
    assert (verdict.kind, verdict.base, verdict.images) == (VerdictKind.BASE_ONLY, 0.25, 24)
    said = verdict_sentence(verdict)
    assert "base model reaches a mask mAP of 0.250" in said and "no adapter" in said


def test_an_adapter_that_finds_nothing_at_half_is_not_worth_it_however_surely_it_is_better() -> None:
    found_nothing = [difference(base=0, adapter=0.02, low=0.01, high=0.03), difference("f1_50", 0, 0.01, 0.0, 0.02)]
    verdict = judge(found_nothing, [], "map_segm", 40, 0)
    assert (verdict.kind, verdict.f1) == (VerdictKind.TOO_LITTLE_LEARNED, 0.01)
    assert "F1 0.010" in verdict_sentence(verdict)


def test_an_interval_that_begins_at_what_is_printed_as_zero_decides_nothing() -> None:
    assert improvement(difference(base=0, adapter=0.002, low=0.0001, high=0.009)) is None
