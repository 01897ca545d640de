"""The train page without a browser: states, numbers, disabled buttons with their reasons, failures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.errors import TrainingError
from sam3_lora.text import duration
from sam3_lora.train.optimizer import TrainPlan
from sam3_lora.ui import runs as runs_module
from sam3_lora.ui.runs import run_title
from sam3_lora.ui.train.diagnosis_view import _by_term
from sam3_lora.ui.train.start_run import describe
from tests.ui.helpers import new_app, texts, train_page
from tests.ui.run_folders import create_run, failed_run, finished_run, write_steps


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    monkeypatch.setenv("SAM3_LORA_RUNS", str(folder))
    return folder


def test_without_a_run_the_page_says_what_to_do(runs: Path) -> None:
    app = train_page()
    assert "No runs yet" in texts(app)
    assert "Start training" in texts(app)
    assert not app.button(key="start").disabled


def test_a_finished_run_is_shown_with_its_numbers(runs: Path) -> None:
    run = finished_run(runs, steps=40)
    app = train_page(details="Adapters")
    assert "Finished" in texts(app) and "Step 40 of 40" in texts(app)
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers.keys() >= {"Total loss", "F1"} and "learning rate" in texts(app)
    assert (numbers["Best cgF1"], numbers["F1"], numbers["cgF1"]) == ("0.38", "0.50", "0.38")
    assert "cgF1 0.375, after step 40" in texts(app)
    assert str(run.folder / "adapters" / "best") in texts(app)
    assert not {"pause", "stop", "resume"} & {button.key for button in app.button}


@pytest.mark.parametrize("name", ["a__b", "___", "__"])
def test_a_run_with_any_name_has_its_chart(runs: Path, name: str) -> None:
    run = finished_run(runs, "any")
    run.folder.rename(runs / f"{run.name}{name}")
    app = train_page()
    assert "Step 40 of 40" in texts(app) and not app.error


def test_the_table_of_the_last_step_adds_up_to_the_total(runs: Path) -> None:
    run = finished_run(runs)
    app = train_page(details="Last step")
    table = next(frame.value for frame in app.dataframe if "term" in frame.value.columns).set_index("term")
    total = run.metrics()[0][-1]["total"]
    assert table.loc["total", "weighted"] == pytest.approx(total)
    assert table.loc["total", ["main", "auxiliary", "one-to-many"]].sum() == pytest.approx(total)


def test_a_failed_run_shows_its_message_in_one_box_and_the_log(runs: Path) -> None:
    failed_run(runs, TrainingError("Expected a finite loss, but loss_mask is not", "Lower training.learning_rate"))
    app = train_page()
    assert "Failed" in texts(app)
    (box,) = app.error
    assert "Expected a finite loss" in box.value and "Lower training" in box.value
    assert "Traceback" in "\n".join(code.value for code in app.code)


def test_an_unforeseen_failure_shows_its_message_too(runs: Path) -> None:
    failed_run(runs, ZeroDivisionError("division by zero"))
    (box,) = train_page().error
    assert "ZeroDivisionError" in box.value


def test_a_run_that_is_being_trained_elsewhere_can_be_watched_and_stopped(runs: Path) -> None:
    run = create_run(runs)
    with run.writing() as writer:
        write_steps(writer, 1, 10, 40)
        app = train_page()
        assert "Training" in texts(app) and "Step 10 of 40" in texts(app)
        assert "resume" not in {button.key for button in app.button}
        app.button(key="stop").click().run()
        assert "stop" in run.requests.pending()
        assert "Stopping" in texts(app) and app.button(key="stop").disabled


def test_a_run_whose_process_is_gone_has_crashed_and_can_be_resumed(runs: Path) -> None:
    run = finished_run(runs)
    status = run.folder / "status.json"
    status.write_text('{"state": "running", "step": 3, "total_steps": 9, "updated": 1.0}')
    app = train_page()
    assert "Crashed" in texts(app)
    assert "before its first checkpoint" in app.button(key="resume").help
    checkpoints = run.folder / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "step-00000002.pt").write_bytes(b"")
    app.run()
    assert not app.button(key="resume").disabled
    assert "continues after step 2" in app.warning[0].value


def test_the_newest_run_is_shown_first_and_another_by_link_or_choice(runs: Path) -> None:
    older = finished_run(runs, "older")
    older = older.folder.rename(runs / "20250101-101500-older")
    finished_run(runs, "newer")
    assert "newer" in train_page().selectbox(key="run-choice").value
    app = train_page(run=older.name)
    assert app.selectbox(key="run-choice").value == older.name
    newest = app.selectbox(key="run-choice").options[0]
    app.selectbox(key="run-choice").select(newest).run()
    assert not app.exception and "newer" in app.selectbox(key="run-choice").value


def test_a_link_to_a_run_that_is_gone_still_opens_the_page(runs: Path) -> None:
    finished_run(runs)
    app = train_page(run="no-such-run")
    assert "finished" in app.selectbox(key="run-choice").value
    assert "no-such-run" in app.toast[0].value


def test_a_damaged_run_does_not_take_the_page_down(runs: Path) -> None:
    run = finished_run(runs)
    (run.folder / "status.json").write_text("{half")
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    app = train_page()
    assert "Crashed" in texts(app) and not app.error


def test_every_set_of_curves_scale_and_axis_can_be_chosen_and_linked_to(runs: Path) -> None:
    finished_run(runs)
    app = train_page(**{"chart-smoothing": "0.9", "chart-scale": "Clipped"})
    assert app.slider(key="chart-smoothing").value == 0.9
    for shown in app.selectbox(key="chart-curves").options:
        app.selectbox(key="chart-curves").select(shown)
        app.button_group(key="chart-along").set_value("Time").run()
        assert not app.exception and not app.error


def test_the_settings_of_a_run_can_be_used_again(runs: Path) -> None:
    special = create_run(runs, "special", **{"lora.rank": 5})
    create_run(runs, "z newest")
    app = train_page(run=special.name, details="Settings")
    app.switch_page("pages/configure.py").run()
    assert app.number_input(key="setting-lora-rank").value == 16
    app.switch_page("pages/train.py")
    app.query_params["details"] = "Settings"
    app.run()
    app.button(key="use-settings").click().run()
    assert "Next run: special" in texts(app) and "rank 5 in" in texts(app)
    app.switch_page("pages/configure.py").run()
    assert not app.exception and app.number_input(key="setting-lora-rank").value == 5


def test_a_new_tab_starts_with_the_settings_of_the_newest_run(runs: Path) -> None:
    create_run(runs, "before", **{"lora.rank": 5, "data.path": "/data/cracks"})
    app = train_page()
    assert "Next run: before" in texts(app) and "rank 5 in" in texts(app) and "/data/cracks" in texts(app)


def test_the_next_run_uses_the_dataset_that_was_opened(runs: Path) -> None:
    app = new_app()
    app.session_state["dataset_path"] = "/data/cracks"
    app.switch_page("pages/train.py").run()
    assert "/data/cracks" in texts(app)


def test_a_start_that_fails_shows_one_box(runs: Path) -> None:
    runs.write_text("a file where the folder of the runs should be")
    app = train_page()
    app.button(key="start").click().run(timeout=60)
    assert not app.exception
    (box,) = app.error
    assert "output.runs" in box.value.replace("\\", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3725, "1 h 2 min"), (None, ""), (-5, "")]
)
def test_durations_read_like_speech(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_run_titles() -> None:
    assert run_title("20260131-175902-potholes") == "potholes, 31 January 2026 at 17:59:02"
    assert run_title("20260101-075902-a-2") == "a-2, 1 January 2026 at 07:59:02"
    assert run_title("my-folder") == "my-folder"


@pytest.mark.parametrize("content", [b"old: 1\n", b"", bytes(range(256))])
def test_a_run_with_damaged_settings_is_still_shown(runs: Path, content: bytes) -> None:
    run = finished_run(runs)
    (run.folder / "config.yaml").write_bytes(content)
    for tab in ("Adapters", "Log", "Last step", "All runs"):
        app = train_page(details=tab)
        assert len(app.error) == 1 and "config.yaml" in app.error[0].value.replace("\\", "")
        assert "Total loss" in {metric.label for metric in app.metric}


def test_a_loss_that_is_not_finite_shows_one_box(runs: Path) -> None:
    message, fix = "Expected a finite loss, but loss_mask is not", "Start a new run"
    run = create_run(runs)
    with pytest.raises(TrainingError), run.writing() as writer:
        write_steps(writer, 1, 12, 40)
        writer.note(13, "not-finite", f"{message}.", images=["a.png"])
        raise TrainingError(message, fix)
    (box,) = train_page().error
    assert "What to do" in box.value and "Continue training" in box.value


def test_a_run_in_progress_is_listed_wherever_its_folder_is(runs: Path, tmp_path: Path, monkeypatch) -> None:
    elsewhere = finished_run(tmp_path / "elsewhere")
    assert "No runs yet" in texts(train_page())
    monkeypatch.setattr(runs_module, "get_train_job", lambda: SimpleNamespace(current=elsewhere))
    assert train_page().selectbox(key="run-choice").value == elsewhere.name


def test_files_of_another_kind_do_no_harm(runs: Path) -> None:
    run = finished_run(runs)
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "step-abc.pt").write_bytes(b"")
    (run.folder / "log.txt").unlink()
    (run.folder / "log.txt").mkdir()
    (run.folder / "status.json").write_text('{"state": "running", "step": -3, "total_steps": -9}')
    for tab in ("Log", "Adapters"):
        app = train_page(details=tab)
        assert not app.error and "Crashed" in texts(app)


def test_a_run_of_another_process_gives_a_warning_before_a_start(runs: Path) -> None:
    with create_run(runs).writing() as writer:
        write_steps(writer, 1, 10, 40)
        app = train_page()
        assert "Another process is training" in texts(app) and not app.button(key="start").disabled
    assert "Another process is training" not in texts(train_page())


def test_high_layers_are_grouped_by_term() -> None:
    terms = ["presence_loss_aux_0", "presence_loss_aux_1", "loss_ce_o2m", "loss_bbox_aux_2_o2m"]
    words = "presence_loss (layers 1, 2), loss_ce, one-to-many (last layer), loss_bbox, one-to-many (layer 3)"
    assert _by_term(terms).replace("\\", "") == words


def test_the_next_run_says_how_long_it_will_be() -> None:
    config = RunConfig().with_settings({"training.max_steps": 40})
    assert "at most 20 epochs or 40 steps;" in describe(config)
    assert "40 steps in 1 epoch;" in describe(config, TrainPlan(50, 1, 40, 20))
