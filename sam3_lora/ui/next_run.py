"""The settings of the next run, as the form holds them; several pages read and change them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from sam3_lora.config import DataConfig, RunConfig
from sam3_lora.errors import ConfigError
from sam3_lora.recipes import demo_config
from sam3_lora.ui import state
from sam3_lora.ui.components.forms import fill_form, form_is_filled, form_value, read_form
from sam3_lora.ui.recipe import forget_recipe
from sam3_lora.ui.resources import current_dataset, first_config, keep_config, log_unexpected, runs_folder

# See DataConfig.reading.
_READING = ("data.path", "data.image_dir", "data.default_phrase", "data.crowds_as_objects", "data.edits")
_SEEN_DATASET = "next-run-seen-dataset"  # str: the opened dataset that the form has adopted


def next_run() -> tuple[RunConfig | None, dict[str, str]]:
    """The next run's configuration, or None and its problems by dotted setting name.

    The first call in a tab fills the form with the last settings, see :func:`sam3_lora.ui.resources.last_config`, so
    that a reload loses nothing; without any, with the defaults. A dataset that was opened since the last call is
    adopted; one that was typed into the form is opened for all pages.
    """
    if not form_is_filled():
        forget_recipe()
        fill_form((first_config() or demo_config()).with_settings({"output.runs": str(runs_folder())}))
    if (chosen := current_dataset()) != st.session_state.get(_SEEN_DATASET):
        _adopt_dataset(chosen)
    elif typed := form_value("data.path"):
        st.session_state[state.DATASET_PATH] = chosen = typed
    st.session_state[_SEEN_DATASET] = chosen
    config, problems = read_form()
    if config is not None:
        before = st.session_state.get(state.RUN_CONFIG)
        st.session_state[state.RUN_CONFIG] = config
        if before is not None and before != config:
            _keep(config)
        state.set_dataset_settings(config.data)  # the dataset page shows what the next run learns
    return config, problems


def phrases_of_dataset(path: str) -> dict[str, str]:
    """The phrases of the next run on this dataset, by category; without those that equal the category's name."""
    next_run()
    if form_value("data.path") == path:
        return dict(form_value("data.category_phrases") or {})
    return dict(state.dataset_settings(path).category_phrases)


def use_phrases(path: str, phrases: dict[str, str]) -> None:
    """Sets the next run's dataset and its category phrases. Call it before the form is drawn.

    Args:
        path: of the dataset.
        phrases: by category.
    """
    _adopt_dataset(path)
    fill_form(RunConfig().with_settings({"data.category_phrases": phrases}), ["data.category_phrases"])
    next_run()


def use_setting(name: str, value: Any) -> None:
    """Sets one setting of the next run, by its dotted name. Call it before the form is drawn."""
    next_run()
    fill_form(RunConfig().with_settings({name: value}), [name])
    next_run()


def _adopt_dataset(path: str) -> None:
    """Sets the dataset of the form with its phrases; those of the previous dataset are kept for its next opening."""
    before = form_value("data.path")
    if before == path:
        return
    phrases = form_value("data.category_phrases") or {}
    state.set_dataset_settings(state.dataset_settings(before).model_copy(update={"category_phrases": phrases}))
    fill_form(RunConfig(data=state.dataset_settings(path)), [*_READING, "data.category_phrases"])


def read_dataset_as(data: DataConfig) -> None:
    """Sets how a dataset is read, on the pages and in the next run on it. Call it before the form is drawn."""
    next_run()
    state.set_dataset_settings(data)
    if form_value("data.path") == data.path:
        fill_form(RunConfig(data=data), _READING)
        next_run()


def use_settings(config: RunConfig) -> None:
    """Sets the next run's configuration, and opens its dataset for all pages."""
    st.session_state[state.DATASET_PATH] = st.session_state[_SEEN_DATASET] = config.data.path
    forget_recipe()
    fill_form(config)
    st.session_state[state.RUN_CONFIG] = config
    _keep(config)


def _keep(config: RunConfig) -> None:
    """Keeps the configuration for the next tab; that it cannot is logged, and no reason to stop."""
    try:
        keep_config(config)
    except ConfigError:
        log_unexpected("The next run's settings are lost on a reload")
