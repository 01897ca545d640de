"""Which adapter can be repaired, and where the repaired one is kept; loads no model."""

from __future__ import annotations

from pathlib import Path

from sam3_lora.errors import RunError
from sam3_lora.evaluate.store import run_of
from sam3_lora.model.adapter_files.find_adapter import REFUSAL
from sam3_lora.runs.run import Run


def refusal_folder(adapter: Path) -> Path:
    """Where the adapter of a run is kept once it is repaired."""
    return adapter.parent / REFUSAL


def run_to_repair(adapter: Path) -> Run:
    """The run of an adapter that can be repaired.

    Args:
        adapter: its folder.

    Raises:
        RunError: it is in no run, is repaired already, or its run is being trained.
    """
    run = run_of(adapter)
    if run is None:
        raise RunError(
            f"Expected an adapter of a run, whose dataset is known, but {adapter} is in none",
            "Give a run, such as runs/RUN, or an adapter in it",
        )
    if adapter.name == REFUSAL:
        raise RunError(
            f"The adapter {adapter} is repaired already", "Repair the one that it was made of, such as adapters/best"
        )
    if run.status().active:
        raise RunError(f"The run {run.name} is being trained", "Stop it or wait for its end, then repair its adapter")
    return run
