"""Background jobs: work in a thread of its own, which every browser tab watches through immutable snapshots."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from sam3_lora.errors import Cancelled, Sam3LoraError
from sam3_lora.ui.resources import log_unexpected

Request = TypeVar("Request")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Snapshot(Generic[Request, Result]):
    """The state of a job at one moment."""

    state: Literal["idle", "running", "stopping", "done", "cancelled", "failed"] = "idle"
    request: Request | None = None  # what the job was started with; None only before the first start
    share: float = 0.0  # done, in [0, 1]
    text: str = ""  # what is being done
    result: Result | None = None  # complete when done; partial before that, if the work reports partial results
    error: str = ""  # why the job failed, in words

    @property
    def active(self) -> bool:
        """Whether the job's thread is at work."""
        return self.state in ("running", "stopping")


_jobs: weakref.WeakSet[BackgroundJob[Any, Any]] = weakref.WeakSet()


def active_jobs() -> list[BackgroundJob[Any, Any]]:
    """The jobs of this process that are at work."""
    return [job for job in list(_jobs) if job.snapshot().active]


class BackgroundJob(Generic[Request, Result]):
    """Runs one piece of work at a time in a daemon thread; the last result stays until the next start.

    Every method may be called from any thread.

    Args:
        name: of the thread, and of the work in the message about an unexpected error.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._snapshot: Snapshot[Request, Result] = Snapshot()
        self._thread: threading.Thread | None = None
        self._on_cancel: Callable[[], None] | None = None
        _jobs.add(self)

    def snapshot(self) -> Snapshot[Request, Result]:
        """The state now."""
        with self._lock:
            return self._snapshot

    def start(self, request: Request, work: Callable[[], Result], on_cancel: Callable[[], None] | None = None) -> bool:
        """Starts in the background.

        Args:
            request: kept in the snapshots; nothing that takes much memory.
            work: returns the result. It may call :meth:`report`, :meth:`report_or_end` and :meth:`is_cancelled`, and
                raise Cancelled.
            on_cancel: called by :meth:`cancel`, for work that looks elsewhere for whether it should end.

        Returns:
            False, with nothing done, while the job is active.
        """
        with self._lock:
            if self._snapshot.active:
                return False
            self._snapshot = Snapshot("running", request, text="Starting")
            self._on_cancel = on_cancel
            # A daemon: closing the app does not wait for hours of work, see sam3_lora/ui/shutdown.py.
            self._thread = threading.Thread(target=self._run, args=(work,), name=self.name, daemon=True)
            self._thread.start()
            return True

    def cancel(self) -> None:
        """Asks the work to end soon; nothing happens unless the job is active."""
        with self._lock:
            if not self._snapshot.active:
                return
            self._snapshot = replace(self._snapshot, state="stopping")
            ask = self._on_cancel
        if ask is not None:
            ask()

    def is_cancelled(self) -> bool:
        """Whether the work should end."""
        return self.snapshot().state == "stopping"

    def report(self, share: float, text: str, result: Result | None = None) -> None:
        """Updates the progress, for the work.

        Args:
            share: done, in [0, 1].
            text: what is being done.
            result: a partial result; None keeps the one before.
        """
        with self._lock:
            partial = self._snapshot.result if result is None else result
            self._snapshot = replace(self._snapshot, share=share, text=text, result=partial)

    def report_or_end(self, share: float, text: str) -> None:
        """As :meth:`report`, but raises Cancelled once the work should end."""
        if self.is_cancelled():
            raise Cancelled
        self.report(share, text)

    def forget(self) -> None:
        """Drops the last result; nothing happens while the job is active."""
        with self._lock:
            if not self._snapshot.active:
                self._snapshot = Snapshot()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, at most so many seconds; True if the job is not active any more."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.snapshot().active

    def _run(self, work: Callable[[], Result]) -> None:
        ended: dict = {"state": "done", "share": 1.0, "text": "Done"}
        try:
            ended["result"] = work()
        except Cancelled:
            ended = {"state": "cancelled"}
        except Sam3LoraError as error:
            ended = {"state": "failed", "error": str(error)}
        except Exception:  # a thread's last resort: people get a sentence, the log gets the traceback
            where = log_unexpected(f"The {self.name} failed")
            ended = {"state": "failed", "error": f"The {self.name} failed unexpectedly. The details are in {where}."}
        if "torch" in sys.modules:  # otherwise there is nothing to free, and importing it takes seconds
            from sam3_lora.train.memory import free_unused

            free_unused()
        with self._lock:
            self._snapshot = replace(self._snapshot, **ended)
