"""Links to the inference page: opening one, and making one for the prompt that is shown."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from sam3_lora.data.phrase_list import join_phrases
from sam3_lora.ui import adapters, resources, state
from sam3_lora.ui.inference.image_source import IMAGE, RUN_NOW
from sam3_lora.ui.inference.results import Prompt

_DATASET, _RUN_NOW = "dataset", "ask"  # names in the page's address


def open_link() -> None:
    """Takes over the dataset of a link, once, and whether it runs its prompt at once."""
    dataset = st.query_params.get(_DATASET)
    if dataset and state.dataset_path() is None:
        st.session_state[state.DATASET_PATH] = dataset
    if st.query_params.get(_RUN_NOW):
        st.session_state[RUN_NOW] = True
    for name in (_DATASET, _RUN_NOW):
        if name in st.query_params:
            del st.query_params[name]


def show(prompt: Prompt, can_be_linked: bool) -> None:
    """Draws the popover with the link, or the reason why there is none.

    Args:
        prompt: whose predictions are shown.
        can_be_linked: whether its image is the chosen one and belongs to the dataset.
    """
    with st.popover("Link", icon=":material/link:", key="link"):
        if not prompt.phrases:
            st.caption("Exemplar boxes cannot be linked: prompt with a phrase to get a link.")
        elif not can_be_linked:
            st.caption("Only images of the dataset can be linked: this one was uploaded, or is no longer selected.")
        else:
            st.caption("Opens this adapter, image and phrases and runs the prompt, without exemplar boxes.")
            st.code(_address(prompt), language=None, wrap_lines=True)


def _address(prompt: Prompt) -> str:
    query = {
        "adapter": prompt.model.adapter or adapters.NONE,
        IMAGE: prompt.image_name,
        "phrases": join_phrases(prompt.phrases),
        _DATASET: resources.current_dataset(),
        _RUN_NOW: "1",
    }
    page, _, _ = (st.context.url or "").partition("?")
    return f"{page.rstrip('/')}?{urlencode(query)}"
