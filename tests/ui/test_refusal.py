"""Repair of refusal on the pages: the button, why it is disabled, its progress and the numbers before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sam3_lora.errors import DataError
from sam3_lora.runs.run import Run
from sam3_lora.train.refusal import repair, report
from sam3_lora.train.refusal.repair import RepairRequest
from sam3_lora.train.refusal.report import Refusal, RepairReport
from sam3_lora.ui.components.refusal import repair_job
from tests.ui.helpers import boxes, texts, train_page
from tests.ui.run_folders import create_run, finished_run, write_adapter, write_steps

BEFORE = Refusal(f1_50=0.612, cgf1=0.4, absent=(40, 10), foreign=(100, 20), kept=(10, 8))
FACTS: dict[str, Any] = {
    "made": "2026-01-31T10:15:00",
    "source": "best",
    "seed": 0,
    "steps": 9,
    "seconds": 1.0,
    "pairs": 99,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    repair_job().forget()
    return finished_run(tmp_path / "runs")


def made(after: Refusal | None) -> RepairReport:
    before = None if after is None else BEFORE
    return RepairReport(**FACTS, images=3, of_images=3, measured_words=("walrus",), before=before, after=after)


def keep(run: Run, after: Refusal | None) -> RepairReport:
    folder, kept = write_adapter(run, "refusal"), made(after)
    (folder / report.FILE).write_bytes(report.to_bytes(kept))
    return kept


@pytest.mark.parametrize(
    ("after", "icon"),
    [
        (Refusal(f1_50=0.62, cgf1=0.5, absent=(40, 1), foreign=(100, 0), kept=(10, 8)), "check_circle"),
        (Refusal(f1_50=0.5, cgf1=0.3, absent=(40, 1), foreign=(100, 0), kept=(10, 2)), "warning"),
        (BEFORE, "warning"),
        (None, "info"),
    ],
)
def test_a_repair_is_shown_with_its_numbers(run: Run, after: Refusal | None, icon: str) -> None:
    kept = keep(run, after)
    app = train_page(details="Adapters")
    assert report.sentence(kept).replace("%", "") in texts(app).replace("%", "") and f":material/{icon}:" in texts(app)
    tables = [frame.value for frame in app.dataframe if "Before" in frame.value.columns]
    assert [len(table) for table in tables] == ([] if after is None else [5])
    assert {button.key for button in app.button} >= {"continue-training-best", "repair-refusal"}
    assert "continue-training-refusal" not in {button.key for button in app.button}


def test_a_press_repairs_the_best_adapter_and_shows_the_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RepairRequest] = []

    def repaired(request: RepairRequest, progress: object) -> RepairReport:
        asked.append(request)
        return keep(run, BEFORE)

    monkeypatch.setattr(repair, "repair_refusal", repaired)
    app = train_page(details="Adapters")
    app.button(key="repair-refusal").click().run()
    assert repair_job().wait(20)
    app.run()
    assert [request.adapter for request in asked] == [run.folder / "adapters" / "best"]
    assert "gained nothing" in texts(app)


def test_a_repair_that_fails_says_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: RepairRequest, progress: object) -> RepairReport:
        raise DataError("The dataset is gone", "Put it back")

    monkeypatch.setattr(repair, "repair_refusal", fails)
    app = train_page(details="Adapters")
    app.button(key="repair-refusal").click().run()
    assert repair_job().wait(20)
    app.run()
    assert any("The dataset is gone" in box for box in boxes(app))


def test_the_button_says_why_it_is_disabled(run: Run, tmp_path: Path) -> None:
    active = create_run(tmp_path / "runs", "active")
    write_adapter(active, "last")
    with active.writing() as writer:
        write_steps(writer, 1, 3, 9)
        app = train_page(details="Adapters", run=active.name)
        assert app.button(key="repair-refusal").disabled and "being trained" in app.button(key="repair-refusal").help
