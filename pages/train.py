"""The train page: check and start a run, watch and control it, and look at earlier runs."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sam3_lora.runs.run import Run
from sam3_lora.ui import runs
from sam3_lora.ui.components.layout import empty_state, escape, fragment, guarded, page, show_error
from sam3_lora.ui.components.live_chart import load_chart_library
from sam3_lora.ui.resources import get_train_job
from sam3_lora.ui.train import run_view
from sam3_lora.ui.train.compare_view import show_comparison
from sam3_lora.ui.train.controls import dialog_closed, is_dialog_open, offer_active_run, show_controls
from sam3_lora.ui.train.diagnosis_view import show_alerts, show_diagnosis
from sam3_lora.ui.train.interrupted import offer_to_resume
from sam3_lora.ui.train.preflight_view import get_check_job
from sam3_lora.ui.train.run_chart import show_chart
from sam3_lora.ui.train.sample_predictions import show_samples
from sam3_lora.ui.train.start_run import show_next_run
from sam3_lora.ui.train_job import TrainJob

LIST_SECONDS = 4  # always: a run may begin in a terminal
DETAILS_SECONDS = 6


def main() -> None:
    with page("Train", "Start a run and watch it learn. Training continues if you leave this page."):
        dialog_closed()
        train_job = get_train_job()
        load_chart_library()
        found = runs.all_runs()
        seen = runs.look_at(found)
        for run in (run for run, at in zip(found, seen, strict=True) if at.launched):
            train_job.take_up(run)
        interrupted = [run for run, at in zip(found, seen, strict=True) if at.interrupted]
        offer_to_resume(interrupted, train_job, get_check_job().snapshot().active)
        show_next_run(train_job, seen)
        fragment(notice, seen, run_every=LIST_SECONDS)
        if train_job.problem is not None:
            name, message = train_job.problem
            st.error(f"The run {escape(name)} could not be trained: {escape(message)}", icon=":material/error:")
        if not found:
            empty_state(
                "monitoring",
                "No runs yet",
                "Press **Start training** above: the demo trains in minutes, even without a GPU.",
            )
            return
        show_run(found, train_job)


def show_run(found: list[Run], train_job: TrainJob) -> None:
    """Draws the choice of a run, its controls and its details."""
    choice, buttons = st.columns([5, 4], vertical_alignment="bottom")
    with choice:
        run = runs.choose_run(found, train_job.current)
    status = run.status()
    with buttons:
        show_controls(run, status, train_job, get_check_job().snapshot().active)
    offer_active_run(found, run)
    # Polls only during a run; when the situation changes, the page reruns and with it these lines.
    in_progress = status.active or train_job.current is not None
    often, rarely = (seconds if in_progress else None for seconds in (runs.POLL_SECONDS, DETAILS_SECONDS))
    fragment(watch, run, train_job, situation(run, train_job), run_every=often)
    if runs.follow(run).history.steps:
        curves, pictures = st.columns([3, 2], gap="medium")
        with curves:
            fragment(show_chart, run, run_every=often)
            fragment(show_diagnosis, run, run_every=rarely)
        with pictures:
            fragment(show_samples, run, run_every=rarely)
    fragment(show_details, run, found, run_every=rarely)


def notice(seen: tuple[runs.Seen, ...]) -> None:
    """Reruns the page when a run was started, ended, created or deleted, by whichever process."""
    if runs.look_at(runs.all_runs()) != seen and not is_dialog_open():
        st.rerun()


def situation(run: Run, train_job: TrainJob) -> tuple:
    """What the buttons depend on; when it changes, the page is drawn again."""
    begun = bool(runs.follow(run).history.steps)
    return run.status().state, train_job.current is not None, run.requests.pending(), bool(run.adapters()), begun


def watch(run: Run, train_job: TrainJob, before: tuple) -> None:
    """Draws what changes with each step but for the chart: state, verdict, alerts and numbers."""
    if not run.folder.exists() or (situation(run, train_job) != before and not is_dialog_open()):
        st.rerun()
    status, followed = run.status(), runs.follow(run)
    with st.container(gap="small"):
        alerts = [] if followed.config is None else followed.rolling.alerts(followed.config)
        run_view.show_status(run, status, alerts)
        run_view.show_verdict(run, status, followed, alerts)
        run_view.show_notes(followed.rolling.notes())
        if followed.config is not None:
            show_alerts(alerts, followed.config)
        if followed.problem is not None:
            show_error(followed.problem)
    if followed.history.steps:
        run_view.show_numbers(status, followed.history)
    elif status.state == "paused":
        empty_state("pause_circle", "No step yet", "The run was paused before its first step.")
    elif status.active:
        empty_state("hourglass_top", "No step yet", "Loading the data and the model. The chart appears here.")


def show_details(run: Run, found: list[Run]) -> None:
    """Draws the tabs below, of which only the open one is computed."""
    status, history = run.status(), runs.follow(run).history
    details: dict[str, Callable[[], None]] = {
        "Adapters": lambda: run_view.show_adapters(run, status),
        "Last step": lambda: run_view.show_last_step(history),
        "Compare": lambda: show_comparison(run, found),
        "All runs": lambda: runs.show_all_runs(found),
        "Log": lambda: run_view.show_log(run),
        "Settings": lambda: run_view.show_settings(run),
    }
    first = "Log" if status.state == "failed" else next(iter(details))
    tabs = st.tabs(list(details), default=first, key="details", on_change="rerun", bind="query-params")
    for tab, show in zip(tabs, details.values(), strict=True):
        if tab.open:
            with tab, guarded():
                show()


main()
