"""The runs: which there are, which one is selected, their states in words, and their metrics as they grow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.monitor.history import History
from sam3_lora.monitor.rolling import RollingMetrics
from sam3_lora.monitor.run_verdict import USABLE_F1
from sam3_lora.runs.metrics import f1_after
from sam3_lora.runs.run import Run, Status, list_runs, newest_first
from sam3_lora.text import duration
from sam3_lora.ui import state
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.tables import DATE, show_table
from sam3_lora.ui.preferences import load_preferences
from sam3_lora.ui.resources import get_train_job, runs_folder

POLL_SECONDS = 2  # between two looks at a run in progress
RUN_PARAMETER = "run"  # in the page's address: the name of a run's folder
_CHOICE = "run-choice"
_DELETED = "run-deleted"  # the name of the one that was deleted in this tab last
_KEPT = 6  # runs whose metrics a tab caches: as many as can be compared
_PORTION_BYTES = 8_000_000  # of metrics read at once
_LOOKED_AT = 50  # newest runs whose state is asked for to see whether one has begun elsewhere

TABLE_COLUMNS = {"Lowest validation loss": "%.3f", "Started": DATE, "Adapter": "%.1f MB"}  # of a table of runs
# state -> (words, color, Material symbol)
STATES = {
    "preparing": ("Preparing", "blue", "hourglass_top"),
    "running": ("Training", "blue", "play_arrow"),
    "paused": ("Paused", "orange", "pause"),
    "stopping": ("Stopping", "orange", "hourglass_bottom"),
    "stopped": ("Stopped", "orange", "stop"),
    "finished": ("Finished", "green", "check"),
    "failed": ("Failed", "red", "error"),
    "crashed": ("Crashed", "red", "power_off"),
}


def all_runs() -> list[Run]:
    """The runs of the app's folder, of the configured one and of those of the runs in progress and in view.

    Returns:
        The newest first.
    """
    config: RunConfig | None = st.session_state.get(state.RUN_CONFIG)
    folders = [config.output.runs_folder] if config else []
    folders += [Path(shown).parent for shown in (st.session_state.get(state.CURRENT_RUN),) if shown]
    current = get_train_job().current
    folders += [current.folder.parent] if current else []
    elsewhere = load_preferences().launched_elsewhere
    folders += [Path(elsewhere).parent] if elsewhere and Run(Path(elsewhere)).status().active else []
    found = {run.name: run for folder in dict.fromkeys((*folders, runs_folder())) for run in list_runs(folder)}
    return newest_first(found.values())


@dataclass
class Followed:
    """A run's configuration, and what is known of its metrics up to a place in their file.

    config: None while it cannot be read, for the reason in problem.
    """

    config: RunConfig | None = None
    problem: Sam3LoraError | None = None
    history: History = field(default_factory=History)
    rolling: RollingMetrics = field(default_factory=RollingMetrics)
    offset: int = 0


class Seen(NamedTuple):
    """A run as it was seen: when this changes, the page is drawn again."""

    name: str
    active: bool = False  # it is being trained
    launched: bool = False  # by a process that an app of this user has started
    interrupted: bool = False  # it crashed, or was stopped when an app was closed; a run of this user


def look_at(runs: list[Run]) -> tuple[Seen, ...]:
    """What is to be seen of each run; only the name of those that are not among the newest."""
    return tuple(_look_at(run) if number < _LOOKED_AT else Seen(run.name) for number, run in enumerate(runs))


def _look_at(run: Run) -> Seen:
    status = run.status()
    interrupted = status.state == "crashed" or status.interrupted
    if not (status.launched or interrupted) or not _is_own(run):
        return Seen(run.name, status.active)
    return Seen(run.name, status.active, status.active and status.launched, interrupted)


def _is_own(run: Run) -> bool:
    """Whether the run's folder belongs to this user; always where a system has no such owners."""
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        return user is None or run.folder.stat().st_uid == user
    except OSError:  # just deleted
        return False


def open_run(run: Run) -> None:
    """Makes a run the one that the page shows; call it before :func:`choose_run`, or in a callback."""
    st.session_state[_CHOICE] = run.name


def delete(run: Run) -> None:
    """Deletes a run; the page then does not report it as missing."""
    run.delete()
    st.session_state[_DELETED] = run.name


def choose_run(runs: list[Run], active: Run | None) -> Run:
    """Draws the choice of the run to show.

    Opened first, the page shows the run of its address, then the one looked at last, then the one
    that is being trained, then the newest.
    """
    by_name = {run.name: run for run in runs}
    asked, before = st.query_params.get(RUN_PARAMETER), st.session_state.get(_CHOICE)
    if before not in by_name:
        last = Path(st.session_state.get(state.CURRENT_RUN, "")).name
        candidates = (asked, last, active.name if active else None, runs[0].name)
        st.session_state[_CHOICE] = next(name for name in candidates if name in by_name)
        gone, shown = before or asked, st.session_state[_CHOICE]
        if gone and gone not in by_name and gone != st.session_state.get(_DELETED):
            words = "no longer there" if before else "not there"
            st.toast(
                f"The run {escape(run_title(gone))} is {words}; {escape(run_title(shown))} is shown.",
                icon=":material/info:",
            )
    # The labels must not change while a run is trained: the browser sends back the label that it was given.
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


def adapter_title(name: str) -> str:
    """ "20260131-175902-potholes/best" -> "potholes (best), 31 January 2026 at 17:59:02"; other names stay."""
    run, _, kind = name.rpartition("/")
    label, title = run_label(run), run_title(run)
    return f"{label} ({kind}){title.removeprefix(label)}" if run and title != run else name


def run_label(name: str) -> str:
    """A run's name where there is little room: "20260131-175902-potholes" -> "potholes"; others stay as they are."""
    return name[16:] or name if run_title(name) != name else name


def may_find_nothing(status: Status, f1: float | None) -> bool:
    """Whether the adapters of a run may find nothing: it is in progress, has little F1, or ended early, unmeasured.

    Args:
        status: of the run.
        f1: see :func:`best_f1`.
    """
    return status.state != "finished" if f1 is None else status.active or f1 < USABLE_F1


def active_run() -> Run | None:
    """The run in progress that was begun last."""
    return next((run for run in all_runs()[:_LOOKED_AT] if run.status().active), None)


def show_all_runs(runs: list[Run]) -> None:
    """A table of every run; a click on a row opens it."""
    alt = "All runs with their state, steps, best adapter, lowest validation loss, time and adapter size"
    rows = map(table_row, runs)
    show_table(rows, alt, TABLE_COLUMNS, open_row=lambda row: open_run(runs[row]), key="all-runs-table")


def table_row(run: Run) -> dict[str, object]:
    """A run in the table of runs."""
    status, size = run.status(), run.adapter_bytes()
    return {
        "Run": run_title(run.name),
        "State": STATES[status.state][0],
        "Steps": f"{status.step} of {status.total_steps}" if status.total_steps else "",
        "Best adapter": status.best_sentence,
        "Lowest validation loss": status.best_validation_loss,
        "Started": datetime.fromtimestamp(status.started) if status.started else None,
        "Time": duration(status.trained_seconds or None),
        "Adapter": size / 1e6 if size else None,
    }


def resume_hint(run: Run) -> str:
    """Where a run that has ended goes on."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        return "It has no checkpoint: start it again with its settings, which are below."
    return f"Resume continues after step {int(checkpoints[0].stem.removeprefix('step-')):,}."


def progress_sentence(status: Status) -> str:
    """Where a run stands, beside its state: "Step 120 of 400, epoch 3 of 10, about 4 min left, on cpu"."""
    parts = []
    if status.preparation is not None and status.active:
        parts.append(status.preparation.sentence)
    elif status.total_steps:
        parts.append(f"step {status.step:,} of {status.total_steps:,}")
    if status.epochs and (status.preparation is None or not status.active):
        parts.append(f"epoch {min(status.epoch, status.epochs)} of {status.epochs}")
    if status.active and status.eta_seconds is not None:
        parts.append(f"about {duration(status.eta_seconds)} left")
    elif not status.active and status.trained_seconds:
        parts.append(f"{duration(status.trained_seconds)} in all")
    if status.device:
        parts.append(f"on {status.device}")
    sentence = ", ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def stamp(run: Run, name: str) -> tuple[int, int]:
    """Changes when a file of a run does."""
    try:
        stat = os.stat(run.folder / name)
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


def best_f1(run: Run, status: Status) -> float | None:
    """F1 of a run's best adapter on the validation images; None where it was not measured."""
    if not status.best_step:
        return None
    return _best_f1(str(run.folder), status.best_step, stamp(run, "metrics.jsonl"))


@st.cache_data(max_entries=200, show_spinner=False)
def _best_f1(folder: str, step: int, stamp: Sequence[int]) -> float | None:
    return f1_after(Path(folder) / "metrics.jsonl", step)


def share_done(status: Status) -> float:
    """How much of a run is done, in [0, 1]: of its steps, or of its preparation before the first."""
    if status.preparation is not None and status.active:
        return min(status.preparation.done / max(status.preparation.total, 1), 1.0)
    return min(status.step / max(status.total_steps, 1), 1.0)


def adapter_address(run: Run, kind: str) -> str:
    """The name of a run's adapter in addresses: by the run in the app's own folder, otherwise its path.

    Args:
        run: any.
        kind: "best" or "last".
    """
    return f"{run.name}/{kind}" if run.folder.parent == runs_folder() else str(run.folder / "adapters" / kind)


def follow(run: Run) -> Followed:
    """The run's metrics so far; each call reads only what was appended since the last one in this tab."""
    followed = _followed(str(run.folder))
    if followed.config is None:
        try:
            followed.config, followed.problem = run.config, None
        except Sam3LoraError as error:
            followed.problem = error
    while True:
        rows, offset = run.metrics(followed.offset, _PORTION_BYTES)
        if offset == followed.offset:
            break
        followed.history.extend(rows)
        followed.rolling.extend(rows)
        followed.offset = offset
    return followed


@st.cache_resource(max_entries=_KEPT, show_spinner=False, scope="session")
def _followed(folder: str) -> Followed:
    """What this tab knows of the run in a folder."""
    return Followed()
