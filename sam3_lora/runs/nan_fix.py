"""What to do once a loss or a gradient is no number any more; the run cannot go on with its own settings."""

from __future__ import annotations

from collections.abc import Iterable

from sam3_lora.config import RunConfig


def nan_fix(config: RunConfig, images: Iterable[str] = ()) -> str:
    """The fix as a sentence without its full stop. images: file names of the batch."""
    precision = " and training.precision bf16" if config.training.precision == "fp16" else ""
    at_fault = ", ".join(images)
    look = f"; look at {at_fault} on the dataset page" if at_fault else ""
    return (
        f"Start a new run with a lower training.learning_rate{precision}{look}. If this run has saved an adapter, "
        "'Train on from it' under Adapters (or model.adapter) lets the new run go on from there"
    )
