"""The train page: start a run, watch it live, stop and resume it, look at any earlier one."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.train.job import Jobs
from sam3_lora.train.run import Run, Status
from sam3_lora.ui import run_view, runs
from sam3_lora.ui.forms import label_of
from sam3_lora.ui.layout import empty_state, escape, guarded, page
from sam3_lora.ui.live_chart import load_chart_library
from sam3_lora.ui.next_run import next_run
from sam3_lora.ui.resources import get_jobs

POLL_SECONDS = 2


def main() -> None:
    with page("Train", "Start a run and watch it learn. It goes on when you leave this page."):
        jobs = get_jobs()
        show_next_run(jobs)
        found = runs.all_runs()
        if not found:
            empty_state(
                "monitoring",
                "There is no run yet",
                "Press **Start training** above: the demo trains in minutes, even without a GPU.",
            )
            return
        load_chart_library()
        run = choose_run(found, jobs)
        status, busy = run.status(), jobs.current is not None
        # Polls only while something goes on; when that changes, the page reruns and with it this line.
        st.fragment(watch, run_every=POLL_SECONDS if status.active or busy else None)(run, jobs, status.state, busy)
        with st.expander(f"All runs ({len(found)})", key="all-runs"):
            runs.show_all_runs(found)


def show_next_run(jobs: Jobs) -> None:
    """The run that the start button would start, in one line, or why it cannot."""
    config, _ = next_run()
    reason = None
    if jobs.current is not None:
        reason = "A run is in progress: stop it or wait for its end to start another."
    elif config is None:
        reason = "Correct the marked settings on the configure page first."
    with st.container(border=True, key="next-run"):
        text, start = st.columns([5, 2], vertical_alignment="center", gap="medium")
        with text, st.container(gap="xxsmall"):
            st.markdown(f"**Next run: {escape(config.output.name)}**" if config else "**Next run**")
            st.caption(f":material/info: {reason}" if reason else describe(config))
        with start, st.container(horizontal_alignment="center", gap="xsmall"):
            pressed = st.button(
                "Start training",
                type="primary",
                icon=":material/play_arrow:",
                key="start",
                width="stretch",
                disabled=reason is not None,
                help=reason,
            )
            st.page_link("pages/configure.py", label="Change the settings", icon=":material/tune:")
        if pressed:
            with guarded():
                runs.open_run(jobs.start(config))
                st.rerun()


def describe(config: RunConfig) -> str:
    """A configuration in one sentence."""
    training, lora = config.training, config.lora
    data = "the demo dataset" if config.data.path == DEMO else config.data.path
    base = "The demo model" if config.model.base == DEMO else config.model.base
    length = f"{training.epochs} epoch{'s' if training.epochs > 1 else ''}"
    if training.max_steps:
        length += f", at most {training.max_steps:,} steps"
    components = ", ".join(label_of(name) for name in lora.components)
    return escape(
        f"{base} on {data}; {length} in batches of {training.batch_size * training.accumulation} "
        f"at a learning rate of {training.learning_rate:g}; rank {lora.rank} in {components}."
    )


def choose_run(found: list[Run], jobs: Jobs) -> Run:
    """The choice of the run with its buttons beside it."""
    choice, stop, resume = st.columns([5, 1, 1], vertical_alignment="bottom")
    with choice:
        run = runs.choose_run(found, jobs.current)
    status = run.status()
    with stop:
        reason = why_not_stop(status)
        if st.button("Stop", icon=":material/stop:", key="stop", width="stretch", disabled=bool(reason), help=reason):
            run.request_stop()
            st.rerun()
    with resume:
        reason = why_not_resume(run, status, jobs)
        if st.button(
            "Resume", icon=":material/resume:", key="resume", width="stretch", disabled=bool(reason), help=reason
        ):
            with guarded():
                jobs.resume(run)
                st.rerun()
    return run


def why_not_stop(status: Status) -> str | None:
    if status.state == "stopping":
        return "The run stops after the step in progress and saves its adapter."
    return None if status.active else "This run is not being trained."


def why_not_resume(run: Run, status: Status, jobs: Jobs) -> str | None:
    if status.active:
        return "This run is being trained."
    if status.state == "finished":
        return "This run has done all its steps."
    if jobs.current is not None:
        return "Another run is in progress."
    return (
        None if run.can_resume() else "This run ended before its first checkpoint, so there is nothing to go on from."
    )


def watch(run: Run, jobs: Jobs, state: str, busy: bool) -> None:
    """Everything about the run that changes while it is trained."""
    with guarded():
        status = run.status()
        if status.state != state or (jobs.current is not None) != busy:
            st.rerun()
        history = runs.read_history(run)
        with st.container(gap="xsmall"):
            run_view.show_status(status, history)
        if history.steps:
            run_view.show_chart(run, history)
            run_view.show_results(run, status)
            with st.expander("Last step", key="last-step"):
                run_view.show_last_step(history)
        elif status.active:
            empty_state(
                "hourglass_top", "No step yet", "The data and the model are being loaded; the chart starts here."
            )
        samples = run.samples()
        if samples:
            with st.expander("Sample images", key="samples"):
                st.image([str(sample.path) for sample in samples[-8:]], width=280)
        with st.expander("Log", key="log", expanded=status.state == "failed"):
            run_view.show_log(run)
        with st.expander("Settings of this run", key="run-settings"):
            run_view.show_settings(run)


main()
