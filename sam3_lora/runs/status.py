"""Where a run stands: the small file status.json, replaced as a whole so that no reader sees half of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

State = Literal["preparing", "running", "paused", "stopping", "stopped", "finished", "failed", "crashed"]
ACTIVE_STATES = ("preparing", "running", "paused", "stopping")
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Moment = Annotated[float, Field(ge=0, le=1e10)]
_Count = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class Status:
    """Where a run stands. Times are unix seconds; steps and epochs count from 1, 0 means none done yet.

    message: why it failed, crashed or finished early; skipped_steps: those that did not fit into memory;
    reload_proof: "ok" once the saved adapter, loaded afresh, has given the same detections, else what
    differs; empty before. trained_seconds: how long processes have held the run, without pauses and without the
    time between processes.
    """

    state: State = "preparing"
    message: str = ""
    step: _Count = 0
    total_steps: _Count = 0
    epoch: _Count = 0
    epochs: _Count = 0
    started: _Moment = 0.0
    updated: _Moment = 0.0
    trained_seconds: Annotated[float, Field(ge=0, le=1e10)] = 0.0
    best_validation_loss: _Finite | None = None
    best_step: _Count | None = None
    images_per_second: _Finite | None = None
    eta_seconds: _Finite | None = None
    memory_bytes: _Count | None = None
    device: str = ""
    skipped_steps: _Count = 0
    reload_proof: str = ""
    pid: int = 0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES


_STATUS = TypeAdapter(Status)  # checks the types: the file may have been damaged


def read_status(path: Path) -> Status | None:
    """The status in a file; None if it is missing or damaged."""
    try:
        return _STATUS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_status(path: Path, status: Status) -> None:
    """Writes to the side and renames. Raises OSError."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(asdict(status), indent=1), encoding="utf-8")
    partial.replace(path)
