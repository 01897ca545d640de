"""What the training page shows of one run: where it stands, its curves, its last step, its results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from sam3_lora.train.run import Run, Status
from sam3_lora.ui.curves import loss_curves, single_curve
from sam3_lora.ui.layout import escape
from sam3_lora.ui.live_chart import live_chart
from sam3_lora.ui.metrics_view import GROUPS, History, last_step_table
from sam3_lora.ui.next_run import use_settings
from sam3_lora.ui.resources import runs_folder
from sam3_lora.ui.runs import STATES, progress_sentence

_LOG_LINES = 200
# What the chart can show beside the losses.
_MEASURES: dict[str, Callable[[History], list[float]]] = {
    "Learning rate": lambda history: history.learning_rates,
    "Images per second": lambda history: history.speeds,
    "Gradient norm": lambda history: history.gradient_norms,
}


def show_status(status: Status, history: History) -> None:
    """The state in words, the progress and the numbers of the moment."""
    words, color, icon = STATES[status.state]
    st.markdown(f":{color}-badge[:material/{icon}: {words}] {progress_sentence(status)}")
    if status.total_steps:
        st.progress(min(status.step / status.total_steps, 1.0))
    if status.state == "failed":
        st.error(escape(status.message) or "The log below says why.", icon=":material/error:")
    elif status.message:
        st.caption(escape(status.message))
    if history.steps:
        _show_numbers(status, history)


def _show_numbers(status: Status, history: History) -> None:
    columns = st.columns(5)
    columns[0].metric("Total loss", f"{history.totals[-1]:.2f}")
    best = status.best_validation_loss
    columns[1].metric("Best validation loss", "none yet" if best is None else f"{best:.2f}")
    speed, rate = history.speeds[-1], history.learning_rates[-1]
    columns[2].metric("Images per second", f"{speed:.3g}")
    columns[3].metric("Learning rate", f"{rate:.3g}")
    memory = status.memory_bytes
    columns[4].metric("Memory", "unknown" if memory is None else f"{memory / 2**30:.2f} GiB")


def show_chart(run: Run, history: History) -> None:
    """The chart with its controls: the losses, or one of the other measures."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        measure = _choice("Curves", ["Loss", *_MEASURES], "chart-measure")
        scale = _choice("Scale", ["Linear", "Log"], "chart-scale")
        if measure == "Loss":
            terms = _choice(
                "Auxiliary layers, one-to-many",
                ["Summed", "Each term"],
                "chart-terms",
                "Auxiliary layers and one-to-many queries have terms of their own: show their sums, or every one.",
            )
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.0,
            0.01,
            key="chart-smoothing",
            persist_state="session",
            width=200,
            help="Weight of the past in a moving average; the measured values stay visible as pale lines.",
        )
    if measure == "Loss":
        curves = loss_curves(history, smoothing=smoothing, every_term=terms == "Each term")
        title = "Weighted loss"
    else:
        title = measure
        curves = single_curve(measure, history, _MEASURES[measure](history), smoothing=smoothing)
    live_chart(
        curves,
        key=f"{measure.lower().replace(' ', '-')}-{run.name}",
        x_title="Step",
        y_title=title,
        label=f"{title} of the run {run.name} over its steps",
        log=scale == "Log",
    )


def _choice(label: str, options: list[str], key: str, help: str | None = None) -> str:
    return st.segmented_control(
        label, options, default=options[0], required=True, key=key, persist_state="session", help=help
    )


def show_last_step(history: History) -> None:
    """Each weighted term of the newest step and what it contributes."""
    row = history.last
    assert row is not None
    table = pd.DataFrame(last_step_table(row["terms"], row.get("raw", {})))
    st.caption(f"Step {row['step']:,}: weighted terms by where they come from, and their share of the total.")
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        column_order=["term", *GROUPS, "weighted", "share", "raw"],
        column_config={
            "term": "Term",
            "main": number("Main layer", format="%.3f"),
            "auxiliary": number("Auxiliary layers", format="%.3f"),
            "one-to-many": number("One-to-many", format="%.3f"),
            "weighted": number("Weighted", format="%.3f"),
            "share": st.column_config.ProgressColumn("Share of total", format="percent", min_value=0, max_value=1),
            "raw": number("Raw, main layer", format="%.4f"),
        },
        placeholder="",
        alt="Terms of the last step",
    )


def show_log(run: Run) -> None:
    """The end of the log, scrolled down to its newest line."""
    text = run.log_tail(_LOG_LINES)
    if not text:
        st.caption("Nothing has been logged yet.")
        return
    fits = text.count("\n") < 12
    with st.container(height="content" if fits else 320, autoscroll=not fits, border=False):
        st.code(text, language=None)


def show_settings(run: Run) -> None:
    """What the run was started with, and the way to use it again."""
    config = run.config
    st.code(config.to_yaml(), language="yaml", height=320)
    if st.button("Use for the next run", icon=":material/tune:", key="use-settings"):
        use_settings(config)
        st.rerun()


def show_results(run: Run, status: Status) -> None:
    """The adapters saved so far, with the way to try them."""
    adapters = run.adapters()
    if not adapters:
        return
    st.subheader("Adapters", anchor=False)
    for name, folder in adapters.items():
        meaning = "lowest validation loss" if name == "best" else "the last one saved"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{name.capitalize()}**, {meaning}: `{folder}`", width="stretch")
            if not status.active:
                st.page_link(
                    "pages/inference.py",
                    label="Try it",
                    icon=":material/arrow_forward:",
                    query_params={"adapter": _address(run, name, folder)},
                )


def _address(run: Run, name: str, folder: Path) -> str:
    """How the inference page calls the adapter: by run in the app's own folder, otherwise by path."""
    return f"{run.name}/{name}" if run.folder.parent == runs_folder() else str(folder)
