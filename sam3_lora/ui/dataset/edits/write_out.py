"""Writes the edited dataset out: the folder, the progress, and what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.dataset import Dataset
from sam3_lora.data.edits.writing import Written, check_place, write_dataset
from sam3_lora.files import user_path
from sam3_lora.text import plural
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import action_button, escape, guarded
from sam3_lora.ui.dataset import page_state
from sam3_lora.ui.dataset.page_state import OpenedDataset

WriteJob = BackgroundJob[str, Written]  # started with the path of the dataset


@st.cache_resource(show_spinner=False)
def write_job() -> WriteJob:
    """The writing of a dataset in this process."""
    return BackgroundJob("writing of a dataset")


def offer(opened: OpenedDataset) -> None:
    """Draws the button that opens the dialog."""
    if st.button("Write out", key="write-out", icon=":material/save:"):
        _show(opened)


@st.dialog("Write out")
def _show(opened: OpenedDataset) -> None:
    st.caption("Writes the edited dataset as COCO to a new folder. The original stays as it is.")
    folder = st.text_input("New folder", str(proposed_folder(opened, "edited")), key="write-folder")
    link = st.toggle(
        "Link images",
        key="write-link",
        help="Hard links take no space; they need the same disk, and a change of one file is one of both.",
    )
    reason = "Type a folder." if not folder.strip() else None
    if action_button("Write dataset", "save", "write-dataset", reason, type="primary"):
        with guarded():
            out = user_path(folder.strip()).absolute()
            check_place(opened.dataset.root, out)
            start(opened, out, link=link)
            st.rerun()


def proposed_folder(opened: OpenedDataset, what: str) -> Path:
    """Where to write a dataset that is made of this one: beside it; that of the demo, which is the app's own, at home.

    Args:
        opened: the dataset.
        what: the end of the folder's name, such as "edited".
    """
    root = opened.dataset.root
    return (Path.home() if opened.path == DEMO else root.parent) / f"{root.name}-{what}"


def start(opened: OpenedDataset, out: Path, *, others: Sequence[Dataset] = (), link: bool = False) -> None:
    """Starts writing the dataset, merged with others, to a new folder; see :func:`write_dataset`."""
    job, dataset = write_job(), opened.dataset

    def write() -> Written:
        return write_dataset(dataset, out, others=others, link=link, progress=job.report_or_end)

    job.start(opened.path, write)


def show_progress(opened: OpenedDataset) -> None:
    """Draws the progress of the last writing, or what it wrote."""
    job = write_job()
    snapshot = job.snapshot()
    if snapshot.request != opened.path or show_job(job, snapshot, "Stop", "stop-writing", "Nothing is kept"):
        return
    if (written := snapshot.result) is not None and snapshot.state == "done":
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            counts = f"{plural(written.images, 'image')}, {plural(written.objects, 'annotation')}"
            missing = f"; {plural(len(written.missing), 'image')} without a file left out" if written.missing else ""
            st.caption(
                f":green[:material/check:] Wrote {escape(str(written.folder))}: {counts}{missing}.", width="content"
            )
            st.button(
                "Open it", key="open-written", type="tertiary", on_click=_open_written, args=(str(written.folder),)
            )


def _open_written(folder: str) -> None:
    page_state.reset()
    st.session_state[page_state.PATH] = folder
