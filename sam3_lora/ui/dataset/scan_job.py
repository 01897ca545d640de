"""The scan of all images of a dataset: one job per dataset, its progress and its report on the page."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.text import plural
from sam3_lora.ui.background_job import BackgroundJob, Snapshot
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import download_report

if TYPE_CHECKING:
    from sam3_lora.data.doctor import Report
    from sam3_lora.ui.dataset.page_state import OpenedDataset

ScanJob: TypeAlias = "BackgroundJob[str, Report]"  # started with the dataset's folder
ScanSnapshot: TypeAlias = "Snapshot[str, Report]"

SMALL = 200  # images that are scanned within seconds


@dataclass
class _Slot:
    """The scan job of a dataset, for one state of its files."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    version: tuple = ()
    job: ScanJob = field(default_factory=lambda: BackgroundJob("dataset scan"))


@st.cache_resource(max_entries=4, show_spinner=False, on_release=lambda slot: slot.job.cancel())
def _slot_of(path: str) -> _Slot:
    return _Slot()


def scan_job_of(path: str, version: tuple, dataset: Dataset) -> ScanJob:
    """The one scan job of a dataset, for all browser tabs.

    Args:
        path: of the dataset.
        version: the fingerprint of its files and edits; once they have changed, an earlier scan is dropped, and begun
            again, which is fast: files that have not changed are not read again.
        dataset: as it is now.
    """
    slot = _slot_of(path)
    with slot.lock:
        if slot.version != version:
            snapshot = slot.job.snapshot()
            slot.job.cancel()
            slot.version, slot.job = version, BackgroundJob("dataset scan")
            if snapshot.active or snapshot.state == "done":
                start_scan(slot.job, dataset)
        return slot.job


def start_scan(job: ScanJob, dataset: Dataset) -> None:
    """Reads every image of the dataset in the background. Cancelled, it reports on what was read until then."""
    from sam3_lora.data.doctor import examine

    job.start(str(dataset.root), lambda: examine(dataset, job.report, job.is_cancelled))


def show_scan(opened: OpenedDataset, benefit: str, at_once: int = 0) -> None:
    """The button that starts a scan, its progress, or its result.

    Args:
        opened: the dataset, with its scan job.
        benefit: what a scan would show, as a sentence.
        at_once: a dataset of up to so many images is scanned without a press.
    """
    job, snapshot = opened.scan_job, opened.scan
    if snapshot.state == "idle" and 0 < sum(len(split.images) for split in opened.dataset.splits.values()) <= at_once:
        start_scan(job, opened.dataset)
        st.rerun()
    if show_job(job, snapshot, "Stop", "stop-scan", "The images scanned until then are reported"):
        return
    report = snapshot.result
    with st.container(horizontal=True, vertical_alignment="center"):
        if report is None:
            _scan_button("Scan all images", opened, icon="troubleshoot")
            st.caption(benefit, width="content")
            return
        if report.looked_at < report.images:
            summary = f"Stopped after {report.looked_at:,} of {report.images:,} images."
        else:
            summary = f"{plural(report.images, 'image')} scanned."
        st.caption(summary, width="content")
        st.space("stretch")
        download_report("report", report.to_json, report.to_markdown)
        _scan_button("Scan again", opened, icon="refresh")


def _scan_button(label: str, opened: OpenedDataset, icon: str) -> None:
    """A button that starts a scan. icon: a Material symbol's name."""
    st.button(label, key="scan", icon=f":material/{icon}:", on_click=start_scan, args=(opened.scan_job, opened.dataset))
