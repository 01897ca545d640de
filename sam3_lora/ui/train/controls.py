"""The buttons of a run: pause, stop, resume, one-shot requests, rename, download, delete."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.archive import zip_run
from sam3_lora.runs.requests import Request
from sam3_lora.runs.run import RESUME_OBSTACLES, Run, Status
from sam3_lora.ui import runs
from sam3_lora.ui.components.layout import action_button, download, escape, guarded
from sam3_lora.ui.train.keep_training import keeps_training
from sam3_lora.ui.train_job import TrainJob

_DIALOG_OPEN = "controls-dialog-open"  # bool
_STOPPING = "The run is stopping: it ends after the current step and saves its adapter."
_NOT_TRAINING = "This run is not being trained."
# request -> (label, Material symbol, what it does)
ONE_SHOT_REQUESTS: dict[Request, tuple[str, str, str]] = {
    "validate": ("Validate now", "straighten", "Evaluates on the validation split after the current step."),
    "sample": ("Sample now", "imagesmode", "Predicts the sample images after the current step."),
    "save": ("Save now", "save", "Writes a checkpoint and the adapter after the current step."),
}


def show_controls(run: Run, status: Status, train_job: TrainJob, checking: bool) -> None:
    """Draws what can be done with a run in its state: pause or resume, stop; and a menu of the rest.

    Args:
        run, status: the run that is shown.
        train_job: of this process.
        checking: whether a check is in progress.
    """
    blocked = _STOPPING if status.state == "stopping" else None if status.active else _NOT_TRAINING
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="controls"):
        if status.state == "paused":
            _request_button("Resume", "play_arrow", "continue", run, blocked)
        elif status.active:
            _request_button("Pause", "pause", "pause", run, blocked, "The model stays in memory.")
        if status.active:
            meaning = "Saves a checkpoint and ends; the run can be resumed."
            _request_button("Stop", "stop", "stop", run, blocked, meaning)
        elif status.state != "finished":
            reason = why_not_resume(run, status, train_job, checking)
            _button("Resume", "resume", "resume", reason, lambda: train_job.resume(run, outlives_app=keeps_training()))
        with st.popover("More", icon=":material/more_horiz:", key="more"), st.container(gap="xsmall"):
            for request, (label, icon, meaning) in ONE_SHOT_REQUESTS.items():
                _request_button(label, icon, request, run, blocked or _why_not_request(run, request), meaning)
            st.divider()
            not_now = "Stop the run first." if status.active else None
            _dialog_button("Rename", "edit", "rename", rename_dialog, run, not_now)
            _show_download(run)
            if status.active:
                _dialog_button("Stop and discard", "delete", "discard", discard_dialog, run)
            else:
                _dialog_button("Delete", "delete", "delete", delete_dialog, run)


def why_not_resume(run: Run, status: Status, train_job: TrainJob, checking: bool) -> str | None:
    """Why a run cannot be resumed now; None if it can.

    Args:
        run, status: the run that is shown.
        train_job: of this process.
        checking: whether a check is in progress.
    """
    if not status.active and status.state != "finished":
        if train_job.current is not None:
            return "Another run is in progress."
        if checking:
            return "A check is in progress: wait for it, or cancel it above."
    obstacle = run.resume_obstacle()
    return RESUME_OBSTACLES[obstacle] if obstacle else None


def _why_not_request(run: Run, request: Request) -> str | None:
    if request in run.requests.pending():
        return "Requested: runs after the current step."
    if request == "validate":
        with suppress(Sam3LoraError):  # a file that was damaged meanwhile: the run itself knows its settings
            held_out = run.held_out()
            validates = run.config.data.valid_split if held_out is None else held_out.images
            return None if validates else "This run has no validation split."
    return None


def _request_button(
    label: str, icon: str, what: Request, run: Run, reason: str | None, meaning: str | None = None
) -> None:
    _button(label, icon, what, reason, lambda: run.requests.add(what), meaning)


def _dialog_button(
    label: str, icon: str, key: str, dialog: Callable[[Run], None], run: Run, reason: str | None = None
) -> None:
    if _draw_button(label, icon, key, reason):
        st.session_state[_DIALOG_OPEN] = True
        dialog(run)


def _button(
    label: str, icon: str, key: str, reason: str | None, act: Callable[[], object], meaning: str | None = None
) -> None:
    """A button that acts at once; its tooltip says why it cannot (reason), else what it does (meaning)."""
    if _draw_button(label, icon, key, reason, meaning):
        with guarded():
            act()
            st.rerun()


def _draw_button(label: str, icon: str, key: str, reason: str | None, meaning: str | None = None) -> bool:
    in_menu = key not in ("pause", "continue", "stop", "resume")
    return action_button(label, icon, key, reason, meaning, width="stretch" if in_menu else "content")


def _show_download(run: Run) -> None:
    reason = None if run.adapters() else "This run has no adapter yet."
    meaning = reason or "Adapters, settings, metrics and log in a zip archive."
    name, disabled = f"{run.name}.zip", reason is not None
    download("Download", lambda: _archive(run), name, "download", meaning, width="stretch", disabled=disabled)


def _archive(run: Run) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return zip_run(run.folder, Path(folder)).read_bytes()


def dialog_closed() -> None:
    """Notes that no dialog is open: one was closed, or the whole page runs, which closes all."""
    st.session_state[_DIALOG_OPEN] = False


def is_dialog_open() -> bool:
    """Whether a dialog is open: a page that reruns by itself would close it, and what was typed would be lost."""
    return st.session_state.get(_DIALOG_OPEN, False)


@st.dialog("Rename this run", on_dismiss=dialog_closed)
def rename_dialog(run: Run) -> None:
    """Draws the field of another name."""
    name = run.name
    with suppress(Sam3LoraError):
        name = run.config.output.name
    name = st.text_input("Name", name, key="new-name", max_chars=60)
    if st.button("Rename", type="primary", key="rename-confirmed"):
        with guarded():
            runs.open_run(run.rename(name))
            st.rerun()


@st.dialog("Delete this run?", on_dismiss=dialog_closed)
def delete_dialog(run: Run) -> None:
    """Asks for confirmation before a run is deleted."""
    consequence = "its adapters, checkpoints, metrics and samples will be permanently deleted."
    _confirm(run, consequence, "Delete", lambda: runs.delete(run))


@st.dialog("Stop and discard this run?", on_dismiss=dialog_closed)
def discard_dialog(run: Run) -> None:
    """Asks for confirmation before a run that is being trained is ended and deleted."""
    consequence = (
        "it ends after the current step, and its adapters, checkpoints, metrics and samples will be permanently "
        "deleted. To keep them, press Stop instead."
    )
    _confirm(run, consequence, "Discard", lambda: run.requests.add("discard"))


def _confirm(run: Run, consequence: str, label: str, act: Callable[[], object]) -> None:
    key = f"{label.lower()}-confirmed"
    st.markdown(f"**{escape(runs.run_title(run.name))}**: {consequence}")
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", key=f"{key}-not"):
            st.rerun()
        if st.button(label, type="primary", key=key):
            with guarded():
                act()
                st.rerun()


def offer_active_run(found: list[Run], shown: Run) -> None:
    """Draws a line about each run that is being trained while another one is shown."""
    for name in (run.name for run in runs.look_at(found) if run.active and run.name != shown.name):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f":material/monitoring: {escape(runs.run_title(name))} is training.", width="content")
            run = next(run for run in found if run.name == name)
            st.button("Show", type="tertiary", key=f"show-{name}", on_click=runs.open_run, args=(run,))
