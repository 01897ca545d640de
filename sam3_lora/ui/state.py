"""State that the pages share within one browser tab: the keys in ``st.session_state`` and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from sam3_lora.config import DataConfig, ModelConfig, RunConfig
from sam3_lora.ui.preferences import kept_edits

DATASET_PATH = "dataset_path"  # str: the dataset that all pages work with, see resources.current_dataset
DATASET_SETTINGS = "dataset_settings"  # dict: dataset path -> DataConfig: how it is read, and its category phrases
RUN_CONFIG = "run_config"  # RunConfig: what the form on the configure page describes
CURRENT_IMAGE = "current_image"  # str, "split/image": opened on the dataset page since inference was last shown
ADVISED_THRESHOLDS = "advised_thresholds"  # dict: adapter or None -> phrase -> score threshold, from evaluate
ADAPTER = "adapter_in_use"  # tuple[str, str]: the name of the adapter chosen last, and CURRENT_RUN then
RUN_NOW = "inference-run-now"  # bool: the inference page prompts as if its button had been pressed
CURRENT_RUN = "current_run"  # str: folder of the run that is looked at


def dataset_path() -> str | None:
    """The dataset that this tab works with, or None before the first page that needs one."""
    return st.session_state.get(DATASET_PATH)


def dataset_settings(path: str) -> DataConfig:
    """How this tab reads a dataset, see :attr:`DataConfig.reading`, and the phrases of its categories.

    At first with the edits that were made of it in the app, so that a reload loses none.
    """
    known = st.session_state.get(DATASET_SETTINGS, {}).get(path)
    return known or DataConfig.model_construct(path=path, edits=kept_edits(path))


def reading(path: str) -> dict[str, Any]:
    """How this tab reads a dataset: the arguments of :func:`sam3_lora.data.dataset.open_dataset`."""
    return dataset_settings(path).reading


def set_dataset_settings(data: DataConfig) -> None:
    """Sets how this tab reads a dataset from now on, and the phrases of its categories."""
    st.session_state.setdefault(DATASET_SETTINGS, {})[data.path] = data


def keep_valid(key: str, options: Sequence[str]) -> None:
    """Drops from a widget's state, before the widget is drawn, what is no longer one of its options.

    Args:
        key: of the widget, in the session; its value is one option or a list of options.
        options: of the widget.
    """
    value = st.session_state.get(key)
    if isinstance(value, list):
        st.session_state[key] = [item for item in value if item in options]
    elif value is not None and value not in options:
        del st.session_state[key]


def base_model() -> ModelConfig:
    """The base model that this tab works with: the configured one, the demo before anything was configured."""
    config: RunConfig | None = st.session_state.get(RUN_CONFIG)
    return config.model if config else ModelConfig()
