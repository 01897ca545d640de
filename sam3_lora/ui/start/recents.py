"""Datasets and runs that were worked with last, by what they are; a click opens one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.text import first_names, plural, short
from sam3_lora.ui import resources, runs
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.preferences import RecentDataset
from sam3_lora.ui.start import actions
from sam3_lora.ui.start.situation import RunFacts

_MAX_RUNS = 4
_MAX_PATH = 70  # characters


def show(datasets: Sequence[RecentDataset], of_runs: Sequence[RunFacts]) -> None:
    """Draws both lists, without those that are empty."""
    if of_runs:
        with st.container(key="recent-runs", gap="xsmall"):
            st.subheader("Recent runs", anchor=False)
            for place, facts in enumerate(of_runs[:_MAX_RUNS]):
                _show_run(place, facts)
    if datasets:
        with st.container(key="recent-datasets", gap="xsmall"):
            st.subheader("Recent datasets", anchor=False)
            for place, dataset in enumerate(datasets):
                _show_dataset(place, dataset)


def _show_dataset(place: int, dataset: RecentDataset) -> None:
    is_there = resources.has_dataset_folder(dataset.path)
    with st.container(gap=None):
        title = escape(short(resources.dataset_title(dataset.path)))
        if st.button(
            title,
            key=f"recent-dataset-{place}",
            type="tertiary",
            icon=":material/photo_library:",
            disabled=not is_there,
        ):
            actions.open_recent(dataset)
        st.caption(what_it_is(dataset) if is_there else f"No longer there: {escape(dataset.path)}")


def what_it_is(dataset: RecentDataset) -> str:
    """A dataset's size, categories and place, as Markdown."""
    more = dataset.num_categories - len(dataset.categories)
    names = escape(first_names(dataset.categories)) + (f" and {more} more" if more > 0 else "")
    place = "" if dataset.path == DEMO else f"  \n{escape(_shortened(dataset.path))}"
    return f"{plural(dataset.images, 'image')}, {plural(dataset.objects, 'object')}: {names or 'no categories'}{place}"


def _shortened(path: str) -> str:
    """A path without its beginning if it is long: its end says more."""
    return path if len(path) <= _MAX_PATH else f"...{path[3 - _MAX_PATH :]}"


def _show_run(place: int, facts: RunFacts) -> None:
    words, color, icon = runs.STATES[facts.status.state]
    about = [] if facts.f1 is None else [f"F1 {facts.f1:.2f}"]
    if facts.status.total_steps and (facts.status.active or facts.f1 is None):
        about.append(f"step {facts.status.step:,} of {facts.status.total_steps:,}")
    if facts.dataset:
        about.append(f"on {escape(short(resources.dataset_title(facts.dataset)))}")
    with st.container(gap=None):
        title = escape(short(runs.run_title(facts.run.name)))
        if st.button(title, key=f"recent-run-{place}", type="tertiary", icon=":material/monitoring:"):
            actions.open_run(facts.run)
        st.caption(f":{color}-badge[:material/{icon}: {words}] {', '.join(filter(None, about))}")
