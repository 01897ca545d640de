"""A folder of images at work: one thread asks image after image, and every tab watches its snapshots."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.predict.export import FoundImage
from sam3_lora.predict.folder import Skipped, images_in, predict_images
from sam3_lora.ui.components.images import to_jpeg
from sam3_lora.ui.components.layout import escape, guarded, progress
from sam3_lora.ui.inference.downloads import draw
from sam3_lora.ui.inference.view_state import ViewState
from sam3_lora.ui.resources import SharedPredictor

_POLL_S = 0.7
_THUMBNAIL = 360  # pixels of the longer side


@dataclass(frozen=True)
class FolderRequest:
    """What is asked of which folder. model: its name for people; strength None: the base model alone."""

    folder: Path
    phrases: tuple[str, ...]
    model: str
    strength: float | None
    view: ViewState


@dataclass(frozen=True)
class FolderSnapshot:
    """Where the job stands. found and pictures (JPEG) belong together, in the order of names; error: why it ended."""

    state: Literal["idle", "running", "stopping", "done", "cancelled"] = "idle"
    request: FolderRequest | None = None
    total: int = 0
    what: str = ""
    found: tuple[FoundImage, ...] = ()
    pictures: tuple[bytes, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    error: str = ""

    @property
    def active(self) -> bool:
        return self.state in ("running", "stopping")

    @property
    def looked_at(self) -> int:
        return len(self.found) + len(self.skipped)


@dataclass
class FolderJob:
    """At most one folder at a time; the last one's results stay until the next is asked."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _state: FolderSnapshot = field(default_factory=FolderSnapshot)
    _found: list[FoundImage] = field(default_factory=list)
    _pictures: list[bytes] = field(default_factory=list)
    _skipped: list[Skipped] = field(default_factory=list)

    def snapshot(self) -> FolderSnapshot:
        with self._lock:
            return replace(
                self._state, found=tuple(self._found), pictures=tuple(self._pictures), skipped=tuple(self._skipped)
            )

    def start(self, shared: SharedPredictor, request: FolderRequest) -> bool:
        """Begins in the background. False, and nothing else, if one is under way.

        Raises:
            DataError: there is no such folder, or no image in it.
        """
        paths = images_in(request.folder)
        with self._lock:
            if self._state.active:
                return False
            self._stop.clear()
            self._found, self._pictures, self._skipped = [], [], []
            self._state = FolderSnapshot("running", request, len(paths), "Starting")
        threading.Thread(target=self._run, args=(shared, request, paths), name="folder", daemon=True).start()
        return True

    def stop(self) -> None:
        """Ends it after the image in progress; what was found until then stays."""
        self._stop.set()
        with self._lock:
            if self._state.state == "running":
                self._state = replace(self._state, state="stopping")

    def _run(self, shared: SharedPredictor, request: FolderRequest, paths: list[Path]) -> None:
        ended = "done"
        error = ""
        try:
            if not self._ask(shared, request, paths):
                ended = "cancelled"
        except Sam3LoraError as problem:
            error = f"{problem.message}. {problem.fix}."
        except Exception:  # a thread's last resort: the person at the screen gets a sentence, we get a log
            logging.getLogger("sam3_lora.ui").exception("Asking a folder failed")
            error = "Asking this folder failed; the app's log has the details."
        with self._lock:
            self._state = replace(self._state, state=ended, error=error)

    def _ask(self, shared: SharedPredictor, request: FolderRequest, paths: list[Path]) -> bool:
        """False if it was stopped."""
        predictor = shared.predictor
        answers = predict_images(
            predictor,
            paths,
            request.folder,
            request.phrases,
            request.view.postprocess,
            request.view.thresholds,
            strength=request.strength,
            lock=shared.lock,
        )
        try:
            for answer in answers:
                if isinstance(answer, Skipped):
                    with self._lock:
                        self._skipped.append(answer)
                else:
                    picture = to_jpeg(draw(answer.found, answer.pixels, request.view.colors, _THUMBNAIL))
                    with self._lock:
                        self._found.append(answer.found)
                        self._pictures.append(picture)
                        self._state = replace(self._state, what=answer.found.name)
                if self._stop.is_set():
                    return len(self._found) + len(self._skipped) == len(paths)
            return True
        finally:
            answers.close()
            with shared.lock:
                if predictor.has_adapter:
                    predictor.strength = 1.0


@st.cache_resource(show_spinner=False)
def folder_job() -> FolderJob:
    """The one of this process."""
    return FolderJob()


def watch(job: FolderJob) -> None:
    """Shows the progress and redraws it by itself; at its end the whole page is drawn anew."""
    st.fragment(_progress, run_every=_POLL_S)(job)


def _progress(job: FolderJob) -> None:
    with guarded():
        snapshot = job.snapshot()
        if not snapshot.active:
            st.rerun(scope="app")
        progress(
            snapshot.looked_at / max(snapshot.total, 1),
            f"{snapshot.looked_at} of {snapshot.total}: {escape(snapshot.what)}",
            "Cancel",
            "cancel-folder",
            job.stop,
            stopping=snapshot.state == "stopping",
            help="Ends after this image; what was found until then stays",
        )
