"""The processes that load images beside the one that trains: how they start, end with it, and are missed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext

from sam3_lora.errors import TrainingError

SPAWN: BaseContext = get_context("spawn")
if sys.platform != "win32":
    from multiprocessing import popen_spawn_posix
    from multiprocessing.context import SpawnContext, SpawnProcess
    from multiprocessing.process import BaseProcess

    class _Popen(popen_spawn_posix.Popen):
        """Leaves the reading end of the pipe that a new process gets its data from to that process alone.

        While this process holds it as well, writing waits for ever where the new one has died before it has read all.
        """

        @property
        def sentinel(self) -> int:
            return self._alive

        @sentinel.setter
        def sentinel(self, descriptor: int) -> None:  # set when the process has started, before its data is written
            self._alive = descriptor
            reading, _ = self._fds[-2:]  # type: ignore[attr-defined]
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, reading, inheritable=False)
            os.close(nothing)

    class _Process(SpawnProcess):
        @staticmethod
        def _Popen(process: BaseProcess) -> _Popen:
            return _Popen(process)

    class _Context(SpawnContext):
        Process = _Process

    SPAWN = _Context()


def end_with_parent() -> None:
    """Ends this process, which multiprocessing has started, as soon as the one that started it has: a killed one too.

    torch's own watch asks every few seconds whether the parent is another than at first, which it is not if it died
    while this process was starting: such a worker would wait for ever.
    """
    parent = parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="end-with-parent", daemon=True).start()


@contextmanager
def explain_lost_workers() -> Iterator[None]:
    """Turns what is raised for a worker process that has ended into a TrainingError with the fix."""
    try:
        yield
    except BrokenPipeError as error:
        raise TrainingError(
            "A process that loads images ended while it was started",
            "In a script, train below the line 'if __name__ == \"__main__\":'; otherwise free memory, or set "
            "data.num_workers to 0",
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            "A process that loads images has ended; a system that is short of memory may have killed it",
            "Resume the run from its last checkpoint; if it happens again, lower data.num_workers, or set it to 0",
        ) from error
