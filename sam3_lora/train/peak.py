"""The most memory that was used while something went on."""

from __future__ import annotations

import threading

import psutil
import torch

_INTERVAL_S = 0.005


class PeakMemory:
    """A context whose ``bytes`` afterwards are the peak: exact on a CUDA GPU, sampled elsewhere.

    Without a GPU it is the resident memory of this process, looked at every few milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._look()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is None:
            torch.cuda.synchronize(self._device)
            self.bytes = torch.cuda.max_memory_allocated(self._device)
            return
        self._over.set()
        self._watcher.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)
