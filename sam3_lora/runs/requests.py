"""Users' requests to a run that is being trained: one small file per request, so that any process can leave one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from sam3_lora.errors import RunError, explain_os_errors

Request = Literal["stop", "close", "discard", "pause", "continue", "validate", "sample", "save"]
REQUESTS: tuple[Request, ...] = get_args(Request)
# Carried out once and removed; the others stay until the run ends or "continue" is requested.
ONE_SHOT_REQUESTS: frozenset[Request] = frozenset({"validate", "sample", "save"})
ENDINGS: frozenset[Request] = frozenset({"stop", "close", "discard"})
_FIX = "Make the run's folder writable, or free some space"


class Requests:
    """The pending requests in a run's folder. Requesting twice is requesting once."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / "requests"

    def add(self, request: Request) -> None:
        """Leaves a request for the process that trains the run, which carries it out after the current step.

        Args:
            request: "stop": save and end. "close": the same, because the app or the process was told to end.
                "discard": end and delete the run. "pause", "continue": the model stays in memory. "validate",
                "sample", "save": now, once.

        Raises:
            RunError: it is unknown or cannot be written.
        """
        if request not in REQUESTS:
            raise RunError(f"Unknown request '{request}'", f"Use one of {', '.join(REQUESTS)}")
        if request == "continue":
            self.remove("pause")
            return
        with explain_os_errors(RunError, f"The request to {request} cannot be written to {self._folder}", _FIX):
            self._folder.mkdir(exist_ok=True)
            (self._folder / request).touch()

    def pending(self) -> frozenset[Request]:
        """The requests that were not carried out yet."""
        try:
            names = {path.name for path in self._folder.iterdir()}
        except OSError:  # there never was a request
            return frozenset()
        return frozenset(request for request in REQUESTS if request in names)

    def remove(self, request: Request) -> None:
        """Removes a request that was carried out or withdrawn. Raises RunError if it cannot be removed."""
        with explain_os_errors(RunError, f"The request to {request} cannot be removed from {self._folder}", _FIX):
            (self._folder / request).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all requests: they were meant for a process that has ended."""
        for request in self.pending():
            self.remove(request)
