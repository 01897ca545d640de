"""The requests that users leave while a run is trained, the same in every process that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sam3_lora.runs.requests import REQUESTS, Request
from sam3_lora.runs.run import Run

if TYPE_CHECKING:
    from accelerate import Accelerator

ENDINGS: frozenset[Request] = frozenset({"stop", "discard"})


class Control:
    """Reads the requests in the main process and shares them; each process must call :meth:`pending` equally often."""

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        self._run = run
        self._accelerator = accelerator

    def pending(self) -> frozenset[Request]:
        """The requests to carry out now."""
        pending = self._run.requests.pending() if self._accelerator.is_main_process else frozenset()
        if self._accelerator.num_processes == 1:
            return pending
        flags = torch.tensor([float(request in pending) for request in REQUESTS], device=self._accelerator.device)
        flags = self._accelerator.reduce(flags, reduction="sum")  # the others add zeros
        return frozenset(request for request, flag in zip(REQUESTS, flags.tolist(), strict=True) if flag)

    def done(self, request: Request) -> None:
        """Removes a request that was carried out."""
        if self._accelerator.is_main_process:
            self._run.requests.remove(request)
