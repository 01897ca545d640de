"""The background thread around fit(): one job per process, started and stopped from anywhere in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError
from sam3_lora.runs.run import Run

_log = logging.getLogger(__name__)


class Jobs:
    """The training job of this process. Every method may be called from any thread.

    The thread writes the run's folder and nothing else, so that watching a run never depends on
    this object: it is only needed to start one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._problem: tuple[str, str] | None = None

    @property
    def problem(self) -> tuple[str, str] | None:
        """Name of the run and message, if the last job could not even write its run's folder; else None.

        Every other failure stands in the run's own status.
        """
        return self._problem

    @property
    def current(self) -> Run | None:
        """The run that this process is training now."""
        return self._run if self._thread is not None and self._thread.is_alive() else None

    def start(self, config: RunConfig) -> Run:
        """Makes a run and trains it in the background. Raises RunError if one is being trained already."""
        return self._launch(lambda: Run.create(config), resume=False)

    def resume(self, run: Run) -> Run:
        """Goes on with a stopped or crashed run from its checkpoint. Raises RunError if it cannot."""
        run.require_resumable()
        return self._launch(lambda: run, resume=True)

    def stop(self) -> None:
        """Asks the job to stop after the step in progress; its adapter and checkpoint are saved."""
        run = self.current
        if run is not None:
            run.request_stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the job's end; True if none is running any more."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.current is None

    def _launch(self, make_run: Callable[[], Run], resume: bool) -> Run:
        from sam3_lora.train.loop import fit  # transformers, peft and accelerate: only when they are needed

        with self._lock:
            if self.current is not None:
                raise RunError(f"The run {self.current.name} is still being trained", "Stop it or wait for its end")
            run = make_run()
            self._run, self._problem = run, None
            # A daemon: closing the app must not wait for hours of training; the checkpoint holds the rest.
            self._thread = threading.Thread(
                target=self._work, args=(fit, run, resume), name=f"train {run.name}", daemon=True
            )
            self._thread.start()
            return run

    def _work(self, fit: Callable[..., object], run: Run, resume: bool) -> None:
        try:
            fit(run, resume=resume)
        except Exception as error:
            # fit() has written message and traceback into the run's folder, which is where people look. If it could
            # not, nobody would ever know.
            if run.status().state != "failed":
                self._problem = (run.name, str(error) or type(error).__name__)
                _log.exception("The run %s could not be trained", run.name)
