"""Links to the inference page: opening one, and making one for the prompt that is shown."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from sam3_lora.data.phrase_list import join_phrases
from sam3_lora.predict.routing import Routing
from sam3_lora.ui import adapters, resources, state
from sam3_lora.ui.components.tiles_choice import address_of
from sam3_lora.ui.inference.image_source import IMAGE, choose_one_that_is_there
from sam3_lora.ui.inference.prompt_form import TILES
from sam3_lora.ui.inference.results import Prompt
from sam3_lora.ui.inference.routing_form import LINKED, ROUTE

_DATASET, _RUN_NOW, _TAUGHT = "dataset", "ask", "taught"  # names in the page's address


def open_link() -> None:
    """Takes over the dataset and the taught phrases of a link, once, and whether it runs its prompt at once."""
    if dataset := st.query_params.get(_DATASET):
        st.session_state[state.DATASET_PATH] = dataset
    if st.query_params.get(_RUN_NOW):
        st.session_state[state.RUN_NOW] = True
        choose_one_that_is_there()
    if _TAUGHT in st.query_params:
        st.session_state[LINKED] = st.query_params[_TAUGHT]
    for name in (_DATASET, _RUN_NOW, _TAUGHT):
        if name in st.query_params:
            del st.query_params[name]


def show(prompt: Prompt, routing: Routing | None, can_be_linked: bool) -> None:
    """Draws the popover with the link, or the reason why there is none.

    Args:
        prompt: whose predictions are shown.
        routing: by which the adapter's are.
        can_be_linked: whether its image is the chosen one and belongs to the dataset.
    """
    with st.popover("Link", icon=":material/link:", key="link"):
        if not prompt.phrases:
            st.caption("Exemplar boxes cannot be linked: prompt with a phrase to get a link.")
        elif not can_be_linked:
            st.caption("Only images of the dataset can be linked: this one was uploaded, or is no longer selected.")
        else:
            st.caption("Opens this adapter, image and phrases and runs the prompt, without exemplar boxes.")
            st.code(_address(prompt, routing), language=None, wrap_lines=True)


def _address(prompt: Prompt, routing: Routing | None) -> str:
    query = {
        "adapter": prompt.model.adapter or adapters.NONE,
        IMAGE: prompt.image_name,
        "phrases": join_phrases(prompt.phrases),
        _DATASET: resources.current_dataset(),
        _RUN_NOW: "1",
    } | address_of(TILES, prompt.tiles)
    if routing is not None:
        query[ROUTE] = "true"
        if routing != Routing.of(prompt.model.folder):  # as the user has changed it
            query[_TAUGHT] = join_phrases(routing.taught)
    page, _, _ = (st.context.url or "").partition("?")
    return f"{page.rstrip('/')}?{urlencode(query)}"
