"""The check before a run: its job, its problems, and what the run costs in memory and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.monitor.curves import Picture
from sam3_lora.runs.auto_values import describe as describe_auto
from sam3_lora.runs.auto_values import with_values
from sam3_lora.text import duration, first_names, plural
from sam3_lora.ui.background_job import BackgroundJob, Snapshot
from sam3_lora.ui.components.forms import label_of
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import bullets, escape
from sam3_lora.ui.components.live_chart import live_chart
from sam3_lora.ui.components.tables import show_table
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

    def work() -> Preflight:
        # Loads transformers, peft and accelerate: only when needed.
        from sam3_lora.train.preflight.preflight import preflight

        return preflight(config, job.report_or_end)

    return job.start(config, work)


def headline(result: Preflight) -> str:
    """The outcome in one line, such as "Ready to start, 2 warnings"."""
    errors = sum(problem.severity == "error" for problem in result.problems)
    warnings = len(result.problems) - errors
    parts = [plural(errors, "error") if errors else "Ready to start"]
    if warnings:
        parts.append(plural(warnings, "warning"))
    return ", ".join(parts)


def show_check(job: CheckJob, check: Snapshot[RunConfig, Preflight], config: RunConfig | None) -> None:
    """Draws the progress of a check, or its result.

    Args:
        job: of this process.
        check: its state, by which the buttons were drawn.
        config: the settings now; None if they are not valid.
    """
    if show_job(job, check, "Cancel", "cancel-check", "Ends after the step in progress"):
        return
    if check.state == "cancelled":
        st.caption(":material/info: Check cancelled.")
        return
    if check.result is None or check.request is None:
        return
    result = check.result
    icon, color = ("check_circle", "green") if result.ok else ("error", "red")
    label = f":{color}[:material/{icon}:] {headline(result)}"
    if check.request != config:
        label += " :gray-badge[Settings changed since]"
    with st.expander(label, expanded=True, key="check-result"):
        show_result(result, check.request)


def show_result(result: Preflight, config: RunConfig) -> None:
    """Draws errors and warnings; after a real step also costs, components and the learning-rate schedule.

    Args:
        result: of the check.
        config: that was checked.
    """
    for severity in ("error", "warning"):
        problems = [problem for problem in result.problems if problem.severity == severity]
        _show_problems(problems, severity, config, with_values(config, result.auto))
    measured = result.measured
    if measured is None:
        return
    _show_costs(result, measured)
    _show_savings(measured, config)
    if not measured.components:  # the step did not fit: the schedule alone says nothing
        return
    components, schedule = st.columns([3, 2], gap="large")
    with components:
        _show_components(measured)
    with schedule:
        if result.learning_rates:
            _show_learning_rates(result)


def _show_problems(problems: list[Problem], severity: str, config: RunConfig, used: RunConfig) -> None:
    """config: as the user set it; used: without auto."""
    from sam3_lora.train.preflight.messages import describe  # needs torch

    if problems:
        box = st.error if severity == "error" else st.warning
        texts = [describe(problem, used) for problem in problems]
        lines = [f"**{escape(message)}** {escape(fix)}" for message, fix in texts]
        box(bullets(lines), icon=f":material/{severity}:")
    for problem in problems:
        if problem.kind == "no-masks" and problem.changes:
            st.button(
                "Take mask_decoder out",
                key="without-mask-decoder",
                on_click=use_settings,
                args=(config.with_settings(dict(problem.changes[0])),),
            )


def _show_costs(result: Preflight, measured: Measured) -> None:
    plan, peak = result.length, measured.memory_bytes
    seconds, available = measured.seconds_per_step, measured.available_bytes
    metrics = (
        (
            "Estimated time",
            duration(measured.total_seconds) or "unknown",
            "Steps and evaluations at the speed measured in this check.",
        ),
        ("Seconds per step", "unknown" if seconds is None else f"{seconds:.3g}", None),
        ("Steps", "unknown" if plan is None else f"{plan.total_steps:,}", None),
        (
            "Memory",
            "too much" if peak is None else f"{peak / 1e9:.1f} GB",
            f"Peak of a step on the heaviest images ({escape(first_names(measured.heaviest))}), of "
            f"{available / 1e9:.1f} GB on {result.device}.",
        ),
        (
            "Largest batch",
            str(measured.largest_batch),
            f"{'Measured' if measured.largest_batch_is_measured else 'Estimated from the free memory'}, up to 64.",
        ),
    )
    for column, (label, value, meaning) in zip(st.columns(len(metrics)), metrics, strict=True):
        column.metric(label, value, help=meaning)
    facts = [f"{plural(result.effective_batch, 'image')} per step on {result.device}"]
    if plan is not None:
        facts.append(f"{plural(plan.steps_per_epoch, 'step')} per epoch, {plural(plan.epochs, 'epoch')}")
    if peak is not None:
        facts.append(f"the heaviest step takes {peak / available:.0%} of the memory")
    if (tiles := result.tiles) is not None:
        facts.append(
            f"{plural(len(tiles), 'tile')} instead of {plural(len(np.unique(tiles.image_index)), 'whole image')}, "
            f"{plural(tiles.left_out, 'tile')} without objects left out"
        )
    st.caption(f"{'; '.join(facts)}.")
    if result.auto:
        st.caption(" ".join(escape(describe_auto(value)) for value in result.auto))


def _show_savings(measured: Measured, config: RunConfig) -> None:
    """Draws the settings that need less memory, each with the button that uses it."""
    if not measured.savings:
        return
    from sam3_lora.train.memory import describe_change  # needs torch

    st.markdown("**Settings that need less memory**")
    for number, saving in enumerate(measured.savings):
        if saving.memory_bytes is None:
            needs = "does not fit either"
        else:
            saved = "" if saving.saved_bytes is None else f", {saving.saved_bytes / 1e9:.1f} GB less"
            needs = f"{saving.memory_bytes / 1e9:.1f} GB{saved}"
        with st.container(horizontal=True, vertical_alignment="center"):
            words = describe_change(saving.settings)
            st.markdown(f"{words[:1].upper()}{words[1:]}: {needs}", width="stretch")
            if st.button("Use this", key=f"saving-{number}"):
                use_settings(config.with_settings(saving.settings))
                st.rerun()


def _show_components(measured: Measured) -> None:
    st.markdown("**Trained components**")
    rows = [(label_of(part.name), part.modules, part.parameters, part.gradient_norm) for part in measured.components]
    meaning = "After one real step. Zero means that nothing is learned."
    show_table(
        pd.DataFrame(rows, columns=["Component", "Modules", "Parameters", "Gradient norm"]),
        "Adapted modules, parameters and gradient norm of each component",
        {
            "Modules": "localized",
            "Parameters": "localized",
            "Gradient norm": st.column_config.NumberColumn(format="%.3g", help=meaning),
        },
    )


def _show_learning_rates(result: Preflight) -> None:
    st.markdown("**Learning rate**")
    steps, rates = zip(*result.learning_rates, strict=True)
    curve = {"id": "lr", "name": "Learning rate", "color": "accent", "width": 2.0, "mode": "lines"}
    picture = Picture([curve | {"x": list(steps), "y": list(rates)}], "Step", "")
    live_chart(picture, key="check-learning-rate", label="Learning rate of each step", height=230)
