"""Looking at a run learn: the same validation images after each evaluation, the base model first."""

from __future__ import annotations

import streamlit as st

from sam3_lora.runs.run import Run
from sam3_lora.ui.components.layout import escape

_COLUMNS = 4


def show_samples(run: Run) -> None:
    """A slider over time and the images at its moment; it stays at the newest ones until it is moved."""
    samples = run.samples()
    steps = sorted({sample.step for sample in samples})
    if not steps:
        st.caption("The first pictures come when the base model has looked at the images, before the first step.")
        return
    step = _choose_step(steps, f"sample-step-{run.name}")
    shown = [sample for sample in samples if sample.step == step]
    for start in range(0, len(shown), _COLUMNS):
        for column, sample in zip(st.columns(_COLUMNS), shown[start : start + _COLUMNS], strict=False):
            with column:
                st.image(str(sample.path), width="stretch")
                st.caption(f"{escape(sample.image)}: {sample.found} found of {sample.objects}")


def _choose_step(steps: list[int], key: str) -> int:
    if len(steps) == 1:
        st.caption(_named(steps[0]))
        return steps[0]
    # The newest moment is a place of its own, so that a slider at its end follows the run.
    last = steps[-1]
    options = [*steps[:-1], "newest"]
    if st.session_state.get(key) not in options:
        st.session_state[key] = "newest"
    chosen = st.select_slider(
        "Seen after",
        options,
        key=key,
        persist_state="session",
        # These words must not change while the run goes on: the slider would fall back to its start.
        format_func=lambda step: "Newest" if step == "newest" else _named(step),
    )
    if chosen == "newest":
        st.caption(f"{_named(last)}, the newest")
        return last
    return chosen


def _named(step: int) -> str:
    return "Base model" if step == 0 else f"Step {step:,}"
