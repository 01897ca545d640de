"""The training job: at most one run is trained in this process at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError
from sam3_lora.runs.run import Run
from sam3_lora.ui.background_job import BackgroundJob


class TrainJob:
    """Starts, resumes and stops the training of runs. Every method may be called from any thread.

    The thread writes the run's folder and nothing else, so that watching a run does not depend on this object.
    """

    def __init__(self) -> None:
        self._launching = threading.Lock()
        self._job: BackgroundJob[Run, object] = BackgroundJob("training")

    @property
    def current(self) -> Run | None:
        """The run that this process is training now."""
        snapshot = self._job.snapshot()
        return snapshot.request if snapshot.active else None

    @property
    def problem(self) -> tuple[str, str] | None:
        """Name of the run and message, if the last job could not write its run's folder; else None.

        Every other failure is recorded in the run's own status.
        """
        snapshot = self._job.snapshot()
        return (snapshot.request.name, snapshot.error) if snapshot.request and snapshot.error else None

    def start(self, config: RunConfig) -> Run:
        """Creates a run and trains it in the background. Raises RunError while another run is trained."""
        return self._launch(lambda: Run.create(config), resume=False)

    def resume(self, run: Run) -> Run:
        """Continues a stopped or crashed run from its checkpoint. Raises RunError if that is not possible."""
        run.require_resumable()
        return self._launch(lambda: run, resume=True)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, at most so many seconds; True if no run is trained any more."""
        return self._job.wait(timeout)

    def _launch(self, make_run: Callable[[], Run], resume: bool) -> Run:
        from sam3_lora.train.loop import fit  # loads transformers, peft and accelerate: only when needed

        def work() -> None:
            try:
                fit(run, resume=resume)
            except Exception as error:
                if run.status().state == "failed":  # message and traceback are in the run's folder
                    return
                if isinstance(error, OSError):
                    raise RunError(f"The run's folder could not be written: {error}", "Check the disk") from error
                raise

        with self._launching:
            if self.current is not None:
                raise RunError(f"The run {self.current.name} is still being trained", "Stop it or wait for its end")
            run = make_run()
            self._job.start(run, work)
            return run
