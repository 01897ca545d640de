"""Runs that outlive the app on the train page: the switch, a process of its own, and what was interrupted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sam3_lora.runs.run import Run
from sam3_lora.ui.preferences import load_preferences
from sam3_lora.ui.resources import get_train_job
from sam3_lora.ui.train_job import TrainJob
from tests.ui.helpers import texts, train_page
from tests.ui.run_folders import create_run, finished_run, write_steps

INTERRUPTED = "A run was interrupted at step"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SAM3_LORA_CONFIG", str(tmp_path / "config"))
    get_train_job.clear()  # as after a restart of the app
    return tmp_path / "runs"


def ended(runs: Path, name: str, *, step: int = 3, **status: object) -> Run:
    """A run with a checkpoint that ended in this way at this step."""
    run = create_run(runs, name)
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "step-00000002.pt").write_bytes(b"")
    with run.writing() as writer:
        write_steps(writer, 1, step, 40)
        writer.update(force=True, **status)
    return run


def test_an_interrupted_run_is_offered_first_until_it_is_dismissed(runs: Path) -> None:
    ended(runs, "crashed", step=7, state="running")
    finished_run(runs, "newer")
    app = train_page()
    assert f"{INTERRUPTED} 7 of 40" in texts(app) and "continues after step 2" in texts(app)
    assert "newer" in app.selectbox(key="run-choice").value
    assert not app.button(key="resume-interrupted").disabled
    app.button(key="dismiss-interrupted").click().run()
    assert INTERRUPTED not in texts(app) and INTERRUPTED not in texts(train_page())
    ended(runs, "another", step=9, state="stopped", interrupted=True)
    assert f"{INTERRUPTED} 9 of 40" in texts(train_page())


@pytest.mark.parametrize("status", [{"state": "stopped"}, {"state": "finished"}, {"state": "failed"}])
def test_a_run_that_ended_as_it_should_is_not_offered(runs: Path, status: dict) -> None:
    ended(runs, "ended", **status)
    assert INTERRUPTED not in texts(train_page())


def test_neither_another_users_run_nor_one_without_a_checkpoint_nor_an_active_one_is_offered(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(runs, "crashed", state="running")
    with run.writing():
        assert INTERRUPTED not in texts(train_page())
    if hasattr(os, "getuid"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: run.folder.stat().st_uid + 1)
            assert INTERRUPTED not in texts(train_page())
    status = run.folder / "status.json"
    status.write_text(status.read_text().replace('"stopped"', '"running"').replace('"preparing"', '"running"'))
    assert INTERRUPTED in texts(train_page())
    next((run.folder / "checkpoints").iterdir()).unlink()
    assert INTERRUPTED not in texts(train_page())


def test_resuming_an_interrupted_run_shows_it_and_says_how_it_is_trained(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = ended(runs, "crashed", state="running"), []
    finished_run(runs, "newer")

    def resume(self: TrainJob, run: Run, *, outlives_app: bool) -> Run:
        asked.append((run.name, outlives_app))
        return run

    monkeypatch.setattr(TrainJob, "resume", resume)
    app = train_page()
    app.toggle(key="keep-training").set_value(True).run()
    app.button(key="resume-interrupted").click().run()
    assert asked == [(run.name, True)] and app.selectbox(key="run-choice").value == run.name


def test_the_switch_is_remembered_and_used_for_the_next_start(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def start(self: TrainJob, config: object, *, outlives_app: bool) -> Run:
        asked.append(outlives_app)
        return finished_run(runs)

    monkeypatch.setattr(TrainJob, "start", start)
    app = train_page()
    app.button(key="start").click().run()
    app.toggle(key="keep-training").set_value(True).run()
    app.switch_page("pages/dataset.py").run()
    app.switch_page("pages/train.py").run()
    app.button(key="start").click().run()
    assert load_preferences().keep_training
    another = train_page()
    another.button(key="start").click().run()
    assert another.toggle(key="keep-training").value and asked == [False, True, True]


def test_a_switch_that_cannot_be_remembered_says_so_and_works(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs.parent / "config").write_text("a file where the folder should be")
    app = train_page()
    app.toggle(key="keep-training").set_value(True).run()
    (box,) = app.error
    assert "SAM3_LORA_CONFIG" in box.value.replace("\\", "") and app.toggle(key="keep-training").value


def test_a_run_of_its_own_process_is_the_apps_run_after_a_restart_too(runs: Path) -> None:
    run = create_run(runs, "alone")
    with run.writing(launched=True) as writer:
        write_steps(writer, 1, 10, 40)
        app = train_page()
        assert "Another process" not in texts(app) and "process of its own" in texts(app)
        assert app.button(key="start").disabled and "in progress" in app.button(key="start").help
        assert not app.button(key="pause").disabled and not app.button(key="stop").disabled
        assert get_train_job().current.folder == run.folder
        writer.update(force=True, state="stopped")
    assert get_train_job().current is None
    assert not train_page().button(key="start").disabled


def test_what_the_process_of_a_crashed_run_has_printed_is_shown(runs: Path) -> None:
    run = ended(runs, "crashed", state="running")
    (run.folder / "process.log").write_text("Fatal Python error: Segmentation fault\n")
    assert "Segmentation fault" in "\n".join(code.value for code in train_page().code)
