"""The runs that the training page can show: which there are, which is chosen, what their states mean in words."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.train.run import Run, Status, list_runs
from sam3_lora.ui import state
from sam3_lora.ui.metrics_view import History
from sam3_lora.ui.resources import runs_folder

RUN_PARAMETER = "run"  # in the page's address: the name of a run's folder
_CHOICE = "run-choice"
_HISTORIES = "run-histories"
_KEPT_HISTORIES = 3

# state -> (words, colour, Material symbol)
STATES = {
    "preparing": ("Preparing", "blue", "hourglass_top"),
    "running": ("Training", "blue", "play_arrow"),
    "paused": ("Paused", "orange", "pause"),
    "stopping": ("Stopping", "orange", "hourglass_bottom"),
    "stopped": ("Stopped", "orange", "stop"),
    "finished": ("Finished", "green", "check"),
    "failed": ("Failed", "red", "error"),
    "crashed": ("Interrupted", "red", "power_off"),
}


def all_runs() -> list[Run]:
    """The runs of the app's folder and of the configured one, newest first."""
    config: RunConfig | None = st.session_state.get(state.RUN_CONFIG)
    folders = [Path(config.output.runs)] if config else []
    found = {run.name: run for folder in (*folders, runs_folder()) for run in list_runs(folder)}
    return [found[name] for name in sorted(found, reverse=True)]


def open_run(run: Run) -> None:
    """Makes a run the one that the page shows; call it before :func:`choose_run`, or in a callback."""
    st.session_state[_CHOICE] = run.name


def choose_run(runs: list[Run], active: Run | None) -> Run:
    """Draws the choice of the run to look at.

    Opened first, the page shows the run of its address, then the one looked at last, then the one
    that is being trained, then the newest.
    """
    by_name = {run.name: run for run in runs}
    asked = st.query_params.get(RUN_PARAMETER)
    if st.session_state.get(_CHOICE) not in by_name:
        last = Path(st.session_state.get(state.CURRENT_RUN, "")).name
        candidates = (asked, last, active.name if active else None, runs[0].name)
        st.session_state[_CHOICE] = next(name for name in candidates if name in by_name)
        if asked and asked not in by_name:
            st.toast(f"There is no run {asked}; the newest one is shown.", icon=":material/info:")
    # The labels must not change while a run goes on: the browser answers with the label it was given.
    name = st.selectbox("Run", list(by_name), key=_CHOICE, format_func=run_title)
    st.query_params[RUN_PARAMETER] = name
    st.session_state[state.CURRENT_RUN] = str(by_name[name].folder)
    return by_name[name]


def run_title(name: str) -> str:
    """ "20260131-175902-potholes" -> "potholes, 31 January 2026 at 17:59:02"; other names stay as they are."""
    try:
        began = datetime.strptime(name[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return name
    return f"{name[16:]}, {began:%d %B %Y at %H:%M:%S}".replace(", 0", ", ")


def show_all_runs(runs: list[Run]) -> None:
    """A table of every run; a click on a row opens it."""
    rows = pd.DataFrame([_row(run) for run in runs])
    key = "all-runs-table"

    def open_selected() -> None:
        selected = st.session_state[key].selection.rows
        if selected:
            open_run(runs[selected[0]])

    st.dataframe(
        rows,
        key=key,
        hide_index=True,
        on_select=open_selected,
        selection_mode="single-row",
        placeholder="–",
        column_config={
            "Best validation loss": st.column_config.NumberColumn(format="%.3f"),
            "Started": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
        alt="All runs with their state, steps, best validation loss and time",
    )


def _row(run: Run) -> dict[str, object]:
    status = run.status()
    return {
        "Run": run_title(run.name).partition(",")[0],
        "State": STATES[status.state][0],
        "Steps": f"{status.step} of {status.total_steps}" if status.total_steps else "",
        "Best validation loss": status.best_validation_loss,
        "Started": datetime.fromtimestamp(status.started) if status.started else None,
        "Time": duration((time.time() if status.active else status.updated) - status.started),
    }


def duration(seconds: float | None) -> str:
    """3725 -> "1 h 2 min"; empty for None."""
    if seconds is None or seconds < 0:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def progress_sentence(status: Status) -> str:
    """Where a run stands, beside its state: "Step 120 of 400, epoch 3 of 10, about 4 min left, on cpu"."""
    parts = []
    if status.total_steps:
        parts.append(f"step {status.step:,} of {status.total_steps:,}")
    if status.epochs:
        parts.append(f"epoch {min(status.epoch, status.epochs)} of {status.epochs}")
    if status.active and status.eta_seconds is not None:
        parts.append(f"about {duration(status.eta_seconds)} left")
    elif not status.active and status.started:
        parts.append(f"{duration(status.updated - status.started)} in all")
    if status.device:
        parts.append(f"on {status.device}")
    sentence = ", ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def read_history(run: Run) -> History:
    """The run's metrics so far; each call reads only what was appended since the last one in this tab."""
    cache: OrderedDict[str, tuple[int, History]] = st.session_state.setdefault(_HISTORIES, OrderedDict())
    key = str(run.folder)
    offset, history = cache.pop(key, (0, History()))
    rows, offset = run.metrics(offset)
    history.extend(rows)
    cache[key] = (offset, history)
    while len(cache) > _KEPT_HISTORIES:
        cache.popitem(last=False)
    return history
