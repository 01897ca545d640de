"""What people ask of a run while it is trained: one small file per request, so that any process can ask."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from sam3_lora.errors import RunError

Request = Literal["stop", "discard", "pause", "continue", "validate", "sample", "save"]
REQUESTS: tuple[str, ...] = get_args(Request)
# Asked once, answered once; the others stand until the run ends or "continue" is asked.
ONE_SHOT_REQUESTS = frozenset({"validate", "sample", "save"})


class Requests:
    """The requests that stand in a run's folder. Asking twice is asking once."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / "requests"

    def ask(self, what: Request) -> None:
        """Leaves a request; "continue" takes "pause" back. Raises RunError if it cannot be written."""
        if what not in REQUESTS:
            raise RunError(f"A run knows no request '{what}'", f"Ask for one of {', '.join(REQUESTS)}")
        if what == "continue":
            self.take("pause")
            return
        try:
            self._folder.mkdir(exist_ok=True)
            (self._folder / what).touch()
        except OSError as error:
            raise RunError(
                f"The request to {what} cannot be left in {self._folder}: {error.strerror or error}",
                "Make the run's folder writable, or free some space",
            ) from None

    def pending(self) -> frozenset[str]:
        """What has been asked and not been answered yet."""
        try:
            return frozenset(path.name for path in self._folder.iterdir() if path.name in REQUESTS)
        except OSError:  # nothing was ever asked
            return frozenset()

    def take(self, what: str) -> None:
        """Removes a request, answered or taken back."""
        (self._folder / what).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all requests: they were meant for a process that is gone."""
        for what in self.pending():
            self.take(what)
