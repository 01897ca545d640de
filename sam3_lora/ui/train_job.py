"""The training job: of one app at most one run is trained at a time, by a thread of it or by a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError
from sam3_lora.runs.launch import launch
from sam3_lora.runs.run import Run
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.preferences import change_preferences
from sam3_lora.ui.resources import runs_folder


class TrainJob:
    """Starts and resumes the training of runs. Every method may be called from any thread.

    Whoever trains writes the run's folder and nothing else, so that watching a run does not depend on this object.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._job: BackgroundJob[Run, object] = BackgroundJob("training")
        self._launched: Run | None = None

    @property
    def current(self) -> Run | None:
        """The run in progress, in a thread of the app or in a process of its own."""
        snapshot = self._job.snapshot()
        if snapshot.active:
            return snapshot.request
        launched = self._launched
        return launched if launched is not None and launched.status().active else None

    @property
    def problem(self) -> tuple[str, str] | None:
        """Name of the run and message, if the last thread could not write its run's folder; else None.

        Every other failure is recorded in the run's own status.
        """
        snapshot = self._job.snapshot()
        return (snapshot.request.name, snapshot.error) if snapshot.request and snapshot.error else None

    def start(self, config: RunConfig, *, outlives_app: bool = False) -> Run:
        """Creates a run and trains it: in a thread, or in a process that goes on when the app is closed.

        Raises:
            RunError: another run is in progress, or the run cannot be made or started.
        """
        return self._begin(lambda: Run.create(config), resume=False, outlives_app=outlives_app)

    def resume(self, run: Run, *, outlives_app: bool = False) -> Run:
        """Continues a stopped or crashed run from its checkpoint, as :meth:`start`. Raises RunError."""
        run.require_resumable()
        return self._begin(lambda: run, resume=True, outlives_app=outlives_app)

    def take_up(self, run: Run) -> None:
        """Makes a run the current one that a process trains which an app has started, this one before or another."""
        if self.current is None:
            self._launched = run

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end of the thread, at most so many seconds; True if it trains no run any more."""
        return self._job.wait(timeout)

    def _begin(self, make_run: Callable[[], Run], *, resume: bool, outlives_app: bool) -> Run:
        if not outlives_app:
            # Loads transformers, peft and accelerate: only when needed, and before there is a run to hold.
            import sam3_lora.train.loop  # noqa: F401

        with self._starting:
            if (current := self.current) is not None:
                raise RunError(f"The run {current.name} is still being trained", "Stop it or wait for its end")
            run = make_run()
            if outlives_app:
                self._job.forget()  # the problem of an earlier run
                launch(run)
                self._launched = run
                if run.folder.parent != runs_folder():
                    change_preferences(launched_elsewhere=str(run.folder.absolute()))
            else:
                self._job.start(run, partial(_train, run, resume), on_cancel=lambda: run.requests.add("close"))
            return run


def _train(run: Run, resume: bool) -> None:
    from sam3_lora.train.loop import fit

    try:
        fit(run, resume=resume)
    except Exception as error:
        if run.status().state == "failed":  # message and traceback are in the run's folder
            return
        if isinstance(error, OSError):
            raise RunError(f"The run's folder could not be written: {error}", "Check the disk") from error
        raise
