"""The live chart of a run with its controls: curves, x axis, scale and smoothing, kept in the page's address."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from sam3_lora.monitor.curves import REPLAY, SHOWN, STEPS, TIME, Picture, draw
from sam3_lora.runs.run import Run
from sam3_lora.ui.components.layout import choose_one
from sam3_lora.ui.components.live_chart import CLIPPED, LINEAR, LOG, live_chart
from sam3_lora.ui.components.tables import folded_table
from sam3_lora.ui.runs import follow

SMOOTHING = 0.9  # single batches scatter so much that their curves hide what they do


@dataclass(frozen=True)
class ChartOptions:
    """How curves are shown."""

    shown: str  # key of monitor.curves.SHOWN or COMPARED
    smoothing: float  # weight of the past, in [0, 1)
    along: str  # STEPS or TIME
    scale: str  # LINEAR, CLIPPED or LOG


def show_chart(run: Run) -> None:
    """Draws the chart of a run with its controls."""
    history = follow(run).history
    options = choose_options([name for name in SHOWN if name != REPLAY or history.replays], "chart")
    curves = draw(history, options.shown, smoothing=options.smoothing, along=options.along)
    show_curves(curves, options, f"curves-{run.name}", f"{options.shown} of the run {run.name}")


def show_curves(curves: Picture, options: ChartOptions, key: str, label: str, height: int = 400) -> None:
    """Draws or updates a chart.

    Args:
        curves: with the titles of their axes.
        options: how they are shown.
        key, label, height: as :func:`sam3_lora.ui.components.live_chart.live_chart` takes them.
    """
    if not any(curve["x"] for curve in curves.curves):
        st.caption(":material/info: No data yet.")
        return
    live_chart(curves, key=key, label=label, scale=options.scale, height=height)
    folded_table(curves.rows, label, f"{key}-table")


def choose_options(curves: list[str], key: str) -> ChartOptions:
    """Draws the row of controls. Bound to the address: a reload, another page and a link keep the choices.

    Args:
        curves: which can be chosen.
        key: begins the keys of the controls.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        shown = st.selectbox("Curves", curves, key=f"{key}-curves", width=230, bind="query-params")
        box = st.popover("Axes", icon=":material/tune:", key=f"{key}-options", width="content")
    with box:
        scale = choose_one(
            "Scale",
            [LINEAR, CLIPPED, LOG],
            f"{key}-scale",
            bind="query-params",
            help="Clipped cuts off the highest 2 % of each curve, so that a few spikes do not flatten the rest.",
        )
        along = choose_one("X axis", [STEPS, TIME], f"{key}-along", bind="query-params")
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            SMOOTHING,
            0.01,
            key=f"{key}-smoothing",
            bind="query-params",
            help="Weight of past values in an exponential moving average. The raw values stay visible as faint lines; "
            "0 is no smoothing.",
        )
    return ChartOptions(shown, smoothing, along, scale)
