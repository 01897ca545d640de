"""The next run: what it would be, its check, and its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.text import plural
from sam3_lora.ui import runs
from sam3_lora.ui.components.forms import label_of
from sam3_lora.ui.components.layout import escape, guarded
from sam3_lora.ui.next_run import next_run, use_settings
from sam3_lora.ui.train import preflight_view
from sam3_lora.ui.train.preflight_view import CheckJob
from sam3_lora.ui.train_job import TrainJob

if TYPE_CHECKING:
    from sam3_lora.train.setup import TrainPlan

_POLL_SECONDS = 0.7  # while a check goes on


def show_next_run(train_job: TrainJob, beginnings: tuple[tuple[str, bool], ...]) -> None:
    """The run that the start button would start, in one line, or why it cannot; its check beneath.

    Args:
        beginnings: of all runs, see :func:`sam3_lora.ui.runs.beginnings`.
    """
    config, _ = next_run()
    check_job = preflight_view.get_check_job()
    reason = _why_not(config, train_job, check_job)
    with st.container(border=True, key="next-run"):
        text, check, start = st.columns([8, 2, 3], vertical_alignment="center", gap="small")
        with text, st.container(gap="xxsmall"):
            st.markdown(f"**Next run: {escape(config.output.name)}**" if config else "**Next run**")
            st.caption(f":material/info: {reason}" if reason else describe(config, _known_length(config, check_job)))
            if reason is None:
                _warn_of_others(beginnings)
            _show_links(config)
        with check:
            _check_button(config, reason, check_job)
        with start:
            _start_button(config, reason, train_job, check_job)
        checked = check_job.snapshot()
        if checked.state != "idle":
            st.fragment(_watch_check, run_every=_POLL_SECONDS if checked.active else None)(checked.active, config)


def _why_not(config: RunConfig | None, train_job: TrainJob, check_job: CheckJob) -> str | None:
    if train_job.current is not None:
        return "A run is in progress: stop it or wait for its end to start another."
    if check_job.snapshot().active:
        return "The check is in progress: wait for its end, or cancel it."
    if config is None:
        return "Correct the marked settings on the configure page first."
    return None


def _known_length(config: RunConfig, check_job: CheckJob) -> TrainPlan | None:
    """How long the run will be, if this configuration has been checked."""
    checked = check_job.snapshot()
    return checked.result.length if checked.result and checked.request == config else None


def _warn_of_others(beginnings: tuple[tuple[str, bool], ...]) -> None:
    """Runs of other processes do not keep one from starting another, but share its device."""
    names = [runs.run_title(name) for name, active in beginnings if active]
    if names:
        st.caption(
            f":orange[:material/warning:] {escape(' and '.join(names))} {'are' if len(names) > 1 else 'is'} being "
            "trained by another process. Two runs on one device slow each other down, and a GPU takes only one at a "
            "time."
        )


def _show_links(config: RunConfig | None) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.page_link("pages/configure.py", label="Change the settings", icon=":material/tune:", width="content")
        if config is not None and config.model.adapter:
            st.caption(f"Goes on from {escape(config.model.adapter_name)}.", width="content")
            if st.button("Start afresh instead", type="tertiary", key="start-afresh"):
                use_settings(config.with_settings({"model.adapter": ""}))
                st.rerun()


def _check_button(config: RunConfig | None, reason: str | None, check_job: CheckJob) -> None:
    pressed = st.button(
        "Check",
        icon=":material/fact_check:",
        key="check",
        width="stretch",
        disabled=reason is not None,
        help=reason or "Tries one real step before anything starts: memory, time, what is wrong.",
    )
    if pressed:
        with guarded():
            preflight_view.start_check(check_job, config)
            st.rerun()


def _start_button(config: RunConfig | None, reason: str | None, train_job: TrainJob, check_job: CheckJob) -> None:
    checked = check_job.snapshot()
    warned = checked.request == config and checked.result is not None and not checked.result.ok
    if warned and checked.result.measured is None:
        reason = reason or "The run cannot start, as the check below says. Mend that, then check again."
    pressed = st.button(
        "Start anyway" if warned and reason is None else "Start training",
        type="primary",
        icon=":material/play_arrow:",
        key="start",
        width="stretch",
        disabled=reason is not None,
        help=reason,
    )
    if pressed:
        with guarded():
            runs.open_run(train_job.start(config))
            check_job.forget()
            st.rerun()


def _watch_check(was_active: bool, config: RunConfig | None) -> None:
    with guarded():
        check_job = preflight_view.get_check_job()
        checked = check_job.snapshot()
        if checked.active != was_active:
            st.rerun()
        if checked.state != "idle":
            preflight_view.show_check(check_job, config)


def describe(config: RunConfig, known: TrainPlan | None = None) -> str:
    """A configuration in one sentence. known: how long the run will be, once it has been looked at."""
    training, lora = config.training, config.lora
    data = "the demo dataset" if config.data.path == DEMO else config.data.path
    base = "The demo model" if config.model.base == DEMO else config.model.base
    length = plural(training.epochs, "epoch")
    if known is not None:
        length = f"{plural(known.total_steps, 'step')} in {plural(known.epochs, 'epoch')}"
    elif training.max_steps:
        length = f"at most {length} or {plural(training.max_steps, 'step')}"
    components = ", ".join(label_of(name) for name in lora.components)
    return escape(
        f"{base} on {data}; {length} in batches of {training.batch_size * training.gradient_accumulation_steps} "
        f"at a learning rate of {training.learning_rate:g}; rank {lora.rank} in {components}."
    )
