"""Chooses the values of settings that are "auto", by the device that a run is on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sam3_lora.config import AUTO, AUTO_BATCH, DEMO, RunConfig
from sam3_lora.model.precision import resolve_precision
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.auto_values import AutoValue, with_values
from sam3_lora.train.accelerator import auto_workers


def resolve(config: RunConfig, device: torch.device) -> tuple[ResolvedConfig, tuple[AutoValue, ...]]:
    """A run's settings without auto, and what was chosen; settings with a value of the user's stay as they are.

    On a CPU, and with the demo's model, these are the values with which the demo's numbers were measured: fp32, no
    checkpointing, batches of 2, no worker processes.

    Args:
        config: as the user asked for it.
        device: on which the run computes.
    """
    values = tuple(_choose(config, device))
    resolved = with_values(config, values)
    return ResolvedConfig.model_validate(resolved.model_dump()), values


def _choose(config: RunConfig, device: torch.device) -> Iterator[AutoValue]:
    if config.training.precision == AUTO:
        precision = resolve_precision(AUTO, device)
        yield AutoValue("training.precision", precision, "bf16" if precision == "bf16" else "no-bf16")
    yield from _choose_for_memory(config, device)
    if config.data.num_workers == AUTO:
        yield AutoValue("data.num_workers", auto_workers(device), "no-gpu" if device.type == "cpu" else "cores")


def _choose_for_memory(config: RunConfig, device: torch.device) -> Iterator[AutoValue]:
    """Checkpointing and batch size: with less memory, a step learns from as many images, but takes longer."""
    training = config.training
    small = config.model.base == DEMO
    if config.model.gradient_checkpointing == AUTO:
        if device.type != "cuda" or small:
            yield AutoValue("model.gradient_checkpointing", False, "demo" if small else "no-gpu")
        else:
            yield AutoValue("model.gradient_checkpointing", True, "does-not-fit")
    if training.batch_size == AUTO:
        if device.type != "cuda" or small:
            yield AutoValue("training.batch_size", AUTO_BATCH, "demo" if small else "no-gpu")
        else:
            yield AutoValue("training.batch_size", 1, "does-not-fit")
            steps = training.gradient_accumulation_steps
            yield AutoValue("training.gradient_accumulation_steps", AUTO_BATCH * steps, "same-images", asked=steps)
