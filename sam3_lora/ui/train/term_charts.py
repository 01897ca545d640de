"""A small chart of each loss term: its trend, the band of healthy runs, and the verdict on its last steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from sam3_lora.monitor.messages import describe_range, describe_verdict
from sam3_lora.monitor.term_trends import TermTrend
from sam3_lora.text import amount
from sam3_lora.ui.components.layout import escape

_WIDTH, _HEIGHT = 240, 64  # units of the drawing, which is as wide as its column
_BAND, _LINE = "#14b8a6", "#7b8a8d"
_SPIKE = 1.6  # the first steps may be far above all others: values above so many times the band are cut off


def show_term_charts(trends: Sequence[TermTrend], meanings: dict[str, str], levels: dict[str, tuple[str, str]]) -> None:
    """Draws all terms side by side.

    Args:
        trends: the total and its terms.
        meanings: of a term, in a few words.
        levels: of a verdict's level, its word and color.
    """
    with st.grid(3, gap="small"):
        for trend in trends:
            with st.container(border=True, gap=None):
                word, color = levels[trend.verdict.level]
                st.markdown(f"**{escape(trend.term)}** :{color}-badge[{word}]", help=meanings.get(trend.term))
                st.image(drawing(trend), width="stretch", alt=_described(trend))
                st.caption(escape(describe_verdict(trend.verdict)))


def drawing(trend: TermTrend) -> str:
    """The trend as an SVG, in colors that are seen on light and dark."""
    top = _top(trend)
    first, last = trend.steps[0], trend.steps[-1]

    def x(step: int) -> float:
        return round(_WIDTH * (step - first) / max(last - first, 1), 1)

    def y(value: float) -> float:
        return round(_HEIGHT * (1 - min(value, top) / top), 1)

    points = [
        (x(step), y(value)) for step, value in zip(trend.steps, trend.values, strict=True) if math.isfinite(value)
    ]
    parts = []
    if trend.bands:
        edge = [f"{x(step)},{y(band.high)}" for step, band in trend.bands]
        edge += [f"{x(step)},{y(band.low)}" for step, band in reversed(trend.bands)]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{_BAND}" opacity="0.25"/>')
    if points:
        line = " ".join(f"{left},{up}" for left, up in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_LINE}" stroke-width="1.6"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT + 4}" '
        f'viewBox="0 -2 {_WIDTH} {_HEIGHT + 4}">{"".join(parts)}</svg>'
    )


def _top(trend: TermTrend) -> float:
    """The largest value that is drawn."""
    values = [value for value in trend.values if math.isfinite(value)]
    highs = [band.high for _, band in trend.bands]
    largest = max(values, default=1.0)
    # Where a band is known, an outlier must not flatten it.
    return (min(max(largest, *highs), _SPIKE * max(highs)) if highs else largest) or 1.0


def _described(trend: TermTrend) -> str:
    """The drawing in words, for screen readers."""
    values = [value for value in trend.values if math.isfinite(value)]
    if not values:
        return f"{trend.term}: no values"
    words = f"{trend.term}, from {amount(values[0])} to {amount(values[-1])}"
    return f"{words}; usual: {describe_range(trend.bands[-1][1])}" if trend.bands else words
