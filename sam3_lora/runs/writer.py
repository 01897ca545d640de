"""The one writer of a run's progress: metrics, log and status."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sam3_lora.errors import RunError, Sam3LoraError, explain_os_errors
from sam3_lora.files import LineFile, atomic_write
from sam3_lora.runs.status import Status, write_status

_STATUS_INTERVAL_S = 0.5
_RESERVE_BYTES = 64 * 1024


class RunWriter:
    """Appends to metrics.jsonl and log.txt and replaces status.json.

    It reserves some space, so that on a full disk the end of the run can still be written.

    Args:
        folder: the run's.
        status: the run's so far; step and best loss stay visible even if the run cannot be resumed.
        launched: whether the app has started this process for the run.

    Raises:
        OSError: the files cannot be opened.
    """

    def __init__(self, folder: Path, status: Status, *, launched: bool = False) -> None:
        self._folder = folder
        self.status = replace(
            status,
            state="preparing",
            message="",
            eta_seconds=None,
            images_per_second=None,
            preparation=None,
            pid=os.getpid(),
            launched=launched,
            interrupted=False,
        )
        self._written = 0.0
        self._counted_to = time.monotonic()
        self._metrics = LineFile(folder / "metrics.jsonl")
        self._log = LineFile(folder / "log.txt")
        atomic_write(self._reserve, bytes(_RESERVE_BYTES))
        self.update(force=True)

    def log(self, line: str) -> None:
        """Appends a line with the time. Raises RunError on a full disk, as all methods that write."""
        with _explain_write_errors(self._log.path):
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}")

    def row(self, **values: Any) -> None:
        """Appends one row to metrics.jsonl with the time; for the columns see :class:`sam3_lora.runs.metrics.Row`."""
        with _explain_write_errors(self._metrics.path):
            self._metrics.write(json.dumps({**values, "time": time.time()}))

    def note(self, step: int, about: str, message: str, **values: Any) -> None:
        """Appends something users should know to the log and, as a row of kind "note", to the metrics.

        Args:
            step: at which it happened.
            about: its kind, such as "not-finite".
            message: as a sentence.
            **values: further columns of the row.
        """
        self.log(message)
        self.row(kind="note", step=step, about=about, message=message, **values)

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Changes the status; on disk at most twice a second unless forced."""
        now, trained = time.monotonic(), self.status.trained_seconds
        if self.status.state != "paused":
            trained += now - self._counted_to
        self._counted_to = now
        self.status = replace(self.status, **changes, updated=time.time(), trained_seconds=trained)
        if force or self.status.updated - self._written >= _STATUS_INTERVAL_S:
            path = self._folder / "status.json"
            with _explain_write_errors(path):
                write_status(path, self.status)
            self._written = self.status.updated

    def fail(self, error: BaseException) -> None:
        """Sets the state "failed", after Ctrl-C "stopped"; message into the status, traceback into the log."""
        state, message = "failed", str(error)
        details = "".join(traceback.format_exception(error)).rstrip()
        if isinstance(error, KeyboardInterrupt):
            state, details = "stopped", "Interrupted by Ctrl-C."
            message = "It was interrupted without saving: the steps since the last checkpoint are lost."
        elif not isinstance(error, Sam3LoraError):
            message = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        with suppress(RunError):  # the message matters more than the details
            self.log(details)
        with suppress(RunError):  # without it, the released lock shows that the run has ended
            self.update(force=True, state=state, message=message, eta_seconds=None)

    def close(self) -> None:
        """Closes the files. Raises nothing."""
        for file in (self._metrics, self._log):
            with suppress(OSError):
                file.close()
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path:
        return self._folder / ".reserve"


class SilentWriter:
    """A writer that writes nothing, for processes other than the main one."""

    def __init__(self) -> None:
        self.status = Status()

    def log(self, line: str) -> None: ...

    def row(self, **values: Any) -> None: ...

    def note(self, step: int, about: str, message: str, **values: Any) -> None: ...

    def update(self, *, force: bool = False, **changes: Any) -> None:
        self.status = replace(self.status, **changes)


@contextmanager
def _explain_write_errors(path: str | Path) -> Iterator[None]:
    """Turns an OSError inside into a RunError with the fix."""
    fix = "Free some space or make the folder writable, then resume the run from its last checkpoint"
    with explain_os_errors(RunError, f"{path} cannot be written", fix):
        try:
            yield
        except FileNotFoundError as error:
            raise RunError(
                f"The run's folder {Path(path).parent} is gone: it was renamed, moved or deleted during training",
                "Leave it in place until the run has ended; if it has a checkpoint, it can be resumed where it is now",
            ) from error
