"""Checkpoints: all that is needed to go on with a run as if it had never stopped."""

from __future__ import annotations

import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam3_lora.errors import RunError
from sam3_lora.train.run import Run
from sam3_lora.train.setup import Setup


@dataclass
class Progress:
    """How far a run has come: epochs finished, steps taken in the current one and in all."""

    epoch: int = 0
    steps_in_epoch: int = 0
    step: int = 0
    best_loss: float | None = None


def save_checkpoint(run: Run, setup: Setup, progress: Progress) -> None:
    """Writes adapters/last and checkpoint/, each to the side first and renamed when complete."""
    setup.save_adapter(run.folder / "adapters" / "last")
    if not setup.accelerator.is_main_process:
        return
    partial = run.folder / "checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.save(_state(setup, progress), partial / "state.pt")
    # At every moment one whole checkpoint is in place, under one of the two names.
    newest, replaced = run.folder / "checkpoint", run.folder / "checkpoint.replaced"
    if newest.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        newest.rename(replaced)
    partial.rename(newest)
    shutil.rmtree(replaced, ignore_errors=True)


def load_checkpoint(folder: Path, setup: Setup) -> Progress:
    """Puts adapter, optimizer, schedule and random states back.

    Raises:
        RunError: the checkpoint is missing, damaged, or of a run with other settings.
    """
    path = folder / "state.pt"
    if not path.is_file():
        raise RunError(f"Expected a checkpoint at {folder}, but there is none", "Start a new run instead of resuming")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        trainable = dict(_trainable(setup))
        shapes = {name: parameter.shape for name, parameter in trainable.items()}
        if shapes != {name: tensor.shape for name, tensor in state["adapter"].items()}:
            raise ValueError("its adapter has other layers or another rank")
        for name, parameter in trainable.items():
            parameter.data.copy_(state["adapter"][name])
        setup.optimizer.load_state_dict(state["optimizer"])
        setup.scheduler.load_state_dict(state["scheduler"])
        if setup.accelerator.scaler is not None and state["scaler"] is not None:
            setup.accelerator.scaler.load_state_dict(state["scaler"])
        _restore_random(state["random"])
        return Progress(**state["progress"])
    except Exception as error:
        raise RunError(
            f"The checkpoint at {folder} cannot be used ({type(error).__name__}: {error})",
            "It is damaged or its run's config.yaml was changed; start a new run",
        ) from error


def _state(setup: Setup, progress: Progress) -> dict[str, Any]:
    scaler = setup.accelerator.scaler
    return {
        "progress": asdict(progress),
        "adapter": {name: parameter.detach().cpu() for name, parameter in _trainable(setup)},
        "optimizer": setup.optimizer.state_dict(),
        "scheduler": setup.scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "random": _random_state(),
    }


def _trainable(setup: Setup) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in setup.peft_model.named_parameters() if parameter.requires_grad]


def _random_state() -> dict[str, Any]:
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (keys.tolist(), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random(state: dict[str, Any]) -> None:
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
