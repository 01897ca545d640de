"""The background thread around preflight(): one check at a time, whose result stays for those who ask later."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError

if TYPE_CHECKING:
    from sam3_lora.train.preflight.preflight import Preflight

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """How far the check of a configuration has come.

    share: done, in [0, 1]; doing: what is being done, in words; result: None until it is over; failure: what
    kept it from coming to an end, empty otherwise; cancelling: it was asked to end, and does after what it is
    doing; cancelled: it has.
    """

    config: RunConfig
    share: float = 0.0
    doing: str = "Starting"
    result: Preflight | None = None
    failure: str = ""
    cancelling: bool = False
    cancelled: bool = False

    @property
    def is_over(self) -> bool:
        return self.result is not None or bool(self.failure) or self.cancelled


class _Cancelled(Exception):
    """The check was asked to end."""


class Checks:
    """The check of this process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: Check | None = None

    @property
    def latest(self) -> Check | None:
        """The check that is going on, or the last one; None before the first."""
        return self._latest

    @property
    def is_busy(self) -> bool:
        return self._latest is not None and not self._latest.is_over

    def start(self, config: RunConfig) -> None:
        """Checks a configuration in the background. Raises RunError while another check goes on."""
        with self._lock:
            if self.is_busy:
                raise RunError("Another check is in progress", "Wait for its end, or cancel it")
            self._latest = Check(config)
        threading.Thread(target=self._work, args=(config,), name="check", daemon=True).start()

    def cancel(self) -> None:
        """Asks the check to end after what it is doing; nothing where none goes on."""
        with self._lock:
            if self.is_busy:
                self._latest = replace(self._latest, cancelling=True)

    def forget(self) -> None:
        """Drops the last result; nothing while a check goes on."""
        with self._lock:
            if not self.is_busy:
                self._latest = None

    def _work(self, config: RunConfig) -> None:
        def tell(share: float, what: str) -> None:
            with self._lock:
                if self._latest.cancelling:
                    raise _Cancelled
                self._latest = Check(config, share, what)

        try:
            from sam3_lora.train.preflight.preflight import (
                preflight,  # transformers, peft and accelerate: only when needed
            )

            end = Check(config, 1.0, "Done", preflight(config, tell))
        except _Cancelled:
            end = Check(config, cancelled=True)
        except Exception as error:  # what a user can mend is among the result's problems
            _log.exception("The check failed")
            end = Check(config, failure=f"{type(error).__name__}: {error}")
        with self._lock:
            self._latest = end
