"""The verdict on an adapter, and alerts for what got worse: kinds and numbers, whose words are in messages.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sam3_lora.evaluate.metrics import LOWER_IS_BETTER
from sam3_lora.evaluate.report import Difference, Report, Retention

NEGLIGIBLE = 0.0005  # differences below this are 0.000 in print
MIN_KEPT, MIN_FOUND = 0.9, 5  # alert below this share of what the base model finds, if it finds at least so many
FEW_IMAGES = 20
MIN_F1 = 0.05  # at a score of 0.5; an adapter below it is of no use, however surely it beats the base
_ALERTING = ("map_segm", "map_bbox", "cgf1", "false_firing")  # the other metrics are parts of these


@dataclass(frozen=True)
class Alert:
    """Something that surely got worse, or makes the metrics look better than they are."""

    kind: str  # "metric", "phrase", "size", "forgotten" or "trained-on"
    difference: Difference | None = None
    retention: Retention | None = None
    images: int = 0  # that the adapter was trained on
    routed: Retention | None = None  # of the adapter routed by phrase, where that forgets next to nothing


class VerdictKind(StrEnum):
    """What an evaluation says about the adapter."""

    BASE_ONLY = "base only"
    UNDEFINED = "undefined"
    TOO_FEW_IMAGES = "too few images"
    TOO_LITTLE_LEARNED = "too little learned"
    NO_DIFFERENCE = "no difference"
    WORTH_IT = "worth it"
    MIXED = "mixed"
    NOT_WORTH_IT = "not worth it"
    NOT_SIGNIFICANT = "not significant"


@dataclass(frozen=True)
class Verdict:
    """The result of an evaluation."""

    kind: VerdictKind
    metric: str  # that decides
    images: int
    base: float | None  # the metric of the base model
    change: Difference | None = None  # in the metric; None without an adapter
    f1: float | None = None  # of the adapter at a score of 0.5
    alerts: tuple[Alert, ...] = ()


def improvement(difference: Difference) -> bool | None:
    """True for surely better, False for surely worse, None where the interval holds 0 or nearly so."""
    if difference.low is None or difference.high is None:
        return None
    sign = -1 if difference.metric in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference.low, sign * difference.high))
    if abs(difference.difference or 0) < NEGLIGIBLE:
        return None
    return True if low >= NEGLIGIBLE else False if high <= -NEGLIGIBLE else None


def find_alerts(
    differences: Sequence[Difference], retention: Retention | None, main_metric: str, routed: Retention | None = None
) -> list[Alert]:
    """What surely got worse, beside the main metric itself, which the verdict begins with.

    Args:
        differences: in all metrics, phrases and sizes.
        retention: what the adapter still finds with common phrases.
        main_metric: "map_segm" or "map_bbox".
        routed: what it still finds where it is routed by phrase.
    """
    one_phrase = sum(one.subject == "phrase" for one in differences) == 1  # whose metric is the main one
    found = []
    for one in differences:
        if one.subject == "all":
            alerting = one.metric in _ALERTING and one.metric != main_metric
        else:
            alerting = one.subject == "size" or not one_phrase
        if alerting and improvement(one) is False:
            found.append(Alert("metric" if one.subject == "all" else one.subject, one))
    if retention and retention.found >= MIN_FOUND and retention.high is not None and retention.high < MIN_KEPT:
        keeps = routed is not None and routed.kept >= MIN_KEPT * routed.found
        found.append(Alert("forgotten", retention=retention, routed=routed if keeps else None))
    return found


def alerts_of(report: Report) -> list[Alert]:
    """The alerts of a report, also of a stored one."""
    trained_on = [Alert("trained-on", images=report.trained_on)] if report.trained_on else []
    return trained_on + find_alerts(report.differences, report.retention, report.main_metric, report.routed_retention)


def judge(
    differences: Sequence[Difference],
    alerts: Sequence[Alert],
    main_metric: str,
    images: int,
    base: float | None,
) -> Verdict:
    """The verdict of an evaluation.

    Args:
        differences: empty without an adapter.
        alerts: of :func:`find_alerts`.
        main_metric: "map_segm" or "map_bbox".
        images: how many were measured on.
        base: the main metric of the base model.
    """
    overall = {one.metric: one for one in differences if one.subject == "all"}
    change = overall.get(main_metric)
    f1 = overall["f1_50"].adapter if "f1_50" in overall else None
    kind = _kind(change, f1, any(alert.routed is None for alert in alerts))
    return Verdict(kind, main_metric, images, base, change, f1, tuple(alerts))


def _kind(change: Difference | None, f1: float | None, has_alerts: bool) -> VerdictKind:
    if change is None:
        return VerdictKind.BASE_ONLY
    if change.difference is None:
        return VerdictKind.UNDEFINED
    if change.low is None or change.high is None:
        return VerdictKind.TOO_FEW_IMAGES
    if change.difference > 0 and f1 is not None and f1 < MIN_F1:
        return VerdictKind.TOO_LITTLE_LEARNED
    if abs(change.difference) < NEGLIGIBLE and max(abs(change.low), abs(change.high)) < NEGLIGIBLE:
        return VerdictKind.NO_DIFFERENCE
    better = improvement(change)
    if better is None:
        return VerdictKind.NOT_SIGNIFICANT
    if not better:
        return VerdictKind.NOT_WORTH_IT
    return VerdictKind.MIXED if has_alerts else VerdictKind.WORTH_IT
