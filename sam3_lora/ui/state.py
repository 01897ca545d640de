"""What the pages share within one browser tab: the keys in ``st.session_state`` and how they are read."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import DEMO, RunConfig

DATASET_PATH = "dataset_path"  # str: the dataset that was opened last
READING = "dataset_reading"  # dict: path -> (further folder of images, phrase for objects without a category)
RUN_CONFIG = "run_config"  # RunConfig: what the form on the configure page describes
CURRENT_IMAGE = "current_image"  # str, "split/image": opened on the dataset page since inference was last shown
ENTERED = "entered"  # bool: this tab has been sent through app.py, see layout.page
ADVISED_THRESHOLDS = "advised_thresholds"  # dict: phrase -> score threshold, from evaluate to inference
CURRENT_RUN = "current_run"  # str: folder of the run that is looked at


def dataset_path() -> str | None:
    """The dataset that was opened last in this tab, or None before any was."""
    return st.session_state.get(DATASET_PATH)


def reading(path: str) -> tuple[str, str]:
    """How a dataset is to be read: a further folder of images, and the phrase for objects without a category."""
    return st.session_state.get(READING, {}).get(path, ("", ""))


def read_as(path: str, images: str, phrase: str) -> None:
    """Has a dataset read so from now on in this tab."""
    st.session_state.setdefault(READING, {})[path] = (images.strip(), phrase.strip())


def base_model() -> str:
    """The base model that this tab works with: the configured one, the demo before anything was configured."""
    config: RunConfig | None = st.session_state.get(RUN_CONFIG)
    return config.model.base if config else DEMO
