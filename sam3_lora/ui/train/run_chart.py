"""The live chart of a run with its controls: which curves, over what, how smooth; the choices live in the address."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from sam3_lora.monitor.curves import SHOWN, STEPS, TIME, Picture, draw
from sam3_lora.monitor.history import History
from sam3_lora.runs.run import Run
from sam3_lora.ui.components.live_chart import live_chart

SMOOTHING = 0.9  # single batches scatter so much that their curves hide what they do
LINEAR, CLIPPED, LOG = "Linear", "Clipped", "Log"


@dataclass(frozen=True)
class ChartOptions:
    """How curves are shown."""

    shown: str
    smoothing: float
    along: str
    scale: str


def show_chart(run: Run, history: History) -> None:
    """The chart with its controls."""
    look = choose_look(list(SHOWN), "chart")
    picture = draw(history, look.shown, smoothing=look.smoothing, along=look.along)
    show_picture(picture, look, f"curves-{run.name}", f"{look.shown} of the run {run.name}")


def show_picture(picture: Picture, look: ChartOptions, key: str, label: str, height: int = 400) -> None:
    """Draws or updates a chart."""
    if not any(curve["x"] for curve in picture.curves):
        st.caption(":material/info: There is nothing of it yet.")
        return
    live_chart(
        picture.curves,
        key=key,
        x_title=picture.x_title,
        y_title=picture.y_title,
        label=label,
        log=look.scale == LOG,
        clip=look.scale == CLIPPED,
        height=height,
    )


def choose_look(options: list[str], key: str) -> ChartOptions:
    """The row of controls. Bound to the address: a reload, another page and a link keep the choices."""
    kept = {"bind": "query-params"}
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        shown = st.selectbox("Curves", options, key=f"{key}-curves", width=230, **kept)
        scale = _choice(
            "Scale",
            [LINEAR, CLIPPED, LOG],
            f"{key}-scale",
            "Clipped ends the axis above all but the highest 2 % of each curve: a few spikes do not flatten the rest.",
        )
        along = _choice("Along", [STEPS, TIME], f"{key}-along")
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            SMOOTHING,
            0.01,
            key=f"{key}-smoothing",
            width=180,
            help="Weight of the past in a moving average; the measured values stay visible as pale lines. 0 shows them "
            "as they are.",
            **kept,
        )
    return ChartOptions(shown, smoothing, along, scale)


def _choice(label: str, options: list[str], key: str, help: str | None = None) -> str:
    return st.segmented_control(
        label, options, default=options[0], required=True, key=key, bind="query-params", help=help
    )
