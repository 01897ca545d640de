"""The choice of a dataset: its path, how to read it, the demo and its broken copy."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.folders import dataset_folder
from sam3_lora.data.index.cache import cache_folder
from sam3_lora.ui import resources, state
from sam3_lora.ui.components.folder_picker import open_picker, pick_folder
from sam3_lora.ui.components.layout import kept_error, show_kept_error
from sam3_lora.ui.dataset import page_state
from sam3_lora.ui.next_run import read_dataset_as
from sam3_lora.ui.preferences import places

_BROKEN_PROBLEM = "broken-copy-problem"  # DataError of the last try
_READ_OF, _IMAGE_DIR, _PHRASE, _CROWDS = "read-of", "read-images", "read-phrase", "read-crowds"


def choose_path() -> str:
    """Draws the path field with its buttons; returns the path, which is that of all pages where the field is empty."""
    if not (st.session_state.get(page_state.PATH) or "").strip():
        st.session_state[page_state.PATH] = resources.current_dataset()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.text_input(
            "Dataset folder",
            key=page_state.PATH,
            placeholder="A folder with train, valid and test inside",
            on_change=page_state.reset,
        )
        if st.button("Browse", key="browse", icon=":material/folder_open:", on_click=open_picker, args=(_near(path),)):
            pick_folder(places(), _open)
        if path != DEMO:
            st.button("Use the demo", key="use_demo", on_click=_open, args=(DEMO,))
        else:
            st.button(
                "Open a broken copy",
                key="use_broken",
                on_click=_open_broken_copy,
                help="The demo with one of each fault, to learn what the findings mean",
            )
        st.button(
            "Reload",
            key="read_again",
            icon=":material/refresh:",
            on_click=resources.forget_datasets,
            help="Read the files again after changing them",
        )
        # A path copied from a file manager may be quoted.
        path = path.strip().strip("\"'") or resources.current_dataset()
        if path != DEMO:
            _choose_reading(path)
    show_kept_error(_BROKEN_PROBLEM)
    return path


def _near(path: str) -> str:
    """Where to begin to browse: beside the dataset that is open."""
    return "" if path == DEMO else str(dataset_folder(path).parent)


def _choose_reading(path: str) -> None:
    """Options that the files do not show: a separate image folder, a phrase for objects without a category, crowds."""
    data = state.dataset_settings(path)

    def apply() -> None:
        image_dir, phrase, crowds = (st.session_state[key] for key in (_IMAGE_DIR, _PHRASE, _CROWDS))
        texts = {"image_dir": image_dir.strip(), "default_phrase": phrase.strip()}
        read_dataset_as(data.model_copy(update={**texts, "crowds_as_objects": crowds}))
        page_state.reset()

    with st.popover("Options", icon=":material/tune:", key="reading"):
        if st.session_state.get(_READ_OF) != path or _IMAGE_DIR not in st.session_state:
            read = {_IMAGE_DIR: data.image_dir, _PHRASE: data.default_phrase, _CROWDS: data.crowds_as_objects}
            st.session_state.update({_READ_OF: path, **read})
        st.text_input(
            "Image folder, if separate", key=_IMAGE_DIR, placeholder="Next to the annotations", on_change=apply
        )
        st.text_input(
            "Phrase for objects without a category",
            key=_PHRASE,
            placeholder="The folder's name",
            on_change=apply,
            help="Segment Anything's annotations have no categories.",
        )
        st.toggle(
            "Learn crowd regions as objects",
            key=_CROWDS,
            on_change=apply,
            help="Annotations with iscrowd or ignore 1. Some tools mark every brush mask so.",
        )


def _open(path: str) -> None:
    page_state.reset()
    st.session_state[page_state.PATH] = path


def _open_broken_copy() -> None:
    """Opens the demo dataset with one of each fault, written to the user's cache folder."""
    from sam3_lora.demo.broken_copy import make_broken_copy

    with kept_error(_BROKEN_PROBLEM):
        _open(str(make_broken_copy(dataset_folder(DEMO), cache_folder() / "broken-demo")))
