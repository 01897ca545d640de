"""The doctor at work: one thread per dataset looks into every image, and the page watches its snapshots."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui.components.layout import download, escape, guarded, progress

if TYPE_CHECKING:
    from sam3_lora.data.doctor import Report

_POLL_S = 1.0
_KEPT = 4  # datasets whose examination is remembered


@dataclass(frozen=True)
class Snapshot:
    """Where an examination stands. report: what was found, also of a stopped one; error: why there is none."""

    state: Literal["idle", "running", "stopping", "done"] = "idle"
    share: float = 0.0
    what: str = ""
    report: Report | None = None
    error: str = ""


class Examination:
    """Looks into every image of a dataset in a thread of its own; may be started again."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._snapshot = Snapshot()

    def snapshot(self) -> Snapshot:
        with self._lock:
            return self._snapshot

    def start(self) -> None:
        """Begins in the background; does nothing while one is under way."""
        with self._lock:
            if self._snapshot.state in ("running", "stopping"):
                return
            self._stop.clear()
            self._snapshot = Snapshot("running", what="Starting")
        threading.Thread(target=self._run, name="examination", daemon=True).start()

    def stop(self) -> None:
        """Ends it soon; what was looked at until then is reported."""
        self._stop.set()
        with self._lock:
            if self._snapshot.state == "running":
                self._snapshot = replace(self._snapshot, state="stopping")

    def _run(self) -> None:
        from sam3_lora.data.doctor import examine

        try:
            found = Snapshot("done", 1.0, report=examine(self._dataset, self._tell, self._stop.is_set))
        except Sam3LoraError as error:
            found = Snapshot("done", error=f"{error.message}. {error.fix}.")
        except Exception:  # a thread's last resort: the person at the screen gets a sentence, we get a log
            logging.getLogger("sam3_lora.ui").exception("An examination failed")
            found = Snapshot("done", error="Something went wrong that nobody foresaw; the app's log has the details.")
        with self._lock:
            self._snapshot = found

    def _tell(self, share: float, what: str) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, share=share, what=what)


class _Examinations:
    """One examination per dataset and state of its files, for all browser tabs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_path: dict[str, tuple[tuple, Examination]] = {}

    def of(self, path: str, state: tuple, dataset: Dataset) -> Examination:
        with self._lock:
            known = self._by_path.pop(path, None)
            if known is None or known[0] != state:
                if known is not None:
                    known[1].stop()  # the files have changed: what it would find is no longer true
                known = state, Examination(dataset)
            self._by_path[path] = known
            while len(self._by_path) > _KEPT:
                self._by_path.pop(next(iter(self._by_path)))[1].stop()
            return known[1]


@st.cache_resource(show_spinner=False)
def _examinations() -> _Examinations:
    return _Examinations()


def examination_of(path: str, state: tuple, dataset: Dataset) -> Examination:
    """The one examination of a dataset; state: the fingerprint of its files."""
    return _examinations().of(path, state, dataset)


def panel(examination: Examination, invitation: str) -> None:
    """The button, the progress or the result of an examination.

    Args:
        examination: of the dataset that is shown.
        invitation: what looking into every image would tell, shown before it was done.
    """
    snapshot = examination.snapshot()
    if snapshot.state in ("running", "stopping"):
        st.fragment(_watch, run_every=_POLL_S)(examination)
        return
    if snapshot.error:
        st.error(escape(snapshot.error), icon=":material/error:")
    if snapshot.report is None:
        _offer(examination, "Look into every image", invitation)
        return
    report = snapshot.report
    with st.container(horizontal=True, vertical_alignment="center"):
        if report.looked_at < report.images:
            told = f"Stopped after {report.looked_at:,} of {report.images:,} images."
        else:
            told = f"All {report.images:,} images were looked into."
        st.caption(told, width="content")
        st.space("stretch")
        for label, make, name, mime in (
            ("JSON", report.to_json, "report.json", "application/json"),
            ("Markdown", report.to_markdown, "report.md", "text/markdown"),
        ):
            download(label, make, name, mime, f"download-{name}", "The report as a file")
        st.button("Look again", key="examine", icon=":material/refresh:", on_click=examination.start)


def _offer(examination: Examination, label: str, invitation: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(label, key="examine", icon=":material/troubleshoot:", on_click=examination.start)
        st.caption(invitation, width="content")


def _watch(examination: Examination) -> None:
    """Redraws the progress by itself; at the end the whole page is drawn anew with the report."""
    with guarded():
        snapshot = examination.snapshot()
        if snapshot.state not in ("running", "stopping"):
            st.rerun(scope="app")
        progress(
            snapshot.share,
            snapshot.what or "Looking",
            "Stop",
            "stop-examination",
            examination.stop,
            stopping=snapshot.state == "stopping",
            help="What was looked at until then is told",
        )
