"""Stores evaluation reports: in the run whose adapter they measured, others beside the runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from sam3_lora.data.prompts import phrase_of
from sam3_lora.errors import DataError, RunError, Sam3LoraError, explain_os_errors
from sam3_lora.evaluate.gain_loss.points import measured
from sam3_lora.evaluate.report import VERSION, Report, Summary
from sam3_lora.evaluate.text.messages import alert_phrase, alert_sentence
from sam3_lora.evaluate.verdict import alerts_of
from sam3_lora.files import MB, atomic_write, read_file
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS
from sam3_lora.runs.run import Run

FOLDER = "evaluations"
_MAX_BYTES = 500 * MB  # of a report: some numbers per phrase, and the worst images
S = TypeVar("S", bound=Summary)


@dataclass(frozen=True)
class StoredReport:
    """A stored evaluation."""

    path: Path
    run: str  # its name; empty if the adapter belongs to none
    summary: Summary

    @property
    def name(self) -> str:
        """Its name in an address: "RUN/20260131-101500", or the time alone."""
        return f"{self.run}/{self.path.stem}" if self.run else self.path.stem


def run_of(adapter: Path | None) -> Run | None:
    """The run that an adapter's folder belongs to (RUN/adapters/best); None if it belongs to none."""
    if adapter is None:
        return None
    folder = Path(os.path.abspath(adapter))
    if folder.parent.name != "adapters":
        return None
    with suppress(Sam3LoraError):
        return Run.open(folder.parent.parent)
    return None


def weights_stamp(adapter: Path | None) -> int | None:
    """When an adapter's weights were written last, in ns; None without any. To be asked before they are loaded."""
    with suppress(OSError):
        return None if adapter is None else (adapter / WEIGHTS).stat().st_mtime_ns
    return None


def step_of(adapter: Path | None) -> int | None:
    """The step of its run after which an adapter was saved; None where it belongs to none, or to one in progress."""
    run = run_of(adapter)
    if run is None or adapter is None:
        return None
    status = run.status()
    if status.active:
        return None
    return {"best": status.best_step, "last": status.step}.get(adapter.name)


def was_replaced(report: Summary) -> bool:
    """Whether the weights of a report's adapter have been written anew since; False where that cannot be told."""
    if report.adapter_folder is None or report.weights_stamp is None:
        return False
    now = weights_stamp(Path(report.adapter_folder))
    return now is not None and now != report.weights_stamp


def known_phrases(adapter: Path | None) -> list[str]:
    """The phrases that an adapter's run was trained with, only the user's own if the dataset is gone."""
    from sam3_lora.data.dataset import open_dataset

    run = run_of(adapter)
    if run is None:
        return []
    own = run.config.data.category_phrases
    try:
        return [phrase_of(category, own) for category in open_dataset(**run.config.data.reading).categories]
    except DataError:
        return list(own.values())


def folder_of(adapter: Path | None, runs: Path) -> Path:
    """The folder for evaluations of this adapter; runs: where those of no run go."""
    run = run_of(adapter)
    return (run.folder if run else runs) / FOLDER


def to_json(report: Report) -> str:
    """A report as JSON, with what follows from its numbers: alerts, in words too, and the points of gain and loss."""
    alarms = [
        {"kind": alert.kind, "short": alert_phrase(alert), "message": alert_sentence(alert)}
        for alert in alerts_of(report)
    ]
    points = [
        {"kind": one.kind, "strength": one.strength, "f1": one.f1, "gain": one.gain, "kept": one.kept}
        for one in measured(report).points
    ]
    whole = msgspec.to_builtins(report) | {"alarms": alarms, "gain_loss": points}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode()


def save(report: Report, folder: Path) -> Path:
    """Writes a report under the time it was made, completely or not at all.

    Returns:
        The new file; an earlier one is never overwritten.

    Raises:
        RunError: it cannot be written.
    """
    stem = report.made.replace("-", "").replace(":", "").replace("T", "-")
    failed, remedy = f"The evaluation cannot be written to {folder}", "Free some space, or make the folder writable"
    with explain_os_errors(RunError, failed, remedy):
        folder.mkdir(parents=True, exist_ok=True)
        path = next(
            path
            for number in range(1, 1000)
            if not (path := folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")).exists()
        )
        atomic_write(path, to_json(report))
    return path


def read_report(path: Path) -> Report:
    """A stored report. Raises DataError if the file is not one, or was written by a newer version."""
    return _read(path, Report)


def _read(path: Path, kind: type[S]) -> S:
    try:
        found = msgspec.json.decode(read_file(path, _MAX_BYTES), type=kind)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"The evaluation {path} cannot be read ({getattr(error, 'strerror', None) or error})", "Evaluate again"
        ) from None
    if found.version > VERSION:
        raise DataError(f"The evaluation {path} was stored by a newer version", "Update this app, or evaluate again")
    return found


def stored_reports(runs: Iterable[Path]) -> list[StoredReport]:
    """The reports in these folders of runs, newest first; files that cannot be read are skipped."""
    found: dict[Path, StoredReport] = {}
    for root in runs:
        for path in (*root.glob(f"{FOLDER}/*.json"), *root.glob(f"*/{FOLDER}/*.json")):
            run = path.parent.parent.name if path.parent.parent != root else ""
            with suppress(Sam3LoraError):
                found[path] = StoredReport(path, run, _read(path, Summary))
    return sorted(found.values(), key=lambda one: (one.summary.made, one.name), reverse=True)
