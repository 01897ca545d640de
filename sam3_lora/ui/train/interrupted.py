"""The run that was interrupted last, above everything else: it can be resumed with one click, or dismissed."""

from __future__ import annotations

import streamlit as st

from sam3_lora.runs.run import Run, Status
from sam3_lora.ui import runs
from sam3_lora.ui.components.layout import action_button, escape, guarded
from sam3_lora.ui.preferences import change_preferences, load_preferences
from sam3_lora.ui.train.controls import why_not_resume
from sam3_lora.ui.train.keep_training import keeps_training
from sam3_lora.ui.train_job import TrainJob


def offer_to_resume(interrupted: list[Run], train_job: TrainJob, checking: bool) -> None:
    """Draws the newest run that was interrupted and can be resumed, unless a run is in progress.

    Args:
        interrupted: the user's own runs that were, newest first.
        train_job: of this app.
        checking: whether a check is in progress.
    """
    if train_job.current is not None:
        return
    dismissed = load_preferences().dismissed
    ended = [(run, run.status()) for run in interrupted]
    ended = [(run, status) for run, status in ended if status.updated > dismissed and not run.resume_obstacle()]
    if ended:
        _show(*ended[0], train_job, checking, until=max(status.updated for _, status in ended))


def _show(run: Run, status: Status, train_job: TrainJob, checking: bool, until: float) -> None:
    """until: when the last of the runs ended that "Dismiss" is about, in unix seconds."""
    of = f" of {status.total_steps:,}" if status.total_steps else ""
    with (
        st.container(border=True, key="interrupted"),
        st.container(horizontal=True, vertical_alignment="center", gap="small"),
    ):
        with st.container(gap="xxsmall"):
            st.markdown(f":material/power_off: **A run was interrupted at step {status.step:,}{of}**")
            st.caption(f"{escape(runs.run_title(run.name))}. {runs.resume_hint(run)}")
        reason = why_not_resume(run, status, train_job, checking)
        if action_button("Resume", "resume", "resume-interrupted", reason, type="primary"):
            with guarded():
                runs.open_run(train_job.resume(run, outlives_app=keeps_training()))
                st.rerun()
        if st.button("Dismiss", key="dismiss-interrupted", help="The run stays in the list of runs."):
            with guarded():
                change_preferences(dismissed=until)
                st.rerun()
