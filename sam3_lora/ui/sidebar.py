"""What all pages work with, in the sidebar: the dataset that is open, the run in progress, the adapter in use."""

from __future__ import annotations

import streamlit as st

from sam3_lora.runs.run import Run
from sam3_lora.text import short
from sam3_lora.ui import adapters, resources, runs
from sam3_lora.ui.components.layout import escape, fragment, guarded

_MOST = 26  # characters in a line of the sidebar


def show() -> None:
    """Draws it; call it after the page, which may have opened another dataset or chosen another adapter."""
    dataset = short(resources.dataset_title(resources.current_dataset()), _MOST)
    with st.container(key="in-use", gap="xxsmall"), guarded():
        st.caption("Dataset")
        st.page_link("pages/dataset.py", label=escape(dataset), icon=":material/photo_library:")
        if (run := runs.active_run()) is not None:
            st.caption("Run")
            fragment(_show_run, run, run_every=runs.POLL_SECONDS)
        st.caption("Adapter")
        adapter = short(adapters.short_name(adapters.in_use()), _MOST)
        st.page_link("pages/inference.py", label=escape(adapter), icon=":material/layers:")


def _show_run(run: Run) -> None:
    """The run's state, how much of it is done, and the way to it."""
    status = run.status()
    words, color, icon = runs.STATES[status.state]
    if st.button(
        escape(short(runs.run_label(run.name), _MOST)),
        key="sidebar-run",
        type="tertiary",
        icon=":material/monitoring:",
    ):
        runs.open_run(run)
        st.switch_page("pages/train.py", query_params={})
    st.progress(runs.share_done(status), f":{color}[:material/{icon}: {words}] {100 * runs.share_done(status):.0f} %")
