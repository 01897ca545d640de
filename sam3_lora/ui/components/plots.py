"""What the still charts of all pages share: an empty figure, its table, the color of its grid, and text for Plotly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from sam3_lora.text import printable
from sam3_lora.ui.components.tables import folded_table

_MAX_TEXT = 40  # characters
GRID = "rgba(128, 128, 128, 0.2)"
_NO_TOOLBAR = {"displayModeBar": False}
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}


def empty_figure(height: int) -> go.Figure:
    """A figure of this height in pixels, without a legend and without a background."""
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 12, "b": 8},
        showlegend=False,
        plot_bgcolor="rgba(0, 0, 0, 0)",
        paper_bgcolor="rgba(0, 0, 0, 0)",
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, automargin=True)
    return figure


def show_figure(
    figure: go.Figure,
    alt: str,
    key: str,
    rows: Callable[[], Any] | None = None,
    columns: Mapping[str, Any] | None = None,
) -> None:
    """Draws a chart, with its numbers as a table one click away.

    Args:
        figure: the chart.
        alt: what it shows, for screen readers.
        key: of the chart.
        rows: makes the table, see :func:`folded_table`; None where one stands beside the chart.
        columns: of the table.
    """
    st.plotly_chart(figure, key=key, config=_NO_TOOLBAR, alt=alt)
    if rows is not None:
        folded_table(rows, alt, f"{key}-table", columns)


def plot_text(text: str) -> str:
    """Text for Plotly, which renders some HTML: shortened and escaped."""
    text = " ".join(printable(text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…").split())
    return text.replace("&", "&amp;").replace("<", "&lt;")


def plot_names(names: Sequence[str]) -> list[str]:
    """Names for an axis of Plotly, see :func:`plot_text`; those that look the same are numbered."""
    seen: Counter[str] = Counter()
    texts = []
    for text in map(plot_text, names):
        seen[text] += 1
        texts.append(text if seen[text] == 1 else f"{text} ({seen[text]})")
    return texts
