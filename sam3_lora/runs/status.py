"""The state of a run: the small file status.json, replaced as a whole so that no reader sees half of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sam3_lora.config import BestBy
from sam3_lora.files import MB, atomic_write, read_file
from sam3_lora.runs.metrics import BEST_BY, Count

State = Literal["preparing", "running", "paused", "stopping", "stopped", "finished", "failed", "crashed"]
ACTIVE_STATES = ("preparing", "running", "paused", "stopping")
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """How far what is computed before the first step has come."""

    # Which images are in the vision cache; the others are encoded; the base model is asked what is to be replayed.
    stage: Literal["looking", "encoding", "asking"]
    done: Count
    total: Count

    @property
    def sentence(self) -> str:
        """As it is shown, without a full stop: "Encoding images for the vision cache: 120 of 400"."""
        doing = {
            "looking": "Looking images up in the vision cache",
            "encoding": "Encoding images for the vision cache",
            "asking": "Preparing replay, with the answers of the base model",
        }[self.stage]
        return f"{doing}: {self.done:,} of {self.total:,}"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run and how far it has come. Steps and epochs count from 1; 0 means none yet."""

    state: State = "preparing"
    message: str = ""  # why it failed, crashed or finished early
    step: Count = 0
    total_steps: Count = 0
    epoch: Count = 0
    epochs: Count = 0
    started: _Seconds = 0.0  # unix seconds
    updated: _Seconds = 0.0  # unix seconds
    trained_seconds: _Seconds = 0.0  # in all processes so far, without pauses
    best_validation_loss: float | None = None  # the lowest, whatever the best adapter is the best by
    best_by: BestBy = "loss"  # what the best adapter is the best by, here and in value
    best_value: float | None = None
    best_step: Count | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    memory_bytes: Count | None = None
    device: str = ""
    skipped_steps: Count = 0  # their batches did not fit into memory
    left_out_images: Count = 0  # they could not be loaded
    reload_proof: str = ""  # of the reload check: "ok" or what differs; empty before it
    preparation: Preparation | None = None  # until the first step
    pid: int = 0
    launched: bool = False  # trained by a process that the app has started for it, see runs/launch.py
    interrupted: bool = False  # stopped because the app or its process was told to end, not by the user

    @property
    def best(self) -> float | None:
        """The number that the best adapter is the best by; None while there is no such adapter."""
        if self.best_value is None and self.best_by == "loss":  # files of earlier versions know no other
            return self.best_validation_loss
        return self.best_value

    @property
    def best_sentence(self) -> str:
        """As it is shown, without a full stop: "cgF1 0.512"; empty while there is no best adapter."""
        return "" if self.best is None else f"{BEST_BY[self.best_by]} {self.best:.3f}"

    @property
    def active(self) -> bool:
        """Whether a process is training the run."""
        return self.state in ACTIVE_STATES


def read_status(path: Path) -> Status | None:
    """The status in a file; None if it is missing, damaged or not readable."""
    try:
        return msgspec.json.decode(read_file(path, MB), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None


def write_status(path: Path, status: Status) -> None:
    """Replaces the file. Raises OSError."""
    atomic_write(path, msgspec.json.format(msgspec.json.encode(status), indent=1))
