"""What the still charts of all pages share: an empty figure, the color of its grid, and text for Plotly."""

from __future__ import annotations

import plotly.graph_objects as go

GRID = "rgba(128, 128, 128, 0.2)"
NO_TOOLBAR = {"displayModeBar": False}
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


def plot_text(text: str) -> str:
    """Text escaped for Plotly, which renders some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
