"""Where evaluations are kept: in the run whose adapter they measured, others beside the runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sam3_lora.errors import RunError, Sam3LoraError
from sam3_lora.evaluate.report import Report, Summary, read_summary
from sam3_lora.runs.run import Run

FOLDER = "evaluations"


@dataclass(frozen=True)
class Stored:
    """A stored evaluation. run: the name of its run, empty if its adapter belongs to none."""

    path: Path
    run: str
    summary: Summary

    @property
    def name(self) -> str:
        """What it is called in an address: "RUN/20260131-101500", or the time alone."""
        return f"{self.run}/{self.path.stem}" if self.run else self.path.stem


def run_of(adapter: Path | None) -> Run | None:
    """The run that an adapter's folder lies in (RUN/adapters/best); None if it lies in none."""
    if adapter is None:
        return None
    folder = Path(os.path.abspath(adapter))
    if folder.parent.name != "adapters":
        return None
    with suppress(Sam3LoraError):
        return Run.open(folder.parent.parent)
    return None


def phrases_of_run(adapter: Path | None) -> dict[str, str]:
    """The words that an adapter's run asked the categories by; empty without a run. Raises ConfigError if damaged."""
    run = run_of(adapter)
    return dict(run.config.data.category_phrases) if run else {}


def folder_of(adapter: Path | None, runs: Path) -> Path:
    """Where an evaluation of this adapter belongs."""
    run = run_of(adapter)
    return (run.folder if run else runs) / FOLDER


def keep(report: Report, folder: Path) -> Path:
    """Writes an evaluation under the time it was made; whole or not at all. Raises RunError if it cannot be written."""
    stem = report.made.replace("-", "").replace(":", "").replace("T", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = next(
            path
            for number in range(1, 1000)
            if not (path := folder / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")).exists()
        )
        half = path.with_suffix(".tmp")
        half.write_text(report.to_json(), encoding="utf-8")
        half.replace(path)
    except OSError as error:
        raise RunError(
            f"The evaluation cannot be written to {folder}: {error.strerror or error}",
            "Free some space, or make the folder writable",
        ) from None
    return path


def stored(runs: Iterable[Path]) -> list[Stored]:
    """The evaluations in these folders of runs, newest first; files that cannot be read are passed over."""
    found: dict[Path, Stored] = {}
    for root in runs:
        for path in (*root.glob(f"{FOLDER}/*.json"), *root.glob(f"*/{FOLDER}/*.json")):
            run = path.parent.parent.name if path.parent.parent != root else ""
            with suppress(Sam3LoraError):
                found[path] = Stored(path, run, read_summary(path))
    return sorted(found.values(), key=lambda one: (one.summary.made, one.name), reverse=True)
