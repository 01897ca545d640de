"""The curves that the training charts show of a run's history, and their styles; no Streamlit."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sam3_lora.monitor.history import GROUPS, TERMS, Columns, History, Validation, downsample, in_order, smooth
from sam3_lora.monitor.terms import AUXILIARY, MAIN, ONE_TO_MANY

POINTS_PER_CURVE = 1_000  # about the pixels of a chart
_MAX_ROWS = 60  # of a table, about
POINTS_PER_FAINT_CURVE = 500  # for unsmoothed values behind a smoothed curve
STEPS, TIME = "Steps", "Time"  # of the x axis
_DETECTION_TITLE = "F1 and cgF1 of masks"
REPLAY = "Replay"  # of SHOWN: there is nothing to show of a run without replay
_HOURS_FROM_S = 3 * 3600
_LEGEND_LETTERS = 24  # of a run's name
_GROUP_STYLE = {  # group -> (its name, what follows a term's name in the legend, dash)
    MAIN: ("Main layer", "", "solid"),
    AUXILIARY: ("Auxiliary layers", " · auxiliary", "dash"),
    ONE_TO_MANY: ("One-to-many", " · one-to-many", "dot"),
}

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
    right_title: str = ""  # of the axis for shares of 1

    def rows(self) -> list[dict[str, float | None]]:
        """The curves as rows of a table, newest first: at the evaluations if there are any, and at the last step.

        Between its points a curve has the value before; a curve of evaluations has none there, and no curve has one
        beyond its end.
        """
        curves = [curve for curve in self.curves if curve["x"] and not curve.get("faint")]
        if not curves:
            return []
        sparsest = min((curve["x"] for curve in curves), key=len)
        every = -(-len(sparsest) // _MAX_ROWS)
        places = sorted({*sparsest[::-every], max(curve["x"][-1] for curve in curves)}, reverse=True)
        names = {curve["id"]: curve["name"].replace("<br>", ", ") for curve in curves}
        return [
            {self.x_title: place} | {names[curve["id"]]: _value_at(curve, place) for curve in curves}
            for place in places
        ]


def draw(history: History, shown: str, *, smoothing: float = 0.0, along: str = STEPS) -> Picture:
    """The curves of one of :data:`SHOWN`.

    Args:
        history: the run's.
        shown: a key of :data:`SHOWN`.
        smoothing: see :func:`sam3_lora.monitor.history.smooth`; above 0 the unsmoothed values stay as faint lines.
        along: STEPS, or TIME for the time of training.
    """
    y_title, lines_of = SHOWN[shown]
    curves = [curve for line in lines_of(history) for curve in _curves(history, line, smoothing, along, history)]
    right_title = _DETECTION_TITLE if any(curve.get("right") for curve in curves) else ""
    return Picture(curves, _x_title(history, along), y_title, right_title)


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
    curves = []
    for place, (name, history) in enumerate(histories.items()):
        style = {"color": place, "width": 2.0}
        line = replace(line_of(history), identity=f"run-{place}", name=_in_two_lines(name), style=style)
        curves += _curves(history, line, smoothing, along, longest)
    return Picture(curves, _x_title(longest, along), y_title)


def _in_two_lines(title: str) -> str:
    """A run's title for the legend, short enough to leave the width to the chart."""
    name, comma, began = title.rpartition(", ")
    name, began = (name, began) if comma else (began, "")
    short = name if len(name) <= _LEGEND_LETTERS else f"{name[: _LEGEND_LETTERS - 1]}…"
    return f"{short}<br>{began}" if began else short


def _beside_total(parts: Callable[[History], Iterable[_Line]]) -> Callable[[History], Iterable[_Line]]:
    """The total, its parts, the validation loss."""
    return lambda history: [_total(history), *parts(history), *_validation(history)]


def _overview(history: History) -> Iterator[_Line]:
    """The total, the validation loss, and what is detected, on an axis of its own."""
    yield _total(history)
    yield from _validation(history)
    for line in _detection(history):
        yield replace(line, style=line.style | {"right": True})


def _main_terms_and_sums(history: History) -> Iterator[_Line]:
    """Each main term, and the sums of the other groups."""
    yield from _terms(history.columns, [MAIN])
    for line in _group_sums(history):
        if line.identity != f"sum-{MAIN}":
            yield replace(line, style={"color": "muted", "dash": line.style["dash"]})
    yield from _replay_sum(history, {"color": "muted", "dash": "dashdot"})


def _group_sums(history: History) -> Iterator[_Line]:
    """The sum of the weighted terms of each group that the history has."""
    for place, group in enumerate(GROUPS):
        if members := [column for (_, of), column in history.columns.items() if of == group]:
            name, _, dash = _GROUP_STYLE[group]
            style = {"color": place, "width": 2.0, "dash": dash}
            yield _Line(f"sum-{group}", name, np.nansum(members, axis=0), style)


def _replay_sum(history: History, style: dict[str, Any]) -> Iterator[_Line]:
    """The sum of the weighted terms of replay, which is beside the total, not in it; nothing without replay."""
    if history.replays:
        yield _Line("sum-replay", "Replay, beside the total", np.nansum([*history.replays.values()], axis=0), style)


def _replay(history: History) -> Iterator[_Line]:
    """The sum and each weighted term of replay."""
    yield from _replay_sum(history, {"color": "text", "width": 2.5})
    for place, ((term, _), values) in enumerate(history.replays.items()):
        yield _Line(term, term, np.asarray(values), {"color": place, "dash": "solid"})


def _shares(history: History) -> Iterator[_Line]:
    """Each term over all layers and queries, in percent of the total."""
    for term in in_order({term for term, _ in history.columns}):
        yield _share(history, replace(_one_term(term)(history), style={"color": _color(term)}))


def _group_shares(history: History) -> Iterator[_Line]:
    """The main layer, the auxiliary layers and the one-to-many queries, in percent of the total."""
    for line in _group_sums(history):
        yield _share(history, replace(line, identity=line.identity.removeprefix("sum-")))


def _share(history: History, line: _Line) -> _Line:
    """A sum of weighted terms in percent of the total; NaN where that is 0."""
    totals = np.asarray(history.totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(totals == 0, np.nan, 100 * line.values / totals)
    return replace(line, identity=f"share-{line.identity}", values=values)


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
        members = [column for (name, _), column in history.columns.items() if name == term]
        values = np.nansum(members, axis=0) if members else np.full(len(history.steps), np.nan)
        return _Line(term, term, values)

    return line


def _measure(column: str, unit: float = 1.0, exact: bool = False) -> Callable[[History], _Line]:
    return lambda history: _Line("", "", np.asarray(history.measures[column]) / unit, exact=exact)


def _evaluated(name: str, value_of: Callable[[Validation], float]) -> Callable[[History], _Line]:
    return lambda history: _Line("", name, np.array([*map(value_of, history.validation)]), at_evaluations=True)


def _detection(history: History) -> Iterator[_Line]:
    """F1 and cgF1 of masks; for runs of earlier versions the F1 of boxes, another number."""
    lines = (_F1, _CGF1, _evaluated("F1 of boxes", lambda point: point.box_f1))
    for place, (identity, line_of) in enumerate(zip(("f1", "cgf1", "box-f1"), lines, strict=True)):
        line = line_of(history)
        if np.isfinite(line.values).any():
            yield replace(line, identity=identity, style={"color": place, "width": 2.0})


def _alone(name: str, line_of: Callable[[History], _Line]) -> Callable[[History], Iterable[_Line]]:
    """The only line of a chart."""
    identity, style = name.lower().replace(" ", "-"), {"color": "accent", "width": 2.0}

    def lines(history: History) -> Iterator[_Line]:
        line = line_of(history)
        yield replace(line, identity=identity, name=line.name or name, style=style)

    return lines


_F1 = _evaluated("F1", lambda point: point.f1)
_CGF1 = _evaluated("cgF1", lambda point: point.cgf1)
# What is one line, for a chart of a run and to compare runs by -> (title of the y axis, the line)
_MEASURED: dict[str, tuple[str, Callable[[History], _Line]]] = {
    "Gradient norm": ("Gradient norm before clipping", _measure("grad_norm")),
    "Learning rate": ("Learning rate", _measure("lr", exact=True)),
    "Images per second": ("Images per second", _measure("images_per_second")),
    "Memory": ("Memory in GB", _measure("memory_bytes", unit=1e9, exact=True)),
}

# What a chart can show -> (title of the y axis, its lines)
SHOWN: dict[str, tuple[str, Callable[[History], Iterable[_Line]]]] = {
    "Overview": ("Weighted loss", _overview),
    "Weighted terms": ("Weighted loss", _beside_total(_main_terms_and_sums)),
    "Every weighted term": ("Weighted loss", _beside_total(lambda it: _terms(it.columns, GROUPS))),
    "Sums by layer and queries": ("Weighted loss", _beside_total(_group_sums)),
    "Shares of the total": ("Share of the total in %", _shares),
    "Shares by layer and queries": ("Share of the total in %", _group_shares),
    REPLAY: ("Weighted loss of replay", _replay),
    "Raw values": ("Raw loss, main layer", lambda it: _terms(it.raws, [MAIN])),
    "Every raw value": ("Raw loss, mean over layers", lambda it: _terms(it.raws, GROUPS)),
    "Validation F1 and cgF1": (_DETECTION_TITLE, _detection),
    **{name: (y_title, _alone(name, line_of)) for name, (y_title, line_of) in _MEASURED.items()},
}


# What runs can be compared by -> (title of the y axis, the line)
COMPARED: dict[str, tuple[str, Callable[[History], _Line]]] = {
    "Validation loss": ("Validation loss", _evaluated("", lambda point: point.total)),
    "Validation F1": ("F1 of masks, IoU 0.5", _F1),
    "Validation cgF1": ("cgF1", _CGF1),
    "Total loss": ("Total loss", _total),
    **{term: (f"{term}, all layers, weighted", _one_term(term)) for term in TERMS},
    **{name: _MEASURED[name] for name in ("Gradient norm", "Learning rate", "Images per second")},
}


def _terms(columns: Columns, groups: Iterable[str]) -> Iterator[_Line]:
    """Each term of these groups, in the order of the legend."""
    for group in groups:
        _, suffix, dash = _GROUP_STYLE[group]
        for term in in_order({name for name, of in columns if of == group}):
            style = {"color": _color(term), "dash": dash}
            yield _Line(f"{term}-{group}", term + suffix, np.asarray(columns[term, group]), style)


def _color(term: str) -> int:
    """The term's index in the chart's palette: the same in every group."""
    return TERMS.index(term) if term in TERMS else len(TERMS)


def _in_hours(history: History) -> bool:
    return bool(history.seconds) and history.seconds[-1] > _HOURS_FROM_S


def _x_title(history: History, along: str) -> str:
    if along == STEPS:
        return "Step"
    return f"{'Hours' if _in_hours(history) else 'Minutes'} of training"


def _curves(history: History, line: _Line, smoothing: float, along: str, longest: History) -> list[Curve]:
    """A line as it is drawn: with the unsmoothed values behind it where it is smoothed.

    Args:
        history: the line's.
        line: what is drawn.
        smoothing: see :func:`draw`.
        along: see :func:`draw`.
        longest: the history that fixes the unit of time.
    """
    points = history.validation if line.at_evaluations else None
    if along == STEPS:
        x = np.asarray(history.steps if points is None else [point.step for point in points])
    else:
        seconds = history.seconds if points is None else [point.seconds for point in points]
        x = np.asarray(seconds) / (3600.0 if _in_hours(longest) else 60.0)
    # A line through a single point is invisible.
    mode = "lines" if len(x) > 1 and points is None else "lines+markers"
    if smoothing <= 0 or line.exact or line.at_evaluations:
        return [_finish(line, x, line.values, mode)]
    measured = _finish(line, x, line.values, mode, POINTS_PER_FAINT_CURVE)
    faint = measured | {"id": f"{line.identity}-raw", "faint": True, "of": line.identity}
    return [faint, _finish(line, x, smooth(np.asarray(history.steps), line.values, smoothing), mode)]


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


def _value_at(curve: Curve, place: float) -> float | None:
    """A curve's value at a place of the x axis, see :meth:`Picture.rows`."""
    found = bisect_right(curve["x"], place) - 1
    if found < 0 or place > curve["x"][-1] or (curve["mode"] != "lines" and curve["x"][found] != place):
        return None
    return curve["y"][found]


def _plain(values: np.ndarray) -> list[float | int | None]:
    """For JSON, which has no NaN; with five digits, more than a screen shows."""
    if values.dtype.kind == "i":
        return values.tolist()
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
