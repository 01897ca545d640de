"""A line chart that is updated in place: zoom, hidden curves and the DOM node survive every update.

st.plotly_chart builds a new node at each change of data, so that a growing chart would flicker and lose its zoom. This
component keeps one node and passes it to Plotly.react.
"""

from __future__ import annotations

import streamlit as st

from sam3_lora.monitor.curves import Picture
from sam3_lora.ui.components.javascript import component
from sam3_lora.ui.components.plots import plot_text

LINEAR, CLIPPED, LOG = "Linear", "Clipped", "Log"
_LIBRARY = component("plotly_library")
_CHART = component("live_chart", html='<div class="sam3-live-chart" role="img"></div>')


def load_chart_library() -> None:
    """Brings plotly.js into the page; needed once per full run of a page that draws a :func:`live_chart`.

    Call it outside of fragments. The message is the same each time, so Streamlit sends its
    megabytes once per browser tab and refers to them afterwards.
    """
    # CSS keeps the element from taking a row of its own.
    with st.container(key="chart-library", height=1, border=False):
        _LIBRARY(key="plotly-library", data=_plotly_js())


@st.cache_resource(show_spinner=False)
def _plotly_js() -> bytes:
    """The minified library that ships in the plotly package; reading the file avoids importing the package."""
    from importlib.resources import files

    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


def live_chart(picture: Picture, *, key: str, label: str, scale: str = LINEAR, height: int = 400) -> None:
    """Draws or updates a chart.

    Args:
        picture: its curves, each with id (letters, digits, "_" and "-"; hidden curves are remembered by it), name, x, y
            (None for a gap), mode ("lines" or "lines+markers"), color ("text", "muted", "accent" or a place in
            the palette), and optionally width, dash, faint (drawn pale, not in the legend), right (shares of 1, on an
            axis of their own) and of (the id of the curve it is shown and hidden with).
        key: identifies the chart; zoom (by what the axes show) and hidden curves (by id) are remembered under it in
            the browser tab.
        label: what the chart shows, for screen readers.
        scale: of the y axis: LINEAR, LOG, or CLIPPED: it ends where only outliers lie beyond; they stay in the curves.
        height: in pixels.
    """
    data = {
        "key": key,
        "curves": [curve | {"name": plot_text(curve["name"])} for curve in picture.curves],
        "xTitle": picture.x_title,
        "yTitle": picture.y_title,
        "rightTitle": picture.right_title,
        "label": label,
        "log": scale == LOG,
        "clip": scale == CLIPPED,
        "height": height,
    }
    # Streamlit takes no "__" in a key; the name of a run may have it.
    _CHART(key=key.replace("__", "_-"), data=data, height=height)
