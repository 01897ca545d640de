"""The form of the inference page: image, adapter, phrases and exemplar boxes, and the button that runs the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.phrase_list import join_phrases, split_phrases
from sam3_lora.data.prompts import phrase_of
from sam3_lora.ui import adapters, resources, state
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.components.layout import escape, guarded
from sam3_lora.ui.components.tiles_choice import chosen_tiles
from sam3_lora.ui.inference import exemplar_boxes, image_source
from sam3_lora.ui.inference.concepts import teach
from sam3_lora.ui.inference.results import BoxedImage, Prompt

TILES = "tiles"  # key of the choice of tiles, which is among the options
_DEFAULT_PHRASES = 8  # at most so many of the dataset's categories are proposed
_PHRASES, _PHRASES_OF, _PROPOSED = "phrases", "phrases_of", "phrases_proposed"


@dataclass(frozen=True)
class PromptForm:
    """What the form holds."""

    source: image_source.Source
    prompt: Prompt
    submitted: bool  # the button was pressed, or an example or a link runs the prompt


def show() -> PromptForm:
    """Draws the form."""
    with st.container(border=True):
        left, right = st.columns(2, gap="large")
        with left:
            source = image_source.choose()
        model = adapters.base_alone()  # as long as the right side has an error to show
        phrases: list[str] = []
        references: tuple[BoxedImage, ...] = ()
        pressed = drawing = False
        with right, guarded():
            model = _choose_model()
            no_image = not source.is_folder and source.pixels is None
            with (
                st.form("prompt-form", border=False),
                st.container(horizontal=True, vertical_alignment="bottom", gap="small"),
            ):
                phrases = _choose_phrases(model)
                icon = ":material/play_arrow:"
                pressed = st.form_submit_button("Prompt", type="primary", key="prompt", icon=icon, disabled=no_image)
            with st.container(horizontal=True, vertical_alignment="center"):
                drawing = not source.is_folder and exemplar_boxes.toggle(no_image)
                if not source.is_folder:
                    teach.offer(model, _add_phrase)
            references = exemplar_boxes.choose_references("" if source.is_folder else source.name)
            teach.show_progress(_add_phrase)
            _show_base(model)
        boxes = exemplar_boxes.draw(source.name, source.pixels) if drawing else ()
    run_now = bool(st.session_state.pop(state.RUN_NOW, False))
    prompt = Prompt(source.name, tuple(phrases), boxes, model, chosen_tiles(TILES, model.base), references)
    return PromptForm(source, prompt, pressed or run_now)


def _add_phrase(text: str) -> None:
    """A callback that puts a concept first into the phrases, and prompts."""
    others = [one for one in split_phrases(st.session_state.get(_PHRASES) or "", ()) if one != text]
    prompt_phrases([text, *others])


def prompt_phrases(phrases: Sequence[str]) -> None:
    """A callback that prompts these phrases."""
    st.session_state[_PHRASES] = join_phrases(phrases)
    st.session_state[state.RUN_NOW] = True


def _choose_model() -> ModelChoice:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = adapters.choose("adapter")
        adapters.upload("adapter")
    adapters.explain_choice(model)
    return model


def _show_base(model: ModelChoice) -> None:
    if model.base != DEMO:
        st.caption(f"Base model: {escape(model.base)}")
    if model.adapter is None:
        adapters.explain_demo_model(model.base)


def _choose_phrases(model: ModelChoice) -> list[str]:
    """Draws the field of phrases and returns them; each dataset proposes the phrases of its categories."""
    path = resources.current_dataset()
    before = st.session_state.get(_PHRASES_OF)
    known: list[str] = []
    with guarded():
        own = adapters.phrases_for(model.folder, path)
        known = [phrase_of(category, own) for category in resources.open_dataset(path).categories]
        proposed = join_phrases(dict.fromkeys(known[:_DEFAULT_PHRASES]))
        untouched = st.session_state.get(_PHRASES) == st.session_state.get(_PROPOSED)
        # A link's phrases stay on the first visit, typed ones until another dataset is opened.
        if untouched if before == path else before or _PHRASES not in st.query_params:
            st.session_state[_PHRASES] = proposed
        st.session_state[_PROPOSED] = proposed
    st.session_state[_PHRASES_OF] = path
    typed = st.text_input(
        "Phrases",
        key=_PHRASES,
        bind="query-params",
        placeholder="pothole, crack",
        help="Separated by commas; a phrase that contains a comma in quotes",
    )
    return split_phrases(typed, [*known, *adapters.trained_phrases(model.folder)])
