"""Memory of a device: how much there is and is used, out-of-memory errors, and the settings that need less."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from sam3_lora.config import RunConfig
from sam3_lora.errors import TrainingError

MAX_BATCH = 64  # images; no larger batch is looked for
_THIS_PROCESS = psutil.Process()  # made once: making it costs more than asking it, and each step asks
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_INTERVAL_S = 0.005


def used_bytes(device: torch.device) -> int:
    """Peak memory on the GPU, or the resident memory of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _THIS_PROCESS.memory_info().rss


def total_bytes(device: torch.device) -> int:
    """What this process could use: all of the GPU, or what is free beside what it holds already."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().available + _THIS_PROCESS.memory_info().rss


def free_bytes(device: torch.device) -> int:
    """What this process could use now, beside other programs that use the GPU or the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return total_bytes(device)


class PeakMemory:
    """A context whose ``bytes`` are the peak of :func:`used_bytes` in it: exact on a CUDA GPU, sampled elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._sample()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is None:
            torch.cuda.synchronize(self._device)
        else:
            self._over.set()
            self._watcher.join()
        self._sample()

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        self.bytes = max(self.bytes, used_bytes(self._device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_unused() -> None:
    """Returns unreferenced memory to the device and to the system.

    Models end up in reference cycles: who imports PyTorch first is held by frames that it leaves behind. Python looks
    for cycles when it has made many objects since, however large they are.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # the GNU C library keeps what is freed between blocks in use: a sixth of the app's memory after a run


def smaller_settings(config: RunConfig) -> list[dict[str, Any]]:
    """Changes of settings, by dotted names, that need less memory; the mildest first. See :func:`describe_change`."""
    training = config.training
    changes: list[dict[str, Any]] = []
    if config.model.gradient_checkpointing is not True:
        changes.append({"model.gradient_checkpointing": True})
    if training.batch_size != 1:
        images = training.images_per_step
        changes.append({"training.batch_size": 1, "training.gradient_accumulation_steps": images})
    others = [name for name in config.lora.components if name != "vision_encoder"]
    if "vision_encoder" in config.lora.components and others:
        changes.append({"lora.components": others})
    if training.precision == "fp32" and torch.cuda.is_available():
        changes.append({"training.precision": "bf16"})
    return changes


def describe_change(settings: dict[str, Any]) -> str:
    """One of :func:`smaller_settings` in words, as part of a sentence."""
    if "model.gradient_checkpointing" in settings:
        return "recompute activations (gradient checkpointing)"
    if "training.batch_size" in settings:
        images = settings["training.gradient_accumulation_steps"]
        return f"batches of 1 with gradients accumulated over {images}, which gives the same steps"
    if "lora.components" in settings:
        return "keep the vision encoder frozen"
    return "compute in bf16"


def advice(config: RunConfig) -> str:
    """One sentence on what to change when memory is too small, without a full stop."""
    changes = [describe_change(settings) for settings in smaller_settings(config)]
    if not changes:
        return "Use a device with more memory, or close other programs that use it"
    return "Try, one after the other: " + "; ".join(changes)


@contextmanager
def explain_oom(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Turns an out-of-memory error inside into a TrainingError with advice."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"The memory of {device} is too small for this run", advice(config)) from error
