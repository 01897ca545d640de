"""The evaluation at work: one thread in this process measures, and every tab watches its snapshots."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.evaluate import EvaluationRequest
from sam3_lora.ui.components.layout import escape, guarded, progress
from sam3_lora.ui.resources import SharedPredictor

_POLL_S = 1.0


@dataclass(frozen=True)
class Snapshot:
    """Where the evaluation stands. path: of the result that was stored last; error: why there is none."""

    state: Literal["idle", "running", "stopping", "done", "cancelled"] = "idle"
    title: str = ""
    share: float = 0.0
    what: str = ""
    path: Path | None = None
    error: str = ""

    @property
    def active(self) -> bool:
        return self.state in ("running", "stopping")


class EvaluationJob:
    """At most one evaluation at a time; its report is stored."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._snapshot = Snapshot()

    def snapshot(self) -> Snapshot:
        with self._lock:
            return self._snapshot

    def start(self, shared: SharedPredictor, request: EvaluationRequest, folder: Path) -> bool:
        """Starts in the background; False, and nothing else, if one is running. folder: where the report goes."""
        title = f"{request.adapter_name or 'base model alone'}, split {request.split.name} of {request.dataset}"
        with self._lock:
            if self._snapshot.active:
                return False
            self._stop.clear()
            self._snapshot = Snapshot("running", title, what="Starting")
        threading.Thread(
            target=self._run, args=(shared, request, folder, title), name="evaluation", daemon=True
        ).start()
        return True

    def stop(self) -> None:
        """Ends it after the image in progress; nothing is stored."""
        self._stop.set()
        with self._lock:
            if self._snapshot.state == "running":
                self._snapshot = replace(self._snapshot, state="stopping")

    def _run(self, shared: SharedPredictor, request: EvaluationRequest, folder: Path, title: str) -> None:
        from sam3_lora.evaluate import Cancelled

        try:
            ended = Snapshot("done", title, 1.0, path=self._measure(shared, request, folder))
        except Cancelled:
            ended = Snapshot("cancelled", title)
        except Sam3LoraError as error:
            ended = Snapshot("done", title, error=f"{error.message}. {error.fix}.")
        except Exception:  # a thread's last resort: the person at the screen gets a sentence, we get a log
            logging.getLogger("sam3_lora.ui").exception("An evaluation failed")
            ended = Snapshot("done", title, error="The evaluation failed; the app's log has the details.")
        with self._lock:
            self._snapshot = ended

    def _measure(self, shared: SharedPredictor, request: EvaluationRequest, folder: Path) -> Path:
        from sam3_lora.evaluate import evaluate, store

        report = evaluate(shared.predictor, request, progress=self._tell, cancelled=self._stop.is_set, lock=shared.lock)
        return store.save(report, folder)

    def _tell(self, share: float, what: str) -> None:
        with self._lock:
            self._snapshot = replace(self._snapshot, share=share, what=what)


@st.cache_resource(show_spinner=False)
def evaluation_job() -> EvaluationJob:
    """The one of this process."""
    return EvaluationJob()


def watch(job: EvaluationJob) -> None:
    """Shows the progress and redraws it by itself; at its end the whole page is drawn anew."""
    st.fragment(_progress, run_every=_POLL_S)(job)


def _progress(job: EvaluationJob) -> None:
    with guarded():
        snapshot = job.snapshot()
        if not snapshot.active:
            st.rerun(scope="app")
        with st.container(border=True):
            st.caption(f"Evaluating {escape(snapshot.title)}")
            progress(
                snapshot.share,
                snapshot.what or "Measuring",
                "Cancel",
                "cancel-evaluation",
                job.stop,
                stopping=snapshot.state == "stopping",
                help="Ends after this image; nothing is kept",
            )
