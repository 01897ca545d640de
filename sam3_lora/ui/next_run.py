"""The settings of the next run: what the form holds, on whichever page they are asked for."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.ui import state
from sam3_lora.ui.components.forms import fill_form, form_is_filled, form_value, read_form
from sam3_lora.ui.resources import last_config, runs_folder

_SEEN_DATASET = "next-run-seen-dataset"  # the dataset page's choice that the form took over last
_PHRASES = "next-run-phrases"  # dict: the phrases of datasets that were open before, by their path


def next_run() -> tuple[RunConfig | None, dict[str, str]]:
    """The next run's configuration, or None and what is wrong with it by dotted name.

    Asked for first, the form is filled as the newest run was, so that a reload loses nothing; with the
    defaults where there is no run. A dataset opened since then is taken over.
    """
    if not form_is_filled():
        fill_form((last_config() or RunConfig()).with_settings({"output.runs": str(runs_folder())}))
    chosen = state.dataset_path()
    if chosen and chosen != st.session_state.get(_SEEN_DATASET):
        _take_over(chosen)
    st.session_state[_SEEN_DATASET] = chosen
    config, problems = read_form()
    if config is not None:
        st.session_state[state.RUN_CONFIG] = config
    return config, problems


def phrases_of_dataset(path: str) -> dict[str, str]:
    """The user's own words by category, as the next run on this dataset asks them."""
    next_run()
    if form_value("data.path") == path:
        return dict(form_value("data.category_phrases") or {})
    return dict(st.session_state.get(_PHRASES, {}).get(path, {}))


def use_phrases(path: str, phrases: dict[str, str]) -> None:
    """Makes a dataset the next run's and has it asked by these words. Call it before the form is drawn."""
    _take_over(path)
    fill_form(RunConfig().with_settings({"data.category_phrases": phrases}), ["data.category_phrases"])
    next_run()


def _take_over(path: str) -> None:
    """Another dataset comes with its own phrases; those of the last one are kept for when it is opened again."""
    before = form_value("data.path")
    if before == path:
        return
    kept = st.session_state.setdefault(_PHRASES, {})
    kept[before] = form_value("data.category_phrases") or {}
    images, phrase = state.reading(path)
    settings = {
        "data.path": path,
        "data.image_dir": images,
        "data.default_phrase": phrase,
        "data.category_phrases": kept.get(path, {}),
    }
    fill_form(RunConfig().with_settings(settings), list(settings))


def read_dataset_as(path: str, images: str, phrase: str) -> None:
    """Has a dataset read so, on the pages and in the next run on it. Call it before the form is drawn."""
    next_run()
    state.read_as(path, images, phrase)
    if form_value("data.path") == path:
        settings = {"data.image_dir": images.strip(), "data.default_phrase": phrase.strip()}
        fill_form(RunConfig().with_settings(settings), list(settings))
        next_run()


def use_settings(config: RunConfig) -> None:
    """Makes a configuration the next run's; its dataset stays until another one is opened."""
    st.session_state[_SEEN_DATASET] = state.dataset_path()
    fill_form(config)
    st.session_state[state.RUN_CONFIG] = config
