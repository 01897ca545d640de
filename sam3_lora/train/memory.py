"""Memory: how much a device has and uses, how its lack is recognised, and what needs less of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from sam3_lora.config import RunConfig
from sam3_lora.errors import TrainingError

_THIS_PROCESS = psutil.Process()  # made once: making it costs more than asking it, and each step asks
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_unused() -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def smaller_settings(config: RunConfig) -> dict[str, dict[str, object]]:
    """What needs less memory than these settings: in words -> the settings to change; the mildest first."""
    training, changes = config.training, {}
    if not config.model.gradient_checkpointing:
        changes["recompute activations (gradient checkpointing)"] = {"model.gradient_checkpointing": True}
    if training.batch_size > 1:
        images = training.batch_size * training.gradient_accumulation_steps
        changes[f"batches of 1, accumulated {images} times: the same steps"] = {
            "training.batch_size": 1,
            "training.gradient_accumulation_steps": training.batch_size * training.gradient_accumulation_steps,
        }
    others = [name for name in config.lora.components if name != "vision_encoder"]
    if others and len(others) < len(config.lora.components):
        changes["leave the vision encoder frozen"] = {"lora.components": others}
    if training.precision == "fp32" and torch.cuda.is_available():
        changes["compute in bf16"] = {"training.precision": "bf16"}
    return changes


def advice(config: RunConfig) -> str:
    """One sentence on what to change when memory is too small."""
    ways = list(smaller_settings(config))
    if not ways:
        return "Use a device with more memory, or close other programs that use it"
    return "Try, one after the other: " + "; ".join(ways)


@contextmanager
def explain_oom(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Turns an out-of-memory error into a sentence with advice. Raises TrainingError."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"The memory of {device} is too small for this run", advice(config)) from error
