"""Which curves the training chart shows of a run's history, and how each looks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sam3_lora.train.terms import AUXILIARY, MAIN, ONE_TO_MANY
from sam3_lora.ui.metrics_view import GROUPS, TERMS, History, smooth, thin

POINTS_PER_CURVE = 1_000  # about what a chart has pixels for
_GROUP_STYLE = {MAIN: ("", "solid"), AUXILIARY: (" · auxiliary", "dash"), ONE_TO_MANY: (" · one-to-many", "dot")}


def loss_curves(history: History, *, smoothing: float = 0.0, every_term: bool = False) -> list[dict[str, Any]]:
    """The curves for :func:`sam3_lora.ui.live_chart.live_chart`.

    Always there: the total, each main term, the validation loss. The terms of the auxiliary layers
    and of the one-to-many queries are one sum each, or one curve per term with ``every_term``.

    Args:
        smoothing: see :func:`smooth`; above 0 the unsmoothed values stay as faint lines.
    """
    steps = np.asarray(history.steps)
    curves = _curve("total", "Total", steps, np.asarray(history.totals), smoothing, color="text", width=2.5)
    for term, group, values in _weighted_terms(history, every_term):
        suffix, dash = _GROUP_STYLE[group]
        curves += _curve(
            f"{term}-{group}",
            {AUXILIARY: "Auxiliary layers", ONE_TO_MANY: "One-to-many"}[group] if term == "sum" else term + suffix,
            steps,
            values,
            smoothing,
            color="muted" if term == "sum" else _color(term),
            dash=dash,
        )
    if history.validation:
        x, y = zip(*history.validation, strict=True)
        # It has no one-to-many terms, so it lies below the total even where nothing is overfitted.
        style = {"mode": "lines+markers", "color": "accent", "width": 1.0}
        curves.append({"id": "validation", "name": "Validation, no one-to-many", **style})
        curves[-1] |= {"x": list(x), "y": _plain(np.asarray(y))}
    return curves


def single_curve(name: str, history: History, values: list[float], *, smoothing: float = 0.0) -> list[dict[str, Any]]:
    """One measure over the steps, for the same chart."""
    return _curve(name, name, np.asarray(history.steps), np.asarray(values), smoothing, color="accent", width=2.0)


def _weighted_terms(history: History, every_term: bool) -> list[tuple[str, str, np.ndarray]]:
    """(term, group, values) in the order of the legend; the term "sum" stands for a whole group."""
    known = {key: np.asarray(column) for key, column in history.columns.items()}
    ordered = sorted(known, key=lambda key: (GROUPS.index(key[1]), _color(key[0]), key[0]))
    shown = [(term, group, known[term, group]) for term, group in ordered if every_term or group == MAIN]
    if not every_term:
        for group in (AUXILIARY, ONE_TO_MANY):
            members = [values for (_, of), values in known.items() if of == group]
            if members:
                shown.append(("sum", group, np.nansum(members, axis=0)))
    return shown


def _color(term: str) -> int:
    """The term's place in the chart's palette: the same in every group."""
    return TERMS.index(term) if term in TERMS else len(TERMS)


def _curve(
    identity: str, name: str, steps: np.ndarray, values: np.ndarray, smoothing: float, **style: Any
) -> list[dict[str, Any]]:
    # A line through a single point would not be seen.
    mode = "lines" if len(steps) > 1 else "lines+markers"
    curve = {"id": identity, "name": name, "mode": mode, **style}
    if smoothing <= 0:
        return [curve | _points(steps, values)]
    raw = curve | {"id": f"{identity}-raw", "faint": True, "of": identity} | _points(steps, values)
    return [raw, curve | _points(steps, smooth(steps, values, smoothing))]


def _points(steps: np.ndarray, values: np.ndarray) -> dict[str, list]:
    kept = thin(values, POINTS_PER_CURVE)
    return {"x": steps[kept].tolist(), "y": _plain(values[kept])}


def _plain(values: np.ndarray) -> list[float | None]:
    """JSON knows no NaN; five digits are more than a screen shows."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values.tolist()]
