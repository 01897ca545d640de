"""Run folders in the contract's format, written through RunWriter as training writes them."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from sam3_lora.config import RunConfig
from sam3_lora.runs.run import Run, RunWriter


def create_run(runs: Path, name: str = "run", **settings: Any) -> Run:
    return Run.create(RunConfig().with_settings({"output.runs": str(runs), "output.name": name, **settings}))


def write_steps(writer: RunWriter, first: int, last: int, total_steps: int) -> None:
    """Appends steps with falling losses and a validation after the last, and tells the status."""
    writer.update(force=True, state="running", epoch=1, epochs=2, total_steps=total_steps, device="cpu")
    for step in range(first, last + 1):
        terms = {
            name: weight * (0.2 + math.exp(-step / 50))
            for name, weight in {
                "loss_mask": 60.0,
                "loss_dice": 8.0,
                "loss_bbox": 5.0,
                "loss_giou": 2.0,
                "loss_ce": 4.0,
                "presence_loss": 3.0,
                "loss_bbox_aux_0": 6.0,
                "loss_giou_aux_0": 2.5,
                "loss_ce_o2m": 7.0,
                "loss_mask_o2m": 90.0,
            }.items()
        }
        total = sum(terms.values())
        raw = {name: value / 10 for name, value in terms.items()}
        speed = {"images_per_second": 2.5, "memory_bytes": 2**30}
        writer.row(kind="step", step=step, epoch=1, total=total, terms=terms, raw=raw, lr=3e-4, grad_norm=1.0, **speed)
        writer.update(step=step, eta_seconds=float(total_steps - step), **speed)
    writer.row(kind="validation", step=last, epoch=1, total=total, terms=terms, raw=raw, f1_50=0.5, cgf1=0.375)
    writer.update(force=True, best_validation_loss=total, best_by="cgf1", best_value=0.375, best_step=last)


def write_adapter(run: Run, name: str) -> Path:
    """The file that says an adapter is there; nothing can be loaded from it."""
    folder = run.folder / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "demo"}))
    return folder


def finished_run(runs: Path, name: str = "finished", steps: int = 40) -> Run:
    run = create_run(runs, name)
    with run.writing() as writer:
        write_steps(writer, 1, steps, steps)
        write_adapter(run, "best")
        writer.log(f"Finished after {steps} steps.")
        writer.update(force=True, state="finished", eta_seconds=None)
    return run


def failed_run(runs: Path, error: Exception, name: str = "failed") -> Run:
    run = create_run(runs, name)
    with contextlib.suppress(type(error)), run.writing() as writer:
        write_steps(writer, 1, 3, 40)
        raise error
    return run
