"""What people ask of a run while it is trained, the same answer in every process that trains it."""

from __future__ import annotations

from typing import Any

import torch

from sam3_lora.runs.requests import REQUESTS
from sam3_lora.runs.run import Run

ENDINGS = frozenset({"stop", "discard"})


class Control:
    """Reads the requests in the main process and tells the others; each process must ask equally often."""

    def __init__(self, run: Run, accelerator: Any) -> None:
        self._run = run
        self._accelerator = accelerator

    def asked(self) -> frozenset[str]:
        """What stands to be answered now."""
        pending = self._run.requests() if self._accelerator.is_main_process else frozenset()
        if self._accelerator.num_processes == 1:
            return pending
        flags = torch.tensor([float(what in pending) for what in REQUESTS], device=self._accelerator.device)
        flags = self._accelerator.reduce(flags, reduction="sum")  # the others add zeros
        return frozenset(what for what, flag in zip(REQUESTS, flags.tolist(), strict=True) if flag)

    def done(self, what: str) -> None:
        """A request has been answered."""
        if self._accelerator.is_main_process:
            self._run.request_done(what)
