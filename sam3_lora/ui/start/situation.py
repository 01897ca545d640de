"""Where a user stands: the dataset, the runs, the best adapter; and what to do next. Facts only, no sentences."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.monitor.run_verdict import USABLE_F1
from sam3_lora.runs.run import Run, Status
from sam3_lora.ui import resources
from sam3_lora.ui.preferences import RecentDataset, load_preferences
from sam3_lora.ui.runs import all_runs, best_f1, stamp

_LOOKED_AT = 20  # newest runs

Kind = Literal[
    "open-dataset", "fix-dataset", "train", "watch", "resume", "read-log", "improve", "evaluate", "try-adapter"
]


@dataclass(frozen=True)
class RunFacts:
    """A run as the start page knows it."""

    run: Run
    status: Status
    dataset: str  # path; "" if its settings cannot be read
    f1: float | None  # of the best adapter on the validation images; None where it was not measured
    adapter: str | None  # "best" or "last"; None before one was saved
    evaluated: bool  # there is a stored evaluation of an adapter of it
    resumable: bool  # and its interruption was not dismissed on the train page

    @property
    def is_usable(self) -> bool:
        """Whether its best adapter is known to be of use."""
        return self.f1 is not None and self.f1 >= USABLE_F1


@dataclass(frozen=True)
class Situation:
    """The dataset that is open, what is known of it, and the newest runs on any dataset, the newest first."""

    path: str
    dataset: RecentDataset | None  # None before it was opened on the dataset page
    runs: tuple[RunFacts, ...] = ()
    knows_datasets: bool = False  # some were opened before, on this start of the app or an earlier one

    @property
    def is_first_start(self) -> bool:
        """Whether nothing has been opened or trained yet."""
        return not self.knows_datasets and not self.runs

    @property
    def has_data(self) -> bool:
        """Whether the dataset that is open was chosen: opened on its page, or trained on."""
        return self.dataset is not None or bool(self.of_dataset)

    @property
    def active(self) -> RunFacts | None:
        """The run in progress."""
        return next((each for each in self.runs if each.status.active), None)

    @property
    def of_dataset(self) -> list[RunFacts]:
        """The runs on the open dataset."""
        return [each for each in self.runs if each.dataset == self.path]

    @property
    def best(self) -> RunFacts | None:
        """The run on the open dataset whose adapter has the highest F1; one in progress only once it is usable."""
        measured = [
            each
            for each in self.of_dataset
            if each.adapter and each.f1 is not None and (each.is_usable or not each.status.active)
        ]
        return max(measured, key=lambda each: each.f1 or 0.0, default=None)


@dataclass(frozen=True)
class NextStep:
    """What to do next, and with which run."""

    kind: Kind
    run: RunFacts | None = None


def next_step(now: Situation) -> NextStep:
    """The one thing to do next."""
    if now.active:
        return NextStep("watch", now.active)
    if not now.has_data:
        return NextStep("open-dataset")
    newest = now.of_dataset[0] if now.of_dataset else None
    if newest and newest.status.state == "failed":
        return NextStep("read-log", newest)
    ended_early = newest is not None and (newest.status.state == "crashed" or newest.status.interrupted)
    if newest and newest.resumable and (ended_early or _stopped_before_usable(newest)):
        return NextStep("resume", newest)
    tried = now.best or next((each for each in now.of_dataset if each.adapter), None)
    if tried is None:
        has_errors = now.dataset is not None and now.dataset.errors > 0
        return NextStep("fix-dataset" if has_errors else "train")
    if tried.f1 is not None and tried.f1 < USABLE_F1:
        return NextStep("improve", tried)
    return NextStep("try-adapter" if tried.evaluated else "evaluate", tried)


def _stopped_before_usable(run: RunFacts) -> bool:
    return run.status.state == "stopped" and not run.is_usable


def look() -> Situation:
    """The situation now. Reads small files only, and the metrics of a run once."""
    path = resources.current_dataset()
    remembered = load_preferences()
    known = next((each for each in remembered.datasets if each.path == path), None)
    runs = tuple(facts_of(run, remembered.dismissed) for run in all_runs()[:_LOOKED_AT])
    return Situation(path, known, runs, bool(remembered.datasets))


def facts_of(run: Run, dismissed: float) -> RunFacts:
    """What the start page shows of a run.

    Args:
        run: any.
        dismissed: runs that were interrupted before this time, in unix seconds, are not mentioned again.
    """
    status = run.status()
    return RunFacts(
        run,
        status,
        dataset=_dataset_of(str(run.folder), stamp(run, "config.yaml")),
        f1=best_f1(run, status),
        adapter=next(iter(run.adapters()), None),
        evaluated=any(run.folder.glob("evaluations/*.json")),
        resumable=status.updated > dismissed and run.resume_obstacle() is None,
    )


@st.cache_data(max_entries=200, show_spinner=False)
def _dataset_of(folder: str, stamp: Sequence[int]) -> str:
    with suppress(Sam3LoraError):
        return Run.open(folder).config.data.path
    return ""
