"""The curves that the training charts show of a run's history, and their styles; no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sam3_lora.monitor.history import GROUPS, TERMS, History, downsample, smooth
from sam3_lora.monitor.terms import AUXILIARY, MAIN, ONE_TO_MANY

POINTS_PER_CURVE = 1_000  # about the pixels of a chart
POINTS_PER_FAINT_CURVE = 500  # for unsmoothed values behind a smoothed curve
STEPS, TIME = "Steps", "Time"  # of the x axis
_HOURS_FROM_S = 3 * 3600
_LEGEND_LETTERS = 24  # of a run's name
_GROUP_STYLE = {MAIN: ("", "solid"), AUXILIARY: (" · auxiliary", "dash"), ONE_TO_MANY: (" · one-to-many", "dot")}
_GROUP_NAMES = {MAIN: "Main layer", AUXILIARY: "Auxiliary layers", ONE_TO_MANY: "One-to-many"}

Curve = dict[str, Any]


@dataclass(frozen=True)
class _Line:
    """One curve before it is smoothed and downsampled."""

    identity: str
    name: str
    values: np.ndarray  # one per step, or per evaluation where at_evaluations
    style: dict[str, Any] = field(default_factory=dict)
    at_evaluations: bool = False
    exact: bool = False  # never smoothed: it has no noise


@dataclass(frozen=True)
class Picture:
    """The curves of a chart and the titles of its axes."""

    curves: list[Curve]
    x_title: str
    y_title: str


def draw(history: History, shown: str, *, smoothing: float = 0.0, along: str = STEPS) -> Picture:
    """The curves of one of :data:`SHOWN`.

    Args:
        history: the run's.
        shown: a key of :data:`SHOWN`.
        smoothing: see :func:`sam3_lora.monitor.history.smooth`; above 0 the unsmoothed values stay as faint lines.
        along: STEPS, or TIME for the time of training.
    """
    y_title, lines_of = SHOWN[shown]
    x_title, steps, evaluations = _axes(history, along)
    curves = []
    for line in lines_of(history):
        if line.at_evaluations:
            curves.append(_finish(line, evaluations, line.values, mode="lines+markers"))
        else:
            curves += _smoothed(line, np.asarray(history.steps), steps, smoothing)
    return Picture(curves, x_title, y_title)


def compare(histories: dict[str, History], shown: str, *, smoothing: float = 0.0, along: str = STEPS) -> Picture:
    """One metric of several runs, each in its own color.

    Args:
        histories: by the titles of the runs.
        shown: a key of :data:`COMPARED`.
        smoothing: see :func:`draw`.
        along: see :func:`draw`.
    """
    y_title, line_of = COMPARED[shown]
    # One unit for all: that of the longest run.
    longest = max(histories.values(), key=lambda history: history.seconds[-1] if history.seconds else 0.0)
    curves, x_title = [], _axes(longest, along)[0]
    for place, (name, history) in enumerate(histories.items()):
        _, steps, evaluations = _axes(history, along, like=longest)
        line = line_of(history)
        line = replace(line, identity=f"run-{place}", name=_in_two_lines(name), style={"color": place, "width": 2.0})
        if line.at_evaluations:
            curves.append(_finish(line, evaluations, line.values, mode="lines+markers"))
        else:
            curves += _smoothed(line, np.asarray(history.steps), steps, smoothing)
    return Picture(curves, x_title, y_title)


def _in_two_lines(title: str) -> str:
    """A run's title for the legend, short enough to leave the width to the chart."""
    name, comma, began = title.rpartition(", ")
    name, began = (name, began) if comma else (began, "")
    short = name if len(name) <= _LEGEND_LETTERS else f"{name[: _LEGEND_LETTERS - 1]}…"
    return f"{short}<br>{began}" if began else short


def _weighted(history: History) -> Iterator[_Line]:
    """The total, each main term, the sums of the other groups, the validation loss."""
    yield _total(history)
    yield from _terms(history.columns, [MAIN])
    for group in (AUXILIARY, ONE_TO_MANY):
        members = _members(history, group)
        if members:
            style = {"color": "muted", "dash": _GROUP_STYLE[group][1]}
            yield _Line(f"sum-{group}", _GROUP_NAMES[group], np.nansum(members, axis=0), style)
    yield from _validation(history)


def _every_weighted(history: History) -> Iterator[_Line]:
    yield _total(history)
    yield from _terms(history.columns, GROUPS)
    yield from _validation(history)


def _sums(history: History) -> Iterator[_Line]:
    yield _total(history)
    for place, group in enumerate(GROUPS):
        members = _members(history, group)
        if members:
            style = {"color": place, "width": 2.0, "dash": _GROUP_STYLE[group][1]}
            yield _Line(f"sum-{group}", _GROUP_NAMES[group], np.nansum(members, axis=0), style)
    yield from _validation(history)


def _shares(history: History) -> Iterator[_Line]:
    """Each term over all layers and queries, in percent of the total."""
    for term in _in_order({term for term, _ in history.columns}):
        members = [np.asarray(column) for (name, _), column in history.columns.items() if name == term]
        yield _Line(f"share-{term}", term, _share(history, members), {"color": _color(term)})


def _group_shares(history: History) -> Iterator[_Line]:
    """The main layer, the auxiliary layers and the one-to-many queries, in percent of the total."""
    for place, group in enumerate(GROUPS):
        if members := _members(history, group):
            style = {"color": place, "width": 2.0, "dash": _GROUP_STYLE[group][1]}
            yield _Line(f"share-{group}", _GROUP_NAMES[group], _share(history, members), style)


def _share(history: History, members: list[np.ndarray]) -> np.ndarray:
    """Sums of weighted terms in percent of the total; NaN where that is 0."""
    totals = np.asarray(history.totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(totals == 0, np.nan, 100 * np.nansum(members, axis=0) / totals)


def _raw(history: History) -> Iterator[_Line]:
    return _terms(history.raws, [MAIN])


def _every_raw(history: History) -> Iterator[_Line]:
    return _terms(history.raws, GROUPS)


def _validation_f1(history: History) -> Iterator[_Line]:
    values = np.array([point.f1 for point in history.validation])
    yield _Line("validation-f1", "F1 of boxes", values, {"color": "accent", "width": 2.0}, at_evaluations=True)


def _single(name: str, values_of: Callable[[History], list[float]], unit: float = 1.0, exact: bool = False) -> Callable:
    def lines(history: History) -> Iterator[_Line]:
        values = np.asarray(values_of(history)) / unit
        yield _Line(name.lower().replace(" ", "-"), name, values, {"color": "accent", "width": 2.0}, exact=exact)

    return lines


# What a chart can show -> (title of the y axis, its lines)
SHOWN: dict[str, tuple[str, Callable[[History], Iterable[_Line]]]] = {
    "Weighted terms": ("Weighted loss", _weighted),
    "Every weighted term": ("Weighted loss", _every_weighted),
    "Sums by layer and queries": ("Weighted loss", _sums),
    "Shares of the total": ("Share of the total in %", _shares),
    "Shares by layer and queries": ("Share of the total in %", _group_shares),
    "Raw values": ("Raw loss, main layer", _raw),
    "Every raw value": ("Raw loss, mean over layers", _every_raw),
    "Validation F1": ("F1 of boxes, IoU 0.5", _validation_f1),
    "Gradient norm": ("Gradient norm before clipping", _single("Gradient norm", lambda it: it.gradient_norms)),
    "Learning rate": ("Learning rate", _single("Learning rate", lambda it: it.learning_rates, exact=True)),
    "Images per second": ("Images per second", _single("Images per second", lambda it: it.speeds)),
    "Memory": ("Memory in GB", _single("Memory", lambda it: it.memory, unit=1e9, exact=True)),
}


def _total(history: History) -> _Line:
    return _Line("total", "Total", np.asarray(history.totals), {"color": "text", "width": 2.5})


def _validation(history: History) -> Iterator[_Line]:
    if history.validation:
        # It has no one-to-many terms, so it is below the total even without overfitting.
        values = np.array([point.total for point in history.validation])
        style = {"color": "accent", "width": 1.0}
        yield _Line("validation", "Validation, no one-to-many", values, style, at_evaluations=True)


def _one_term(term: str) -> Callable[[History], _Line]:
    """A term's weighted sum over all layers and queries."""

    def line(history: History) -> _Line:
        members = [np.asarray(column) for (name, _), column in history.columns.items() if name == term]
        values = np.nansum(members, axis=0) if members else np.full(len(history.steps), np.nan)
        return _Line(term, term, values)

    return line


def _measure(values_of: Callable[[History], list[float]], exact: bool = False) -> Callable[[History], _Line]:
    return lambda history: _Line("", "", np.asarray(values_of(history)), exact=exact)


def _evaluated(value_of: Callable[[Any], float]) -> Callable[[History], _Line]:
    return lambda history: _Line(
        "", "", np.array([value_of(point) for point in history.validation]), at_evaluations=True
    )


# What runs can be compared by -> (title of the y axis, the line)
COMPARED: dict[str, tuple[str, Callable[[History], _Line]]] = {
    "Validation loss": ("Validation loss", _evaluated(lambda point: point.total)),
    "Validation F1": ("F1 of boxes, IoU 0.5", _evaluated(lambda point: point.f1)),
    "Total loss": ("Total loss", _total),
    **{term: (f"{term}, all layers, weighted", _one_term(term)) for term in TERMS},
    "Gradient norm": ("Gradient norm before clipping", _measure(lambda it: it.gradient_norms)),
    "Learning rate": ("Learning rate", _measure(lambda it: it.learning_rates, exact=True)),
    "Images per second": ("Images per second", _measure(lambda it: it.speeds)),
}


def _terms(columns: dict[tuple[str, str], list[float]], groups: Iterable[str]) -> Iterator[_Line]:
    """Each term of these groups, in the order of the legend."""
    for group in groups:
        suffix, dash = _GROUP_STYLE[group]
        for term in _in_order({name for name, of in columns if of == group}):
            style = {"color": _color(term), "dash": dash}
            yield _Line(f"{term}-{group}", term + suffix, np.asarray(columns[term, group]), style)


def _members(history: History, group: str) -> list[np.ndarray]:
    return [np.asarray(column) for (_, of), column in history.columns.items() if of == group]


def _in_order(terms: Iterable[str]) -> list[str]:
    return sorted(terms, key=lambda term: (_color(term), term))


def _color(term: str) -> int:
    """The term's index in the chart's palette: the same in every group."""
    return TERMS.index(term) if term in TERMS else len(TERMS)


def _axes(history: History, along: str, like: History | None = None) -> tuple[str, np.ndarray, np.ndarray]:
    """The title of the x axis, and the positions of the steps and of the evaluations on it."""
    if along == STEPS:
        return "Step", np.asarray(history.steps), np.array([point.step for point in history.validation])
    longest = (like or history).seconds
    in_hours = bool(longest) and longest[-1] > _HOURS_FROM_S
    unit = 3600.0 if in_hours else 60.0
    evaluations = np.array([point.seconds for point in history.validation])
    return f"{'Hours' if in_hours else 'Minutes'} of training", np.asarray(history.seconds) / unit, evaluations / unit


def _smoothed(line: _Line, steps: np.ndarray, x: np.ndarray, smoothing: float) -> list[Curve]:
    # A line through a single point is invisible.
    mode = "lines" if len(x) > 1 else "lines+markers"
    if smoothing <= 0 or line.exact:
        return [_finish(line, x, line.values, mode)]
    measured = _finish(line, x, line.values, mode, POINTS_PER_FAINT_CURVE)
    faint = measured | {"id": f"{line.identity}-raw", "faint": True, "of": line.identity}
    return [faint, _finish(line, x, smooth(steps, line.values, smoothing), mode)]


def _finish(line: _Line, x: np.ndarray, values: np.ndarray, mode: str, points: int = POINTS_PER_CURVE) -> Curve:
    kept = downsample(values, points)
    return {
        "id": line.identity,
        "name": line.name,
        "mode": mode,
        **line.style,
        "x": _plain(x[kept]),
        "y": _plain(values[kept]),
    }


def _plain(values: np.ndarray) -> list[float | int | None]:
    """For JSON, which has no NaN; with five digits, more than a screen shows."""
    if values.dtype.kind == "i":
        return values.tolist()
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
