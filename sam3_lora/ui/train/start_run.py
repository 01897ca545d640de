"""The next run: its settings in one line, the check button and the start button."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.text import plural
from sam3_lora.ui import runs
from sam3_lora.ui.components.layout import action_button, escape, guarded
from sam3_lora.ui.next_run import next_run, use_settings
from sam3_lora.ui.split_choices import expected_split_use
from sam3_lora.ui.train import preflight_view
from sam3_lora.ui.train.keep_training import keeps_training, show_switch
from sam3_lora.ui.train.preflight_view import CheckJob
from sam3_lora.ui.train_job import TrainJob

if TYPE_CHECKING:
    from sam3_lora.train.optimizer import TrainPlan
    from sam3_lora.train.preflight.preflight import Preflight


def show_next_run(train_job: TrainJob, seen: tuple[runs.Seen, ...]) -> None:
    """Draws the run that the start button starts, or why it cannot, and the last check beneath.

    Args:
        train_job: of this app.
        seen: all runs, see :func:`sam3_lora.ui.runs.look_at`.
    """
    config, _ = next_run()
    check_job = preflight_view.get_check_job()
    check = check_job.snapshot()
    result = check.result if check.request == config else None
    reason = _why_not(config, train_job, check.active)
    with st.container(border=True, key="next-run"):
        # What does not fit beside the rest goes into the next line, whole.
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            is_named = config is not None and config.output.name != RunConfig().output.name
            st.markdown(f"**Next run: {escape(config.output.name)}**" if config and is_named else "**Next run**")
            _show_links(config)
            _check_button(config, reason, check_job)
            _start_button(config, reason, result, train_job, check_job)
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            with st.container(gap="xxsmall"):
                if config is None or reason:
                    st.caption(f":material/info: {reason}")
                else:
                    st.caption(describe(config, result.length if result else None))
                    if use := result.splits if result else expected_split_use(config):
                        st.caption(f":material/call_split: {escape(use.sentence)}")
                    _warn_of_others(seen)
            show_switch()
        if check.state != "idle":
            preflight_view.show_check(check_job, check, config)


def _why_not(config: RunConfig | None, train_job: TrainJob, checking: bool) -> str | None:
    if train_job.current is not None:
        return "A run is in progress: stop it or wait for it to finish."
    if checking:
        return "A check is in progress: wait for it, or cancel it."
    if config is None:
        return "Fix the marked settings on the configure page first."
    return None


def _warn_of_others(seen: tuple[runs.Seen, ...]) -> None:
    """Runs of other processes do not keep one from starting another, but share its device."""
    names = [runs.run_title(run.name) for run in seen if run.active]
    if names:
        st.caption(
            f":orange[:material/warning:] Another process is training {escape('; '.join(names))}. Runs on the same "
            "device slow each other down, and a GPU takes one run at a time."
        )


def _show_links(config: RunConfig | None) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.page_link("pages/configure.py", label="Change settings", icon=":material/tune:", width="content")
        if config is not None and config.model.adapter:
            st.caption(f"Continues training from {escape(config.model.adapter_name)}.", width="content")
            if st.button("Start from scratch", type="tertiary", key="start-from-scratch"):
                use_settings(config.with_settings({"model.adapter": ""}))
                st.rerun()


def _check_button(config: RunConfig | None, reason: str | None, check_job: CheckJob) -> None:
    meaning = "Checks data and settings and runs one real step, to measure memory and time."
    if action_button("Check", "fact_check", "check", reason, meaning) and config is not None:
        with guarded():
            preflight_view.start_check(check_job, config)
            st.rerun()


def _start_button(
    config: RunConfig | None, reason: str | None, result: Preflight | None, train_job: TrainJob, check_job: CheckJob
) -> None:
    """The button that starts the run. result: of the check of this configuration, if there was one."""
    has_errors = result is not None and not result.ok
    if result is not None and has_errors and result.measured is None:
        reason = reason or "This run cannot start. Fix the errors below, then check again."
    label = "Start anyway" if has_errors and reason is None else "Start training"
    pressed = action_button(label, "play_arrow", "start", reason, type="primary")
    if pressed and config is not None:
        with guarded():
            runs.open_run(train_job.start(config, outlives_app=keeps_training()))
            check_job.forget()
            st.rerun()


def describe(config: RunConfig, plan: TrainPlan | None = None) -> str:
    """A configuration in one line.

    Args:
        config: of the run.
        plan: how long the run will be, once that is known.
    """
    training, lora = config.training, config.lora
    data = "demo dataset" if config.data.path == DEMO else config.data.path
    base = "Demo model" if config.model.base == DEMO else config.model.base
    length = plural(training.epochs, "epoch")
    if plan is not None:
        length = f"{plural(plan.total_steps, 'step')} in {plural(plan.epochs, 'epoch')}"
    elif training.max_steps:
        length = f"at most {length} or {plural(training.max_steps, 'step')}"
    return escape(
        f"{base} on {data}; {length}; batch size {training.images_per_step}; "
        f"learning rate {training.learning_rate:g}; rank {lora.rank} in {plural(len(lora.components), 'component')}."
    )
