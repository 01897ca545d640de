"""The progress of a background job on a page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from sam3_lora.ui.background_job import BackgroundJob, Snapshot
from sam3_lora.ui.components.layout import escape, guarded

_POLL_S = 1.0


def watch(job: BackgroundJob[Any, Any], label: str, key: str, help: str) -> None:
    """Shows the progress and redraws it by itself; when the job ends, the whole page is drawn again.

    Args:
        job: an active job.
        label, key, help: of the button that cancels it.
    """
    st.fragment(_show_progress, run_every=_POLL_S)(job, label, key, help)


def show_job(job: BackgroundJob[Any, Any], snapshot: Snapshot[Any, Any], label: str, key: str, help: str) -> bool:
    """Shows the progress of a job, or why it failed; True while it is active, without a result yet.

    Args:
        job: as :func:`watch` takes it.
        snapshot: its state in this run of the page.
        label, key, help: of the button that cancels it.
    """
    if snapshot.active:
        watch(job, label, key, help)
    elif snapshot.error:
        st.error(escape(snapshot.error), icon=":material/error:")
    return snapshot.active


def _show_progress(job: BackgroundJob[Any, Any], label: str, key: str, help: str) -> None:
    snapshot = job.snapshot()
    if not snapshot.active:
        st.rerun(scope="app")
    stopping = snapshot.state == "stopping"
    with guarded(), st.container(horizontal=True, vertical_alignment="center"):
        text = f"{snapshot.text} (stopping)" if stopping else snapshot.text
        st.progress(min(max(snapshot.share, 0.0), 1.0), escape(text))
        st.button(label, key=key, icon=":material/stop:", disabled=stopping, on_click=job.cancel, help=help)
