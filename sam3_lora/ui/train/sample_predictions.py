"""Sample predictions over time: the same validation images after each evaluation, the base model first."""

from __future__ import annotations

from typing import Literal

import streamlit as st
from PIL import UnidentifiedImageError

from sam3_lora.files import MB, read_file
from sam3_lora.runs.learning_film import learning_film
from sam3_lora.runs.run import Run
from sam3_lora.runs.samples import Sample
from sam3_lora.ui.components.layout import escape

_COLUMNS = 2
_MAX_BYTES = 50 * MB


def show_samples(run: Run) -> None:
    """Draws a slider over the steps and the images of one; it stays at the latest ones until it is moved."""
    samples = run.samples()
    steps = sorted({sample.step for sample in samples})
    if not steps:
        st.caption("No samples yet: the base model predicts the first ones before the first step.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        step = _choose_step(steps, f"sample-step-{run.name}")
        if len(steps) > 1:
            _offer_film(run, samples)
    shown = [sample for sample in samples if sample.step == step]
    with st.grid(_COLUMNS):
        for sample in shown:
            with st.container():
                described = f"{sample.image}: {sample.found} predicted, {sample.objects} annotated"
                try:
                    st.image(read_file(sample.path, _MAX_BYTES), width="stretch", alt=described)
                except (OSError, UnidentifiedImageError):
                    st.caption("This picture cannot be read.")
                st.caption(escape(described))


def _offer_film(run: Run, samples: list[Sample]) -> None:
    """Draws the button that plays the samples from the first step to the last, with the film as a file."""
    with st.popover("Film", icon=":material/movie:", width="content", key="learning-film", on_change="rerun") as box:
        if not box.open:
            return
        film = _film(str(run.folder), tuple(sample.path.name for sample in samples), samples)
        if film is None:
            st.caption("The pictures cannot be read.")
            return
        st.image(film, width=720, alt="The sample predictions from the base model to the last step")
        st.download_button(
            "Save as GIF", film, f"{run.name}.gif", "image/gif", icon=":material/download:", on_click="ignore"
        )


@st.cache_data(max_entries=3, show_spinner="Making the film")
def _film(folder: str, names: tuple[str, ...], _samples: list[Sample]) -> bytes | None:
    """The film of these pictures, made once."""
    return learning_film(_samples)


def _choose_step(steps: list[int], key: str) -> int:
    last = steps[-1]
    if len(steps) == 1:
        st.caption(_label(last))
        return last
    # The latest step is an option of its own, so that a slider at its end follows the run.
    options: list[int | Literal["latest"]] = [*steps[:-1], "latest"]
    if st.session_state.get(key) not in options:
        st.session_state[key] = "latest"
    chosen = st.select_slider(
        "Predicted after",
        options,
        key=key,
        persist_state="session",
        # These labels must not change during the run: the slider would fall back to its start.
        format_func=lambda option: "Latest" if option == "latest" else _label(option),
    )
    return last if chosen == "latest" else chosen


def _label(step: int) -> str:
    return "Base model" if step == 0 else f"Step {step:,}"
