"""A run's folder: its configuration, metrics, log, adapters, checkpoint and status.

The folder is the truth about a run. One writer fills it; any number of readers, in this process or
in others, see what is going on by reading it.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError, Sam3LoraError

State = Literal["preparing", "running", "stopping", "stopped", "finished", "failed", "crashed"]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Moment = Annotated[float, Field(ge=0, le=1e10)]
ACTIVE_STATES = ("preparing", "running", "stopping")
_STATUS_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Status:
    """Where a run stands. Times are unix seconds; steps and epochs count from 1, 0 means none done yet."""

    state: State = "preparing"
    message: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    started: _Moment = 0.0
    updated: _Moment = 0.0
    best_validation_loss: _Finite | None = None
    images_per_second: _Finite | None = None
    eta_seconds: _Finite | None = None
    memory_bytes: int | None = None
    device: str = ""
    pid: int = 0

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES


_STATUS = TypeAdapter(Status)  # checks the types: the file may have been damaged


class Run:
    """Reads a run's folder, and hands out the right to write it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, config: RunConfig) -> Run:
        """Makes ``runs/<time>-<name>/`` with the configuration in it. Raises RunError if it cannot be written."""
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", config.output.name).strip("-.")
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}"
        root = Path(config.output.runs)
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = _make_unique(root, stem)
            (folder / "config.yaml").write_text(config.to_yaml(comments=True), encoding="utf-8")
            run = cls(folder)
            _write_json(run._status_path, asdict(Status(started=time.time(), updated=time.time(), pid=os.getpid())))
        except OSError as error:
            raise RunError(
                f"Expected a writable folder for runs at {root}, but: {error.strerror or error}",
                "Choose another folder in output.runs, or free some space",
            ) from None
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens an existing run. Raises RunError if the folder is none."""
        folder = Path(folder)
        if not os.path.isdir(folder):  # unlike Path.is_dir, never raises: the name may be too long
            raise RunError(
                f"Expected a run's folder at {folder}, but there is none", "Choose one of the folders in runs/"
            )
        if not (folder / "config.yaml").is_file():
            raise RunError(
                f"Expected a run in {folder}, but it holds no config.yaml",
                "Choose a folder that a training run has made",
            )
        return cls(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> RunConfig:
        """The run's configuration as it was started. Raises ConfigError if the file was damaged."""
        return RunConfig.load(self.folder / "config.yaml")

    def status(self) -> Status:
        """Where the run stands; an active state that no living process holds any more reads as "crashed"."""
        try:
            status = _STATUS.validate_json(self._status_path.read_bytes())
        except (OSError, ValidationError):
            return Status(state="crashed", message="The status file is missing or damaged.")
        # A run that was just made has no lock yet; after that, the lock tells at once who is gone.
        grace = 0 if (self.folder / ".lock").exists() else 5
        if status.active and not self.is_locked() and time.time() - status.updated >= grace:
            return replace(status, state="crashed", message="The process that trained this run is gone.")
        if status.state == "running" and self.stop_requested():
            return replace(status, state="stopping", message="Stopping after this step.")
        return status

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Rows of metrics.jsonl from a byte offset on, and the offset to go on from next time.

        A row of kind "resume" says from which step on earlier rows are superseded; see
        :func:`effective_rows`. A line that is still being written is left for the next call.
        """
        path = self.folder / "metrics.jsonl"
        if not path.is_file():
            return [], 0
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read()
        complete, newline, _ = block.rpartition(b"\n")
        rows = []
        for line in complete.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # half a line, left by a process that was killed
            if _is_row(row):
                rows.append(row)
        return rows, offset + len(complete) + len(newline)

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of log.txt, reading at most 64 KiB."""
        path = self.folder / "log.txt"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def adapters(self) -> dict[str, Path]:
        """The adapters saved so far, by "best" and "last"."""
        folders = {name: self.folder / "adapters" / name for name in ("best", "last")}
        return {name: folder for name, folder in folders.items() if (folder / "adapter_config.json").is_file()}

    def samples(self) -> list[Path]:
        """Pictures written while training, oldest first."""
        return sorted((self.folder / "samples").glob("*.png"))

    @property
    def checkpoint(self) -> Path:
        """The newest whole checkpoint; the one before, if the process died while it put a new one in its place."""
        newest, before = self.folder / "checkpoint", self.folder / "checkpoint.replaced"
        return before if before.exists() and not newest.exists() else newest

    def can_resume(self) -> bool:
        status = self.status()
        return not status.active and status.state != "finished" and (self.checkpoint / "state.pt").is_file()

    def request_stop(self) -> None:
        """Asks whoever trains this run, in any process, to stop after the step in progress."""
        (self.folder / "stop-requested").touch()

    def stop_requested(self) -> bool:
        return (self.folder / "stop-requested").exists()

    def is_locked(self) -> bool:
        """Whether a living process is writing this run."""
        if not (self.folder / ".lock").exists():
            return False
        try:
            with self._lock().acquire(blocking=False):
                return False
        except Timeout:
            return True

    @contextmanager
    def writing(self) -> Iterator[RunWriter]:
        """Locks the run and yields its only writer; an exception inside becomes the state "failed" and goes on.

        Raises:
            RunError: another process is writing this run.
        """
        try:
            # A reader that looks whether the lock is held holds it for an instant itself.
            lock = self._lock().acquire(timeout=2)
        except Timeout:
            raise RunError(
                f"The run {self.name} is already being trained by another process", "Wait for it or stop it"
            ) from None
        with lock:
            try:
                (self.folder / "stop-requested").unlink(missing_ok=True)
                writer = RunWriter(self)
            except OSError as error:
                raise RunError(
                    f"The files of the run {self.name} cannot be written: {error.strerror or error}",
                    "Make its folder writable, or start a new run",
                ) from None
            try:
                yield writer
            except BaseException as error:
                writer.fail(error)
                raise
            finally:
                writer.close()

    @property
    def _status_path(self) -> Path:
        return self.folder / "status.json"

    def _lock(self) -> FileLock:
        return FileLock(self.folder / ".lock", preserve_lock_file=True)


class RunWriter:
    """The one writer of a run's progress."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # What is known of a run that goes on stays in view, even if it cannot be resumed.
        self.status = replace(run.status(), state="preparing", message="", pid=os.getpid())
        self._written = 0.0
        self._metrics = self._append("metrics.jsonl")
        self._log = self._append("log.txt")
        self.update(force=True)

    def log(self, line: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        self._log.flush()

    def row(self, **values: Any) -> None:
        """Appends one row to metrics.jsonl and stamps it with the time."""
        self._metrics.write(json.dumps({**values, "time": time.time()}) + "\n")
        self._metrics.flush()

    def update(self, *, force: bool = False, **changes: Any) -> None:
        """Changes the status; on disk at most twice a second unless forced."""
        self.status = replace(self.status, **changes, updated=time.time())
        if force or self.status.updated - self._written >= _STATUS_INTERVAL_S:
            _write_json(self._run._status_path, asdict(self.status))
            self._written = self.status.updated

    def fail(self, error: BaseException) -> None:
        message = str(error) if isinstance(error, Sam3LoraError) else f"{type(error).__name__}: {error}"
        self.log("".join(traceback.format_exception(error)).rstrip())
        self.update(force=True, state="failed", message=message, eta_seconds=None)

    def close(self) -> None:
        self._metrics.close()
        self._log.close()

    def _append(self, name: str) -> TextIO:
        path = self._run.folder / name
        file = path.open("a", encoding="utf-8")
        if _is_torn(path):
            file.write("\n")
        return file


def _is_row(row: Any) -> bool:
    """Whether a line of metrics.jsonl has what its readers count on; a damaged file may hold anything."""
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return False
    if row.get("kind") == "resume":
        return True
    terms = row.get("terms")
    return (
        row.get("kind") in ("step", "validation")
        and isinstance(row.get("total"), (int, float))
        and isinstance(terms, dict)
        and all(isinstance(value, (int, float)) for value in terms.values())
    )


def _is_torn(path: Path) -> bool:
    """Whether the process before us was killed in the middle of a line."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def effective_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that count: after a resume at step k, earlier rows beyond k are superseded."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        if row.get("kind") == "resume":
            kept = [earlier for earlier in kept if earlier["step"] <= row["step"]]
        else:
            kept.append(row)
    return kept


def list_runs(runs_folder: str | Path) -> list[Run]:
    """The runs in a folder, newest first; what is no run is passed over."""
    root = Path(runs_folder)
    if not root.is_dir():
        return []
    folders = [folder for folder in root.iterdir() if (folder / "config.yaml").is_file()]
    return [Run(folder) for folder in sorted(folders, key=lambda folder: folder.name, reverse=True)]


def _make_unique(root: Path, stem: str) -> Path:
    for attempt in range(1, 1000):
        folder = root / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"There are too many runs named {stem} in {root}", "Choose another output.name")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes to the side and renames, so that a reader never sees half a file."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    partial.replace(path)
