"""What can be done with a run: its buttons, and for each that cannot act now the reason."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.run import Run, Status
from sam3_lora.ui import runs
from sam3_lora.ui.components.layout import escape, guarded
from sam3_lora.ui.train_job import TrainJob

# errand -> (label, Material symbol, what it does)
_ASKING = "controls-asking"  # whether a dialog is open

ONE_SHOT_REQUESTS = {
    "validate": ("Validate now", "straighten", "Measures on the validation split after the step in progress."),
    "sample": ("Sample now", "imagesmode", "Predicts the sample images after the step in progress."),
    "save": ("Save now", "save", "Writes a checkpoint and the adapter after the step in progress."),
}


def show_controls(run: Run, status: Status, train_job: TrainJob, checking: bool) -> None:
    """Pause or continue, stop, resume, and a menu of the rest."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="controls"):
        if status.state == "paused":
            _request_button("Continue", "play_arrow", "continue", run, why_not_pause(status))
        else:
            _request_button("Pause", "pause", "pause", run, why_not_pause(status), "The model stays in memory.")
        _request_button("Stop", "stop", "stop", run, why_not_stop(status), "Saves, then ends; it can be resumed.")
        if status.state != "paused":  # "Continue" is what goes on then
            _button(
                "Resume",
                "resume",
                "resume",
                why_not_resume(run, status, train_job, checking),
                lambda: train_job.resume(run),
            )
        with st.popover("More", icon=":material/more_horiz:", key="more"):
            _show_menu(run, status)


def _show_menu(run: Run, status: Status) -> None:
    with st.container(gap="xsmall"):
        for what, (label, icon, meaning) in ONE_SHOT_REQUESTS.items():
            _request_button(label, icon, what, run, why_not_errand(run, status, what), meaning)
        st.divider()
        renaming = "Stop the run first." if status.active else None
        _button("Rename", "edit", "rename", renaming, lambda: rename_dialog(run), asks=True)
        _show_download(run)
        if status.active:
            _button("Stop and discard", "delete", "discard", None, lambda: discard_dialog(run), asks=True)
        else:
            _button("Delete", "delete", "delete", None, lambda: delete_dialog(run), asks=True)


def why_not_pause(status: Status) -> str | None:
    """Why the run cannot be paused, as a sentence; None if it can."""
    if status.state == "stopping":
        return "The run is stopping."
    return None if status.active else "This run is not being trained."


def why_not_stop(status: Status) -> str | None:
    """Why the run cannot be stopped, as a sentence; None if it can."""
    if status.state == "stopping":
        return "The run stops after the step in progress and saves its adapter."
    return None if status.active else "This run is not being trained."


def why_not_resume(run: Run, status: Status, train_job: TrainJob, checking: bool) -> str | None:
    """Why the run cannot be resumed, as a sentence; None if it can."""
    if not status.active and status.state != "finished":
        if train_job.current is not None:
            return "Another run is in progress."
        if checking:
            return "A check is in progress: wait for its end, or cancel it above."
    return run.why_not_resume()


def why_not_errand(run: Run, status: Status, what: str) -> str | None:
    """Why a one-shot request cannot be made, as a sentence; None if it can."""
    if not status.active or status.state == "stopping":
        return "This run is not being trained." if not status.active else "The run is stopping."
    if what in run.requests():
        return "Asked for already: it is done after the step in progress."
    if what == "validate":
        with suppress(Sam3LoraError):  # a file that was damaged meanwhile: the run itself knows its settings
            return None if run.config.data.valid_split else "This run has no validation split."
    return None


def _request_button(label: str, icon: str, what: str, run: Run, reason: str | None, meaning: str = "") -> None:
    _button(label, icon, what, reason, lambda: run.request(what), meaning)


def _button(
    label: str,
    icon: str,
    key: str,
    reason: str | None,
    act: Callable[[], object],
    meaning: str = "",
    asks: bool = False,
) -> None:
    """A button whose tooltip says why it cannot act, else what it does. asks: what it does is open a dialog."""
    pressed = st.button(
        label,
        icon=f":material/{icon}:",
        key=key,
        disabled=reason is not None,
        help=reason or meaning or None,
        width="content" if key in ("pause", "continue", "stop", "resume") else "stretch",
    )
    if pressed:
        st.session_state[_ASKING] = asks
        with guarded():
            act()
            if not asks:
                st.rerun()


def _show_download(run: Run) -> None:
    reason = None if run.adapters() else "There is no adapter yet."
    st.download_button(
        "Download",
        lambda: _archive(run),
        file_name=f"{run.name}.zip",
        mime="application/zip",
        icon=":material/download:",
        key="download",
        on_click="ignore",
        width="stretch",
        disabled=reason is not None,
        help=reason or "Adapters, settings, metrics and log in one file.",
    )


def _archive(run: Run) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return run.archive(Path(folder)).read_bytes()


def stop_asking() -> None:
    """No dialog is open any more: one was closed, or the whole page runs, which closes all."""
    st.session_state[_ASKING] = False


def is_asking() -> bool:
    """Whether a dialog is open: a page that reruns by itself would close it, and what was typed would be lost."""
    return st.session_state.get(_ASKING, False)


@st.dialog("Rename this run", on_dismiss=stop_asking)
def rename_dialog(run: Run) -> None:
    """Asks for another name."""
    before = runs.run_title(run.name).rpartition(", ")[0]
    with suppress(Sam3LoraError):
        before = run.config.output.name
    name = st.text_input("Name", before, key="new-name", max_chars=60)
    if st.button("Rename", type="primary", key="rename-confirmed"):
        with guarded():
            runs.open_run(run.rename(name))
            st.rerun()


@st.dialog("Delete this run?", on_dismiss=stop_asking)
def delete_dialog(run: Run) -> None:
    """Asks before everything of a run goes."""
    _confirm(
        run,
        "its adapters, checkpoints, metrics and pictures go for good.",
        "Delete for good",
        "delete-confirmed",
        lambda: runs.delete(run),
    )


@st.dialog("Stop and discard this run?", on_dismiss=stop_asking)
def discard_dialog(run: Run) -> None:
    """Asks before a run that is being trained is ended and deleted."""
    _confirm(
        run,
        "it ends after the step in progress, and its adapters, checkpoints, metrics and pictures go for good. "
        "To keep them, press Stop instead.",
        "Discard for good",
        "discard-confirmed",
        lambda: run.request("discard"),
    )


def _confirm(run: Run, consequence: str, label: str, key: str, act: Callable[[], object]) -> None:
    st.markdown(f"**{escape(runs.run_title(run.name))}**: {consequence}")
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it", key=f"{key}-not"):
            st.rerun()
        if st.button(label, type="primary", key=key):
            with guarded():
                act()
                st.rerun()
