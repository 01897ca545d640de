"""Ctrl-C, SIGTERM or a closed terminal: background jobs end, and a run is saved, before the server does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui.background_job import active_jobs
from sam3_lora.ui.resources import get_train_job

# A step at full size takes seconds on a GPU and a minute or two on a CPU, a checkpoint some seconds more. What takes
# longer, such as an evaluation after an epoch, is cut off: a run is then resumed from its last checkpoint.
MAX_WAIT_S = 180.0
_POLL_S = 0.2
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # some systems lack some


@asynccontextmanager
async def jobs_end_first() -> AsyncIterator[None]:
    """For the server's lifespan: whatever ends the server waits for the background jobs."""
    _SignalHandlers(asyncio.get_running_loop()).install()
    yield
    await end_jobs()


async def end_jobs(exit_code: int = 1) -> None:
    """Asks all background jobs to end, and waits until they have.

    Args:
        exit_code: with which this process ends at once if that takes longer than MAX_WAIT_S. A regular end would tear
            the threads out of PyTorch, which aborts.
    """
    deadline, told = time.monotonic() + MAX_WAIT_S, False
    while jobs := active_jobs():
        names = " and ".join(f"the {job.name}" for job in jobs)
        if not told:
            _say(
                f"Waiting for the end of {names}, at most {MAX_WAIT_S:.0f} s; a run is saved first. "
                "Press Ctrl-C again to end at once."
            )
            told = True
        for job in jobs:
            with suppress(Sam3LoraError):  # a disk that cannot be written: the deadline ends it
                job.cancel()
        if time.monotonic() > deadline:
            _say(f"Ended without {names}: that took too long.")
            os._exit(exit_code)
        await asyncio.sleep(_POLL_S)


class _SignalHandlers:
    """Handlers around those of the server, which get a signal after the jobs have ended.

    Args:
        loop: of the server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._servers: dict[int, Any] = {}
        self._ending: asyncio.Task[None] | None = None
        self._received = False

    def install(self) -> None:
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets SIGHUP
                self._servers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            os._exit(128 + number)
        self._received = True
        # The signal may have interrupted anything, such as a print: the event loop does it a moment later.
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._ending = self._loop.create_task(self._end(number))

    async def _end(self, number: int) -> None:
        await end_jobs(128 + number)
        if (run := get_train_job().current) is not None:
            _say(f"The run {run.name} goes on in a process of its own; the Train page shows it again.")
        server: Any = getattr(self._servers[number], "__self__", None)
        if hasattr(server, "should_exit"):
            # uvicorn's handler would raise the signal again in the end, and Streamlit answer it with "Aborted!".
            server.should_exit = True
        else:
            signal.signal(number, self._servers[number])
            signal.raise_signal(number)


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal was closed
        print(f"  {line}", file=sys.stderr, flush=True)
