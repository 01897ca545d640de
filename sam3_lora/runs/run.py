"""A run's folder: its configuration, metrics, log, adapters, checkpoints, samples and status.

The folder is the truth about a run: one writer fills it, any number of readers, in this process or in others, watch the
run by reading it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from sam3_lora.config import RunConfig
from sam3_lora.data.edits.file import EDITS_FILE, read_edits, write_edits
from sam3_lora.data.splits.holdout import HeldOut
from sam3_lora.errors import ConfigError, RunError, explain_os_errors
from sam3_lora.files import MB, atomic_write, read_file, sweep, user_path
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS, is_run, run_adapters
from sam3_lora.runs.auto_values import AUTO_FILE, AutoValue, read_auto_values, with_auto, with_values, write_auto_values
from sam3_lora.runs.lock import hold, how_to_open, is_held, lock_state
from sam3_lora.runs.metrics import Row, effective_rows, read_rows
from sam3_lora.runs.reading import as_written, read_config, tail, unreadable
from sam3_lora.runs.requests import ENDINGS, Requests
from sam3_lora.runs.samples import Sample, read_samples
from sam3_lora.runs.status import ACTIVE_STATES, State, Status, read_status, write_status
from sam3_lora.runs.writer import RunWriter
from sam3_lora.text import valid_text

__all__ = ["ACTIVE_STATES", "Run", "RunWriter", "Sample", "State", "Status", "effective_rows", "list_runs"]

HELD_OUT_FILE = "held_out.json"
# Why a run cannot be resumed -> the sentence for it.
ResumeObstacle = Literal["active", "unknown", "finished", "no-checkpoint"]
RESUME_OBSTACLES: dict[ResumeObstacle, str] = {
    "active": "This run is being trained.",
    "unknown": "Its lock cannot be opened, so it may be in training.",
    "finished": "This run has taken all its steps.",
    "no-checkpoint": "This run ended before its first checkpoint, so there is nothing to resume from.",
}

_MAX_HELD_OUT_BYTES = 500 * MB  # the names of some images of a dataset
_FREE_SPACE = "Free some space, then start again"
_CLOSE_FILES = "Make its folder writable, close programs that have its files open, and try again"
_FILES = ("config.yaml", "status.json", "metrics.jsonl", "log.txt", HELD_OUT_FILE, AUTO_FILE, "samples/samples.jsonl")
_STARTING_S = 5  # for which a run that was just created may have no lock file yet


class Run:
    """Reads a run's folder; :meth:`writing` gives its one writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests = Requests(folder)

    @classmethod
    def create(cls, config: RunConfig) -> Run:
        """Makes ``runs/<time>-<name>/`` with configuration and edits. Raises RunError, or DataError for the edits."""
        edits = read_edits(config.data.edits) if config.data.edits else None
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(config.output.name)}"
        root = config.output.runs_folder
        fix = "Choose another folder in output.runs, or free some space"
        with explain_os_errors(RunError, f"Expected a writable folder for runs at {root}, but", fix):
            root.mkdir(parents=True, exist_ok=True)
            run = cls(_make_unique(root, stem))
            if edits is not None:
                write_edits(run.folder / EDITS_FILE, edits)
            run._write_config(config)
            write_status(run._status_path, Status(started=time.time(), updated=time.time(), pid=os.getpid()))
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens an existing run; "~" is the home folder. Raises RunError if the folder is not a run."""
        folder = user_path(folder)
        if os.path.isfile(folder / "config.yaml"):  # unlike Path.is_file, never raises: the name may be too long
            return cls(folder)
        if around := next(filter(is_run, folder.parents[:3]), None):
            raise RunError(f"Expected a run's folder, but {folder} is inside one", f"Give the run: {around}")
        if not os.path.isdir(folder):
            found = "it is a file" if os.path.exists(folder) else "there is none"
            raise RunError(f"Expected a run's folder at {folder}, but {found}", "Choose one of the folders in runs/")
        raise RunError(
            f"Expected a run in {folder}, but it holds no config.yaml", "Choose a folder that a training run has made"
        )

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def began(self) -> float:
        """When the run was created, in unix seconds: from its folder's name, else from its status; 0 if unknown."""
        with suppress(ValueError, OverflowError):
            return time.mktime(time.strptime(self.name[:15], "%Y%m%d-%H%M%S"))
        status = read_status(self._status_path)
        return 0.0 if status is None else status.started

    @property
    def config(self) -> RunConfig:
        """The settings that the run uses; some are "auto" until it has started. Raises ConfigError if damaged."""
        return read_config(self.folder / "config.yaml")

    @property
    def asked_config(self) -> RunConfig:
        """The settings as the user asked for them: "auto" where a value was chosen. Raises ConfigError, RunError."""
        return with_auto(self.config, self.auto_values())

    def auto_values(self) -> tuple[AutoValue, ...]:
        """What was chosen for settings that were auto. Raises RunError if the file is damaged."""
        return read_auto_values(self.folder)

    def use_auto_values(self, values: tuple[AutoValue, ...]) -> None:
        """Keeps what was chosen for settings that were auto: from now on they are the run's. Raises RunError."""
        config = with_values(self.config, values)
        new = {each.setting for each in values}
        earlier = (each for each in self.auto_values() if each.setting not in new)  # of a run that goes on
        write_auto_values(self.folder, (*earlier, *values))
        with explain_os_errors(RunError, f"The settings of the run {self.name} cannot be written", _FREE_SPACE):
            self._write_config(config)

    def held_out(self) -> HeldOut | None:
        """The training images that the run holds out to validate on; None without any. Raises RunError if damaged."""
        path = self.folder / HELD_OUT_FILE
        try:
            return msgspec.json.decode(read_file(path, _MAX_HELD_OUT_BYTES), type=HeldOut)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path}, which says what the run is validated on, cannot be read ({error})", "Start a new run"
            ) from None

    def write_held_out(self, held_out: HeldOut) -> None:
        """Keeps which images are held out, for when the run is resumed or evaluated. Raises RunError."""
        path = self.folder / HELD_OUT_FILE
        with explain_os_errors(RunError, f"{path} cannot be written", _FREE_SPACE):
            atomic_write(path, msgspec.json.format(msgspec.json.encode(held_out), indent=1), sync=True)

    def status(self) -> Status:
        """The run's state; an active one whose process has ended reads as "crashed". Raises nothing."""
        status = read_status(self._status_path)
        if status is None:
            if self.is_locked():
                return Status(state="running", message="Its status.json cannot be read.")
            return Status(state="crashed", message="Its status.json is missing, damaged or not readable.")
        if self.is_starting() and not (status.active and self.is_locked()):
            return replace(status, state="preparing", message="A process for it is starting.", launched=True)
        if not status.active:
            return status
        lock = lock_state(self._lock_path)
        if lock == "free" or (lock == "missing" and not _is_new(status)):
            return replace(status, state="crashed", message="The process that trained this run has ended.")
        if status.state in ("running", "paused") and self.requests.pending() & ENDINGS:
            status = replace(status, state="stopping", message="Stopping after this step.")
        if lock == "unknown":
            status = replace(status, message=_may_have_ended(status))
        return status

    def unreadable(self) -> dict[str, str]:
        """The files that cannot be read, though they are there: name -> the system's reason. Raises nothing."""
        return unreadable(self.folder / name for name in _FILES)

    def metrics(self, offset: int = 0, max_bytes: int = -1) -> tuple[list[Row], int]:
        """The rows of metrics.jsonl, see :func:`sam3_lora.runs.metrics.read_rows` and :func:`effective_rows`."""
        return read_rows(self.folder / "metrics.jsonl", offset, max_bytes)

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of log.txt, reading at most 64 KiB."""
        return tail(self.folder / "log.txt", lines)

    def adapters(self) -> dict[str, Path]:
        """The adapters saved so far, by "best", "last" and "refusal"."""
        return run_adapters(self.folder)

    def adapter_bytes(self) -> int:
        """The size of a saved adapter's weights; 0 without one."""
        sizes = [0]
        for folder in self.adapters().values():
            with suppress(OSError):
                sizes.append(os.path.getsize(folder / WEIGHTS))
        return max(sizes)

    def samples(self) -> list[Sample]:
        """The sample predictions at each evaluation, by step; step 0 is the base model."""
        return read_samples(self.folder / "samples")

    def checkpoints(self) -> list[Path]:
        """The checkpoints, newest first; none if their folder cannot be read."""
        folder = self.folder / "checkpoints"
        try:
            names = os.listdir(folder)
        except OSError:
            return []
        found = (folder / name for name in names if re.fullmatch(r"step-\d+\.pt", name))
        return sorted(filter(os.path.isfile, found), reverse=True)

    def resume_obstacle(self) -> ResumeObstacle | None:
        """Why the run cannot be resumed, see :data:`RESUME_OBSTACLES`; None if it can."""
        status = self.status()
        if status.active:
            return "unknown" if lock_state(self._lock_path) == "unknown" else "active"
        if status.state == "finished":
            return "finished"
        return None if self.checkpoints() else "no-checkpoint"

    def require_resumable(self) -> None:
        """Raises RunError if the run cannot be resumed."""
        if obstacle := self.resume_obstacle():
            fixes = {"active": "Stop it or wait for its end", "unknown": how_to_open(self._lock_path)}
            fix = fixes.get(obstacle, "Start a new run instead")
            raise RunError(f"The run {self.name} cannot be resumed. {RESUME_OBSTACLES[obstacle]}", fix)

    def differences(self, other: Run) -> dict[str, tuple[object, object]]:
        """The settings that differ between two runs, by dotted name: this run's value and the other's."""
        ours, theirs = self.config.model_dump(), other.config.model_dump()
        return {
            f"{section}.{name}": (value, theirs[section][name])
            for section, values in ours.items()
            for name, value in values.items()
            if value != theirs[section][name]
        }

    def rename(self, name: str) -> Run:
        """Gives the run another name; its folder keeps the time in front.

        Returns:
            The run in its new folder; this object's folder is gone.

        Raises:
            ConfigError: the name is not allowed.
            RunError: the run is being trained, the name is taken, or the folder cannot be renamed.
        """
        before = self.config
        try:
            config = before.with_settings({"output.name": name})
        except ConfigError:
            raise ConfigError(
                f"'{name}' cannot be a run's name",
                "Use letters a to z, digits, spaces, dots and dashes, with a letter or a digit in front",
            ) from None
        self._require_inactive("renamed")
        began = re.match(r"\d{8}-\d{6}-", self.name)
        folder = self.folder.with_name((began.group() if began else "") + _slug(name))
        if folder != self.folder and folder.exists():
            raise RunError(f"There is another run {folder.name}", "Choose another name")
        with explain_os_errors(RunError, f"The run {self.name} cannot be renamed", _CLOSE_FILES):
            self._write_config(config)
            self.folder.rename(folder)
        return Run(folder)

    def delete(self) -> None:
        """Deletes the run's folder with everything in it. Raises RunError while it is being trained."""
        self._require_inactive("deleted")
        # Renamed first, so that no reader sees half a run.
        doomed = self.folder.with_name(f".deleted-{self.name}")
        with explain_os_errors(RunError, f"The run {self.name} cannot be deleted", _CLOSE_FILES):
            shutil.rmtree(doomed, ignore_errors=True)
            self.folder.rename(doomed)
            shutil.rmtree(doomed)

    def is_locked(self) -> bool:
        """Whether a process is writing this run."""
        return is_held(self._lock_path)

    def is_starting(self) -> bool:
        """Whether somebody has started a process for this run that may not write it yet, see :meth:`starting`."""
        return is_held(self.folder / ".starting")

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Holds the run for a process that the body starts, and which needs seconds before it can write.

        Until then the run is "preparing"; requests that are made meanwhile are kept for it. The body may be left in
        another thread than it was entered in.

        Raises:
            RunError: another process is writing this run, or being started for it.
        """
        with hold(self.folder / ".starting", f"Another process is being started for the run {self.name}"):
            with hold(self.folder / ".lock", f"The run {self.name} is already being trained by another process"):
                self._drop_old_requests()  # one that has just ended may hold the lock for another moment
            yield

    @contextmanager
    def writing(self, *, launched: bool = False) -> Iterator[RunWriter]:
        """Locks the run and yields its only writer; an exception inside sets the state "failed" and is raised again.

        Args:
            launched: this process is the one that was started in the body of :meth:`starting`.

        Raises:
            RunError: another process is writing this run, being started for it, or its files cannot be written.
        """
        if not launched and self.is_starting():
            raise RunError(f"Another process is being started for the run {self.name}", "Wait for it or stop it")
        with hold(self._lock_path, f"The run {self.name} is already being trained by another process"):
            fix = "Make its folder writable, or start a new run"
            with explain_os_errors(RunError, f"The files of the run {self.name} cannot be written", fix):
                if not launched:
                    self._drop_old_requests()
                self._sweep()
                writer = RunWriter(self.folder, self.status(), launched=launched)
            try:
                yield writer
            except BaseException as error:
                writer.fail(error)
                raise
            finally:
                writer.close()

    @property
    def _lock_path(self) -> Path:
        return self.folder / ".lock"

    @property
    def _status_path(self) -> Path:
        return self.folder / "status.json"

    def _drop_old_requests(self) -> None:
        """Drops requests to a process that has ended; those of a new run are meant for its first writer."""
        if (self.folder / "metrics.jsonl").exists():
            self.requests.clear()

    def _write_config(self, config: RunConfig) -> None:
        atomic_write(self.folder / "config.yaml", as_written(config).to_yaml(comments=True), sync=True)

    def _require_inactive(self, done: str) -> None:
        state = lock_state(self._lock_path)
        if state == "held" or self.status().active:
            if state == "unknown":
                raise RunError(
                    f"The run {self.name} may be in training and cannot be {done}", how_to_open(self._lock_path)
                )
            raise RunError(f"The run {self.name} is being trained and cannot be {done}", "Stop it first")

    def _sweep(self) -> None:
        """Deletes what a writer that was killed left half written."""
        sweep(self.folder / "adapters", ".*", older_than_s=0)
        for folder in (".", "checkpoints", "samples"):
            sweep(self.folder / folder, "*.tmp", older_than_s=0)
        sweep(self.folder / "evaluations")  # which others may be writing


def list_runs(runs_folder: str | Path) -> list[Run]:
    """The runs in a folder, newest first; other folders and files are skipped."""
    root = user_path(runs_folder)
    try:
        with os.scandir(root) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name == valid_text(entry.name)
            ]
    except (OSError, ValueError):  # none there, or not a path at all
        return []
    folders = (Path(root, name) for name in names)
    return newest_first(Run(folder) for folder in folders if os.path.isfile(folder / "config.yaml"))


def newest_first(runs: Iterable[Run]) -> list[Run]:
    """Sorts runs by when they were created."""
    return sorted(runs, key=lambda run: (run.began, run.name), reverse=True)


def _is_new(status: Status) -> bool:
    """Whether a run without a lock file has just been created: it gets one at once. A clock that is set back, or that
    of another machine, does not make it look new for longer."""
    return status.state == "preparing" and abs(time.time() - status.updated) < _STARTING_S


def _may_have_ended(status: Status) -> str:
    latest = time.strftime("%d %B %Y at %H:%M:%S", time.localtime(status.updated))
    return f"Its lock cannot be opened, so it may have ended since its latest news of {latest}."


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def _make_unique(root: Path, stem: str) -> Path:
    for attempt in range(1, 1000):
        folder = root / (stem if attempt == 1 else f"{stem}-{attempt}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RunError(f"There are too many runs named {stem} in {root}", "Choose another output.name")
