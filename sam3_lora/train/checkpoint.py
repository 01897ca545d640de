"""Checkpoints: all that is needed to resume a run with the same steps as if it had never stopped.

accelerate's ``save_state`` is not used: it writes the whole base model and several files that are not replaced as one,
so the adapter, the fallback to an older checkpoint and the progress would need this code beside it; its
``skip_first_batches`` would load and drop batches that :class:`sam3_lora.train.data_loaders.TrainLoader` never loads.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam3_lora.errors import RunError, cause, first_line
from sam3_lora.files import atomic_file, open_regular
from sam3_lora.runs.run import Run
from sam3_lora.train.setup import Setup


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # finished ones
    steps_in_epoch: int = 0
    step: int = 0  # taken in all
    best_loss: float | None = None  # lowest validation loss
    best_step: int | None = None
    stale_epochs: int = 0  # since best_step
    skipped: int = 0  # steps whose batch did not fit into memory


def save_checkpoint(run: Run, setup: Setup, progress: Progress) -> None:
    """Writes a checkpoint, whole or not at all, and deletes the oldest. Every process calls it.

    Args:
        run: checkpoints go into its folder.
        setup: what is saved of it: adapter, optimizer, schedule, scaler, random states of all processes.
        progress: how far the run has come.

    Raises:
        RunError: it cannot be written; the earlier ones stay as they were.
    """
    from accelerate.utils import gather_object

    randoms = gather_object([random_state()])
    if not setup.accelerator.is_main_process:
        return
    path = run.folder / "checkpoints" / f"step-{progress.step:08d}.pt"
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_file(path, sync=True) as file:
            torch.save(_state(setup, progress, randoms), file)
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        raise RunError(
            f"The checkpoint after step {progress.step} cannot be written to {path.parent}: {_reason(error)}",
            "Free some space, then resume the run; its last checkpoint and its adapters are as they were",
        ) from error
    for old in run.checkpoints()[setup.config.training.keep_checkpoints :]:
        old.unlink(missing_ok=True)


def load_checkpoint(run: Run, setup: Setup, log: Callable[[str], None]) -> tuple[Progress, dict[str, str]]:
    """Restores adapter, optimizer, schedule and random states from the newest checkpoint that can be read.

    Args:
        run: whose checkpoints.
        setup: what is restored, in place.
        log: gets a line for each newer one that is damaged.

    Returns:
        How far the run had come, and the dataset's fingerprint then.

    Raises:
        RunError: there is none, all are damaged, or they are of a run with other settings.
    """
    unusable: RunError | None = None
    for path in run.checkpoints():
        try:
            with open_regular(path) as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # of a damaged file torch raises errors of its zip reader, its unpickler and more
            log(f"The checkpoint {path.name} is damaged ({_reason(error)}); the one before it is used.")
            continue
        try:
            return _restore(state, setup, path)
        except RunError as error:  # the one before it may be sound
            log(f"{error.message}.")
            unusable = unusable or error
    if unusable is not None:
        raise unusable
    raise RunError(
        f"Expected a checkpoint in {run.folder / 'checkpoints'}, but there is none that can be read",
        "Start a new run instead; with model.adapter it continues from this run's last adapter",
    )


def _restore(state: dict[str, Any], setup: Setup, path: Path) -> tuple[Progress, dict[str, str]]:
    try:
        progress, fingerprint = Progress(**state["progress"]), dict(state["fingerprint"])
        trainable = _trainable(setup)
        shapes = {name: parameter.shape for name, parameter in trainable.items()}
        if shapes != {name: tensor.shape for name, tensor in state["adapter"].items()}:
            raise ValueError("its adapter has other layers or another rank")
        for name, parameter in trainable.items():
            parameter.data.copy_(state["adapter"][name])
        setup.optimizer.load_state_dict(state["optimizer"])
        setup.scheduler.load_state_dict(state["scheduler"])
        if setup.accelerator.scaler is not None and state["scaler"] is not None:
            setup.accelerator.scaler.load_state_dict(state["scaler"])
        # Resumed with more processes than before, the new ones begin with the seed's random state.
        if setup.accelerator.process_index < len(state["random"]):
            restore_random(state["random"][setup.accelerator.process_index])
        return progress, fingerprint
    except Exception as error:
        raise RunError(
            f"The checkpoint {path.name} cannot be used ({type(error).__name__}: {error})",
            "Its run's config.yaml was changed, or it is of another version; start a new run",
        ) from error


def _state(setup: Setup, progress: Progress, randoms: list[dict[str, Any]]) -> dict[str, Any]:
    scaler = setup.accelerator.scaler
    return {
        "progress": asdict(progress),
        "adapter": {name: parameter.detach().cpu() for name, parameter in _trainable(setup).items()},
        "optimizer": setup.optimizer.state_dict(),
        "scheduler": setup.scheduler.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "random": randoms,  # one per process
        "fingerprint": setup.data.fingerprint,
    }


def _trainable(setup: Setup) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in setup.model.peft.named_parameters() if parameter.requires_grad}


def _reason(error: Exception) -> str:
    """The operating system's reason where it gave one, else the first line of the error."""
    refused = cause(error, OSError)
    return refused.strerror if refused and refused.strerror else first_line(error)


def random_state() -> dict[str, Any]:
    """The states of all random number generators of this process."""
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (np.asarray(keys).tolist(), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Sets all generators to a :func:`random_state`."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
