"""Turns reports into points: F1 of the dataset's phrases, and the share that is kept of what the base model finds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sam3_lora.data.folders import dataset_folder
from sam3_lora.evaluate.prompt_leak import COMMON
from sam3_lora.evaluate.report import Report, Retention, Values

F1 = "f1_50"  # of metrics.METRICS


class Kind(StrEnum):
    """What was measured."""

    BASE = "base"
    ADAPTER = "adapter"  # as trained
    ROUTED = "routed"  # by phrase
    STRENGTH = "strength"  # the adapter at another one


class Missing(StrEnum):
    """Why a report has no points."""

    NO_ADAPTER = "no adapter"
    NOT_MEASURED = "not measured"  # of what the base model finds: by an earlier version
    NOTHING_FOUND = "nothing found"  # with other phrases, by the base model
    NO_F1 = "no F1"


class LeftOut(StrEnum):
    """Why the points of a report cannot be compared with those of the one that is shown."""

    IMAGES = "images"  # another dataset or split, or its content has changed
    PHRASES = "phrases"  # forgetting was measured with others
    BASE = "base"
    MISSING = "missing"  # there are none


@dataclass(frozen=True)
class Point:
    """One model's gain and loss."""

    kind: Kind
    adapter: str  # its name; empty for the base model
    strength: float  # of the adapter: 0 for the base model, 1 as trained
    f1: float  # of the dataset's phrases (IoU 0.5, score 0.5), in [0, 1]
    gain: float  # in F1 over the base model
    kept: float  # share of the objects found by the base model with other phrases that are still found, in [0, 1]
    trained_on: int = 0  # images measured on that the adapter was trained on


@dataclass(frozen=True)
class Basis:
    """What points must share to be comparable."""

    dataset: str  # absolute path
    split: str
    images: int
    objects: int
    base: str
    phrases: frozenset[str]  # that forgetting is measured with


@dataclass(frozen=True)
class Measured:
    """The points of one report: base model, strengths below 1, adapter, strengths above 1, routed."""

    adapter: str
    basis: Basis
    points: tuple[Point, ...]
    found: int = 0  # objects that the base model finds with other phrases
    missing: Missing | None = None  # why there are no points


@dataclass(frozen=True)
class GainLoss:
    """What the picture shows."""

    shown: tuple[Point, ...]  # of the report that is shown, as in Measured
    others: tuple[tuple[Point, ...], ...] = ()  # each of one other adapter, without the base model
    left_out: tuple[tuple[LeftOut, int], ...] = ()  # reports of other adapters


def measured(report: Report) -> Measured:
    """The points of a report."""
    adapter = report.adapter_name or ""
    leak = report.base.leak
    basis = Basis(
        os.path.abspath(dataset_folder(report.dataset)),
        report.split,
        report.images,
        report.objects,
        report.base_name,
        frozenset(phrase for phrase, kind in zip(leak.rows, leak.kinds, strict=True) if kind == COMMON),
    )
    missing = _missing(report)
    if missing is not None:
        return Measured(adapter, basis, (), missing=missing)
    assert report.adapter and report.retention, "nothing is missing"
    base, name = report.base.metrics[F1] or 0.0, adapter

    def point(kind: Kind, strength: float, metrics: Values, retention: Retention) -> Point:
        f1 = metrics[F1] or 0.0
        return Point(kind, name, strength, f1, f1 - base, retention.kept / retention.found, report.trained_on)

    scaled = [point(Kind.STRENGTH, one.strength, one.metrics, one.retention) for one in report.strengths]
    scaled.append(point(Kind.ADAPTER, 1.0, report.adapter.metrics, report.retention))
    points = [Point(Kind.BASE, "", 0.0, base, 0.0, 1.0), *sorted(scaled, key=lambda one: one.strength)]
    if report.routed and report.routed_retention:
        points.append(point(Kind.ROUTED, 1.0, report.routed.metrics, report.routed_retention))
    return Measured(adapter, basis, tuple(points), report.retention.found)


def _missing(report: Report) -> Missing | None:
    if report.adapter is None:
        return Missing.NO_ADAPTER
    if report.retention is None:
        return Missing.NOT_MEASURED
    if not report.retention.found:
        return Missing.NOTHING_FOUND
    return Missing.NO_F1 if report.base.metrics[F1] is None else None


def compare(shown: Measured, others: Iterable[Measured]) -> GainLoss:
    """The points of one report beside those of other adapters.

    Args:
        shown: the report.
        others: further ones, newest first: of each adapter only the first one that is comparable counts, and none of
            the adapter that is shown.
    """
    found: dict[str, tuple[Point, ...]] = {}
    left_out: Counter[LeftOut] = Counter()
    for one in others:
        if one.adapter == shown.adapter or one.missing is Missing.NO_ADAPTER:
            continue
        if (why := _not_comparable(shown.basis, one)) is not None:
            left_out[why] += 1
        else:
            found.setdefault(one.adapter, tuple(point for point in one.points if point.kind is not Kind.BASE))
    return GainLoss(
        shown.points, tuple(found.values()), tuple((why, left_out[why]) for why in LeftOut if left_out[why])
    )


def _not_comparable(basis: Basis, one: Measured) -> LeftOut | None:
    other = one.basis
    if (basis.dataset, basis.split, basis.images, basis.objects) != (
        other.dataset,
        other.split,
        other.images,
        other.objects,
    ):
        return LeftOut.IMAGES
    if basis.base != other.base:
        return LeftOut.BASE
    if basis.phrases != other.phrases:
        return LeftOut.PHRASES
    return LeftOut.MISSING if one.missing else None


def line(points: Iterable[Point]) -> list[Point]:
    """The points of one adapter from the base model through its strengths; empty where only one was measured."""
    scaled = [one for one in points if one.kind is not Kind.ROUTED]
    return scaled if any(one.kind is Kind.STRENGTH for one in scaled) else []
