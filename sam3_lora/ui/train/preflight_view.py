"""The pre-flight on the screen: how far it is, what keeps the run from learning, and what the run will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.text import duration
from sam3_lora.ui.background_job import BackgroundJob, Cancelled
from sam3_lora.ui.components.forms import label_of
from sam3_lora.ui.components.job_progress import show_progress
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.live_chart import live_chart
from sam3_lora.ui.next_run import use_settings

if TYPE_CHECKING:
    from sam3_lora.train.preflight.checks import Problem
    from sam3_lora.train.preflight.preflight import Measured, Preflight

CheckJob = BackgroundJob[RunConfig, "Preflight"]


@st.cache_resource(show_spinner=False)
def get_check_job() -> CheckJob:
    """The check of this process: every tab sees it, and a reload does not lose it."""
    return BackgroundJob("check")


def start_check(job: CheckJob, config: RunConfig) -> bool:
    """Checks a configuration in the background; False, with nothing done, while the job is active."""

    def progress(share: float, text: str) -> None:
        if job.is_cancelled():
            raise Cancelled
        job.report(share, text)

    def work() -> Preflight:
        # Loads transformers, peft and accelerate: only when needed.
        from sam3_lora.train.preflight.preflight import preflight

        return preflight(config, progress)

    return job.start(config, work)


def headline(result: Preflight) -> str:
    """The outcome in one line."""
    errors = sum(problem.severity == "error" for problem in result.problems)
    warnings = len(result.problems) - errors
    to_know = f"; {warnings} thing{'s' if warnings > 1 else ''} to know" if warnings else ""
    if errors:
        return f"{errors} problem{'s keep' if errors > 1 else ' keeps'} this run from starting or learning{to_know}"
    return f"Ready to start{to_know}"


def show_check(job: CheckJob, config: RunConfig | None) -> None:
    """The progress of a check, or its result. config: the settings now, None if they are not valid."""
    check = job.snapshot()
    if check.active:
        show_progress(job, "Cancel", "cancel-check", "Ends after the step in progress")
        return
    if check.state == "cancelled":
        st.caption(":material/info: The check was cancelled. It has left nothing behind.")
        return
    if check.error:
        st.error(escape(check.error), icon=":material/error:")
    if check.result is None or check.request is None:
        return
    result = check.result
    icon, color = ("check_circle", "green") if result.ok else ("error", "red")
    label = f":{color}[:material/{icon}:] {headline(result)}"
    if check.request != config:
        label += " :gray-badge[The settings have changed since]"
    with st.expander(label, expanded=True, key="check-result"):
        show_result(result, check.request)


def show_result(result: Preflight, config: RunConfig) -> None:
    """Errors and warnings; and if a step could be made, its costs, the receipt and the learning rate."""
    for severity in ("error", "warning"):
        _show_problems([problem for problem in result.problems if problem.severity == severity], severity)
    measured = result.measured
    if measured is not None:
        _show_costs(result, measured)
        _show_savings(measured, config)
    if measured is None or not measured.components:  # an error came first: a curve alone would tell nothing
        return
    receipt, curve = st.columns([3, 2], gap="large")
    with receipt:
        _show_receipt(measured)
    with curve:
        if result.learning_rates:
            _show_learning_rates(result)


def _show_problems(problems: list[Problem], severity: str) -> None:
    if not problems:
        return
    box, icon = (st.error, ":material/error:") if severity == "error" else (st.warning, ":material/warning:")
    lines = [f"**{escape(problem.message)}** {escape(problem.fix)}" for problem in problems]
    box(lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines), icon=icon)


def _show_costs(result: Preflight, measured: Measured) -> None:
    columns = st.columns(5)
    length = result.length
    columns[0].metric(
        "Whole run",
        duration(measured.total_seconds) or "unknown",
        help="Steps and evaluations at the speed that was measured just now.",
    )
    seconds = measured.seconds_per_step
    columns[1].metric("Seconds per step", "unknown" if seconds is None else f"{seconds:.3g}")
    columns[2].metric("Steps", "unknown" if length is None else f"{length.total_steps:,}")
    need = "too much" if measured.memory_bytes is None else f"{measured.memory_bytes / 1e9:.1f} GB"
    columns[3].metric(
        "Memory",
        need,
        help=f"Of {measured.available_bytes / 1e9:.1f} GB on {result.device}, in a step on the heaviest images: "
        f"{', '.join(measured.heaviest)}.",
    )
    how = "Tried out" if measured.largest_batch_is_measured else "Estimated from the memory that is free"
    columns[4].metric("Largest batch", measured.largest_batch, help=f"{how}; the largest that is looked for is 64.")
    total, available = measured.memory_bytes, measured.available_bytes
    share = "" if total is None else f" The heaviest step takes {total / available:.0%} of the memory."
    effective = result.effective_batch
    st.caption(
        f"Each step learns from {effective} image{'s' if effective > 1 else ''} per device "
        f"({_length_words(result)}).{share}"
    )


def _length_words(result: Preflight) -> str:
    length = result.length
    if length is None:
        return f"on {result.device}"
    epochs = f"{length.epochs} epoch{'s' if length.epochs > 1 else ''}"
    return f"{length.steps_per_epoch:,} steps per epoch, {epochs}, on {result.device}"


def _show_savings(measured: Measured, config: RunConfig) -> None:
    """What needs less memory, each with the way to take it over."""
    if not measured.savings:
        return
    st.markdown("**What needs less memory**")
    for number, saving in enumerate(measured.savings):
        if saving.memory_bytes is None:
            needs = "does not fit either"
        else:
            saved = "" if saving.saved_bytes is None else f", {saving.saved_bytes / 1e9:.1f} GB less"
            needs = f"{saving.memory_bytes / 1e9:.1f} GB{saved}"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{saving.words[:1].upper()}{saving.words[1:]}: {needs}", width="stretch")
            if st.button("Use this", key=f"saving-{number}"):
                use_settings(config.with_settings(saving.settings))
                st.rerun()


def _show_receipt(measured: Measured) -> None:
    st.markdown("**What is trained**")
    rows = [(label_of(part.name), part.modules, part.parameters, part.gradient_norm) for part in measured.components]
    number = st.column_config.NumberColumn
    st.dataframe(
        pd.DataFrame(rows, columns=["Component", "Modules", "Parameters", "Gradient norm"]),
        hide_index=True,
        column_config={
            "Modules": number(format="localized"),
            "Parameters": number(format="localized"),
            "Gradient norm": number(
                format="%.3g", help="After one real step; zero would mean that nothing is learned there."
            ),
        },
        alt="Adapted modules, parameters and gradient norm of each component",
    )


def _show_learning_rates(result: Preflight) -> None:
    st.markdown("**Learning rate**")
    steps, rates = zip(*result.learning_rates, strict=True)
    curve = {"id": "lr", "name": "Learning rate", "color": "accent", "width": 2.0, "mode": "lines"}
    live_chart(
        [curve | {"x": list(steps), "y": list(rates)}],
        key="check-learning-rate",
        x_title="Step",
        y_title="",
        label="Learning rate of each step",
        height=230,
    )
