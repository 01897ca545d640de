"""What a click on the start page opens."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import DEMO, DataConfig
from sam3_lora.runs.run import Run
from sam3_lora.ui import adapters, runs, state
from sam3_lora.ui.preferences import RecentDataset

DATASET_PAGE, TRAIN_PAGE, INFERENCE_PAGE = "pages/dataset.py", "pages/train.py", "pages/inference.py"
CONFIGURE_PAGE, EVALUATE_PAGE, LABEL_PAGE = "pages/configure.py", "pages/evaluate.py", "pages/label.py"


def try_demo() -> None:
    """Opens the inference page, where the adapter that ships with the app answers; without one, the demo dataset."""
    if adapters.has_demo_adapter():
        try_adapter(adapters.DEMO_ADAPTER, DEMO)
    st.switch_page(DATASET_PAGE, query_params={"path": DEMO})


def open_recent(dataset: RecentDataset) -> None:
    """Opens a dataset that was opened before, read as it was then."""
    if dataset.path not in st.session_state.get(state.DATASET_SETTINGS, {}):
        data = DataConfig.model_construct(path=dataset.path)
        how = ("image_dir", "default_phrase", "crowds_as_objects")
        state.set_dataset_settings(data.model_copy(update={name: getattr(dataset, name) for name in how}))
    st.switch_page(DATASET_PAGE, query_params={"path": dataset.path})


def open_run(run: Run) -> None:
    """Shows a run on the train page."""
    runs.open_run(run)
    st.switch_page(TRAIN_PAGE, query_params={})


def try_adapter(name: str, dataset: str = "") -> None:
    """Opens the inference page with an adapter, which answers there at once.

    Args:
        name: of the adapter in the page's address.
        dataset: path of the one to take an image of; "" for the open one.
    """
    st.switch_page(
        INFERENCE_PAGE, query_params={"adapter": name, "ask": "1"} | ({"dataset": dataset} if dataset else {})
    )
