"""Checkpoints: all that is needed to resume a run with the same steps as if it had never stopped.

accelerate's ``save_state`` is not used: it writes the whole base model and several files that are not replaced as one,
so the adapter, the fallback to an older checkpoint and the progress would need this code beside it; its
``skip_first_batches`` would load and drop batches that :class:`sam3_lora.train.data_loaders.TrainLoader` never loads.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from sam3_lora.config import BestBy
from sam3_lora.data.worker_processes import explain_lost_workers
from sam3_lora.errors import RunError, cause, first_line
from sam3_lora.files import atomic_file, open_regular
from sam3_lora.runs.run import Run
from sam3_lora.train.setup import Setup

# A checkpoint begins with this and the digest of what follows, which torch has written. Files of earlier versions
# begin as every file of torch does, in which a changed byte is found by chance only.
_MAGIC, _MAGIC_OF_TORCH = b"SAM3LoRA", b"PK\x03\x04"
_DIGEST = "sha256"
_DIGEST_BYTES = hashlib.new(_DIGEST).digest_size


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0  # finished ones
    steps_in_epoch: int = 0
    step: int = 0  # taken in all
    best_loss: float | None = None  # lowest validation loss, whatever the best adapter is the best by
    best_by: BestBy = "loss"  # what the best adapter is the best by; checkpoints of earlier versions know no other
    best_value: float | None = None  # of the best adapter, by best_by
    best_value_loss: float | None = None  # its validation loss
    best_step: int | None = None
    stale_epochs: int = 0  # since best_step
    skipped: int = 0  # steps whose batch did not fit into memory
    evaluated_step: int | None = None  # after which the evaluation of an epoch's end was made last

    def __post_init__(self) -> None:
        if self.best_by == "loss" and self.best_value is None:
            self.best_value = self.best_value_loss = self.best_loss

    def choose_by(self, by: BestBy) -> bool:
        """Compares by a number from now on; whether there is a best adapter by another one, which is forgotten."""
        forgotten = self.best_by != by and self.best_value is not None
        if self.best_by != by:
            self.best_by, self.stale_epochs = by, 0
            self.best_value = self.best_value_loss = self.best_step = None
        return forgotten

    def is_best(self, value: float | None, loss: float) -> bool:
        """Takes a validation into account; whether its adapter is the best so far.

        Of equal numbers the lower loss decides: an F1 stays 0 until the first score is above 0.5.

        Args:
            value: the number by which adapters are compared; None where it is not defined, which is never the best.
            loss: of the validation.
        """
        self.best_loss = loss if self.best_loss is None else min(loss, self.best_loss)
        if value is None:
            return False
        if self.best_value is not None and self.best_value_loss is not None:
            ahead = self.best_value - value if self.best_by == "loss" else value - self.best_value
            if ahead < 0 or (ahead == 0 and loss >= self.best_value_loss):
                return False
        self.best_value, self.best_value_loss, self.best_step = value, loss, self.step
        return True

    def best_columns(self) -> dict[str, Any]:
        """What the run's status says of the best adapter."""
        return {
            "best_validation_loss": self.best_loss,
            "best_by": self.best_by,
            "best_value": self.best_value,
            "best_step": self.best_step,
        }


@dataclass(frozen=True)
class Restored:
    """What a checkpoint says besides the weights and states that it restores."""

    progress: Progress
    fingerprint: dict[str, str]  # of the dataset then
    passed_over: tuple[str, ...] = ()  # a sentence about each newer checkpoint that could not be used


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
        # The end of a process that loads images is an error wherever this one is.
        with explain_lost_workers(), atomic_file(path, sync=True) as file:
            _write(file, _state(setup, progress, randoms))
        # Newer ones can only be of before a resume that could not use them.
        usable = [each for each in run.checkpoints() if each.name <= path.name]
        for old in set(run.checkpoints()).difference(usable[: setup.config.training.keep_checkpoints]):
            old.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        if cause(error, KeyboardInterrupt):  # and one of a second Ctrl-C while it writes
            raise KeyboardInterrupt from error
        raise RunError(
            f"The checkpoint after step {progress.step} cannot be written to {path.parent}: {_reason(error)}",
            "Free some space, then resume the run; its last checkpoint and its adapters are as they were",
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, checked against the digest in it.

    Raises:
        ValueError: a byte of it has changed, or it is none.
        Exception: of a damaged file of an earlier version torch raises errors of its zip reader, its unpickler and
            more.
    """
    with open_regular(path) as file:
        magic = file.read(len(_MAGIC))
        if magic == _MAGIC:
            digest = file.read(_DIGEST_BYTES)
            if hashlib.file_digest(file, _DIGEST).digest() != digest:
                raise ValueError("its content does not match its digest")
            file.seek(len(_MAGIC) + _DIGEST_BYTES)
        elif magic.startswith(_MAGIC_OF_TORCH):
            file.seek(0)
        else:
            raise ValueError("it does not begin as a checkpoint does")
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state


def _write(file: BinaryIO, state: dict[str, Any]) -> None:
    hashed = _Hashed(file)
    file.write(_MAGIC + bytes(_DIGEST_BYTES))
    torch.save(state, hashed)  # type: ignore[arg-type]  # torch calls write() only
    file.seek(len(_MAGIC))
    file.write(hashed.digest.digest())


class _Hashed:
    """A file to write, with the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.new(_DIGEST)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def load_checkpoint(run: Run, setup: Setup, log: Callable[[str], None]) -> Restored:
    """Restores adapter, optimizer, schedule and random states from the newest checkpoint that is sound.

    Args:
        run: whose checkpoints.
        setup: what is restored, in place.
        log: gets a line for each newer one that is damaged, should none be sound.

    Returns:
        How far the run had come, the dataset's fingerprint then, and which newer checkpoints were passed over.

    Raises:
        RunError: there is none, all are damaged, or they are of a run with other settings.
    """
    unusable: RunError | None = None
    passed_over: list[str] = []
    for path in run.checkpoints():
        try:
            state = read_checkpoint(path)
        except Exception as error:  # see read_checkpoint
            passed_over.append(f"The checkpoint {path.name} is damaged ({_reason(error)}).")
            continue
        try:
            return replace(_restore(state, setup, path), passed_over=tuple(passed_over))
        except RunError as error:  # the one before it may be sound
            passed_over.append(f"{error.message}.")
            unusable = unusable or error
    for sentence in passed_over:
        log(sentence)
    if unusable is not None:
        raise unusable
    raise RunError(
        f"Expected a checkpoint in {run.folder / 'checkpoints'}, but there is none that can be read",
        "Start a new run instead; with model.adapter it continues from this run's last adapter",
    )


def _restore(state: dict[str, Any], setup: Setup, path: Path) -> Restored:
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
        return Restored(progress, fingerprint)
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
