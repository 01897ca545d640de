"""A report knows the adapter that it is about: its step, and whether it has been replaced since."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from sam3_lora.evaluate.report import Summary
from sam3_lora.evaluate.store import step_of, was_replaced, weights_stamp
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS
from tests.ui.run_folders import finished_run


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    folder = finished_run(tmp_path).adapters()["best"]
    about = {
        "made": "",
        "seconds": 0.0,
        "dataset": "d",
        "split": "valid",
        "images": 1,
        "objects": 1,
        "base_name": "demo",
    }
    (folder / WEIGHTS).write_bytes(b"weights")
    stamp = weights_stamp(folder)
    return Summary(**about, adapter_name="a", adapter_folder=str(folder), verdict="", weights_stamp=stamp)


def test_an_adapter_that_is_written_again_is_another_one(summary: Summary) -> None:
    assert not was_replaced(summary)
    weights = Path(summary.adapter_folder or "") / WEIGHTS
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 1_000_000_000))
    assert was_replaced(summary)


def test_nothing_is_said_where_it_cannot_be_told(summary: Summary, tmp_path: Path) -> None:
    assert not was_replaced(replace(summary, weights_stamp=None)), "a report of an earlier version"
    assert not was_replaced(replace(summary, adapter_folder=str(tmp_path / "gone")))
    assert not was_replaced(replace(summary, adapter_folder=None))


def test_the_step_is_that_of_the_run(tmp_path: Path) -> None:
    run = finished_run(tmp_path, steps=40)
    with run.writing() as writer:
        writer.update(force=True, state="finished", best_step=30, step=40)
    assert step_of(run.folder / "adapters" / "best") == 30
    assert step_of(run.folder / "adapters" / "last") == 40
    assert step_of(tmp_path) is None and step_of(None) is None
