"""The controls of the train page: check, pause, stop, requests, rename, delete, compare, continue training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.monitor import healthy_ranges
from sam3_lora.monitor.healthy_ranges import Stage
from sam3_lora.runs.run import Run
from sam3_lora.runs.samples import write_sample
from sam3_lora.train.preflight import preflight
from sam3_lora.ui.train.preflight_view import get_check_job
from tests.factories import write_dataset
from tests.ui.helpers import boxes, texts, train_page
from tests.ui.run_folders import create_run, finished_run, write_adapter, write_steps


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "runs"
    monkeypatch.setenv("SAM3_LORA_RUNS", str(folder))
    yield folder
    get_check_job().forget()  # every page of the process shows the last check


def dialog(name: str, run: Run) -> AppTest:
    """A page that is nothing but one of the dialogs; a click elsewhere would close it on the real one."""

    def script(name: str, folder: str) -> None:
        from pathlib import Path

        from sam3_lora.runs.run import Run
        from sam3_lora.ui.train import controls

        if Path(folder).exists():
            getattr(controls, name)(Run(Path(folder)))

    return AppTest.from_function(script, default_timeout=30, args=(name, str(run.folder))).run()


@pytest.fixture
def running(runs: Path):
    """A run that another process is training."""
    run = create_run(runs)
    with run.writing() as writer:
        write_steps(writer, 1, 10, 40)
        yield run, writer


def test_a_run_of_another_process_is_paused_and_resumed(running) -> None:
    run, writer = running
    app = train_page()
    app.button(key="pause").click().run()
    assert "pause" in run.requests.pending()
    writer.update(force=True, state="paused")
    app.run()
    assert "Paused" in texts(app)
    assert "resume" not in {button.key for button in app.button}
    run.requests.add("validate")
    app.run()
    assert "Requested: validate (in progress)" in texts(app)
    run.requests.remove("validate")
    app.button(key="continue").click().run()
    assert "pause" not in run.requests.pending()


@pytest.mark.parametrize("what", ["validate", "sample", "save"])
def test_a_request_is_made_once_and_shown_until_it_is_done(running, what: str) -> None:
    run, _ = running
    app = train_page()
    app.button(key=what).click().run()
    assert run.requests.pending() == {what}
    assert app.button(key=what).disabled and app.button(key=what).help
    assert f"Requested: {what} (after" in texts(app)
    run.requests.remove(what)
    app.run()
    assert not app.button(key=what).disabled


def test_discarding_a_run_asks_for_confirmation(running) -> None:
    run, _ = running
    app = train_page()
    app.button(key="discard").click().run()
    assert "permanently deleted" in texts(app) and not run.requests.pending()
    dialog("discard_dialog", run).button(key="discard-confirmed-not").click().run()
    assert not run.requests.pending()
    dialog("discard_dialog", run).button(key="discard-confirmed").click().run()
    assert run.requests.pending() == {"discard"} and "Stopping" in texts(train_page())


def test_disabled_buttons_give_the_reason(runs: Path) -> None:
    finished_run(runs)
    app = train_page()
    for key in ("validate", "sample", "save"):
        assert app.button(key=key).disabled and app.button(key=key).help, key


def test_a_run_without_validation_cannot_validate(runs: Path) -> None:
    with create_run(runs, **{"data.valid_split": ""}).writing() as writer:
        write_steps(writer, 1, 2, 40)
        assert "no validation split" in train_page().button(key="validate").help


@pytest.mark.parametrize("in_this_tab", [True, False])
def test_deleting_asks_for_confirmation_and_shows_the_next_run(runs: Path, in_this_tab: bool) -> None:
    older = finished_run(runs, "older")
    older = Run(older.folder.rename(runs / "20250101-101500-older"))
    newer = finished_run(runs, "newer")
    app = train_page()
    app.button(key="delete").click().run()
    assert "permanently deleted" in texts(app) and newer.folder.exists()
    asked = dialog("delete_dialog", newer)
    asked.button(key="delete-confirmed").click().run()
    assert not newer.folder.exists() and older.folder.exists()
    if in_this_tab:  # the dialog ran in a session of its own
        app.session_state["run-deleted"] = asked.session_state["run-deleted"]
    app.run()
    assert app.selectbox(key="run-choice").value == older.name and not app.exception and not app.error
    messages = [toast.value for toast in app.toast]
    assert (messages == []) if in_this_tab else (len(messages) == 1), "no message about a run deleted in this tab"


def test_after_the_last_run_is_deleted_the_page_waits_for_new_ones_again(runs: Path) -> None:
    run = finished_run(runs)
    app = train_page()
    app.button(key="delete").click().run()
    assert app.session_state["controls-dialog-open"], "while the dialog is open nothing closes it"
    run.delete()
    app.run()
    assert "No runs yet" in texts(app) and not app.session_state["controls-dialog-open"]


def test_renaming_keeps_the_run_and_refuses_what_is_no_name(runs: Path) -> None:
    run = finished_run(runs, "before")
    asked = dialog("rename_dialog", run)
    asked.text_input(key="new-name").set_value("a/b").run()
    asked.button(key="rename-confirmed").click().run()
    assert run.folder.exists() and "'a/b' cannot be a run's name" in "".join(boxes(asked))
    asked.text_input(key="new-name").set_value("after that").run()
    asked.button(key="rename-confirmed").click().run()
    assert not asked.exception and not run.folder.exists()
    app = train_page()
    assert app.selectbox(key="run-choice").value.endswith("-after-that") and "Finished" in texts(app)


def test_an_alert_is_shown_on_top_with_cause_and_fix(runs: Path) -> None:
    run = create_run(runs)
    with run.writing() as writer:
        writer.update(force=True, state="running", total_steps=40)
        for step in range(1, 21):
            values = {"objects": 0, "phrases": 8, "negatives": 8, "grad_norm": 0.1, "lr": 1e-4}
            terms = {"loss_mask": 0.0, "presence_loss": 3e-5}
            writer.row(kind="step", step=step, epoch=1, total=3e-5, terms=terms, raw=terms, **values)
        app = train_page()
    (box,) = app.error
    assert "No object reached the loss" in box.value
    assert "annotations were not found" in box.value and "What to do" in box.value


def test_verdicts_are_shown_beside_their_ranges(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(runs)
    ranges = {"loss_mask": (30.0, 60.0), "loss_dice": (0.01, 0.02)}
    monkeypatch.setattr(healthy_ranges, "demo_stages", lambda: (Stage(1, 100, ranges),))
    app = train_page()
    cards = [element.value.replace("\\", "") for element in app.markdown if "-badge[" in element.value]
    assert any("loss_mask" in card and "In range" in card for card in cards)
    assert any("loss_dice" in card and "Above range" in card for card in cards)
    app.toggle(key="diagnosis-all-layers").set_value(True).run()
    table = next(element.value for element in app.markdown if "| Term | Usual" in element.value).splitlines()
    rows = {line.split("**")[1].replace("\\", ""): line for line in table if "**" in line}
    assert "30 to 60" in rows["loss_mask"] and "In range" in rows["loss_mask"]
    assert "Above range" in rows["loss_dice"] and "No range" in rows["loss_bbox"]
    assert "loss_bbox, layer 1" in texts(app)


def test_samples_over_time_begin_with_the_base_model_and_follow_the_newest(runs: Path) -> None:
    run = finished_run(runs)

    def sample(step: int) -> None:
        write_sample(run.folder / "samples", step, 0, "a.png", np.zeros((8, 8, 3), np.uint8), found=step, objects=9)

    sample(0)
    app = train_page()
    assert "Base model" in texts(app) and "0 predicted" in texts(app)
    sample(5)
    app.run()
    assert "5 predicted" in texts(app)
    sample(7)
    app.run()
    assert "7 predicted" in texts(app), "a slider at its end stays there"
    app.select_slider(f"sample-step-{run.name}").set_value(0).run()
    assert "0 predicted" in texts(app)


def test_two_runs_are_compared_with_the_settings_that_differ(runs: Path) -> None:
    other = create_run(runs, "other", **{"lora.rank": 5})
    with other.writing() as writer:
        write_steps(writer, 1, 5, 5)
        writer.update(force=True, state="stopped")
    run = finished_run(runs)
    app = train_page(run=run.name, details="Compare")
    app.multiselect(key="compare-with").set_value([other.name]).run()
    assert not app.exception and not app.error
    differing = next(frame.value for frame in app.dataframe if "Setting" in frame.value.columns)
    assert list(differing["Setting"]) == ["lora.rank"]
    assert set(differing.iloc[0]) >= {"5", "16"}


@pytest.mark.parametrize(
    ("proof", "words"),
    [("ok", "Reload check passed"), ("scores differ by up to 0.2", "scores differ"), ("", "at the end of the run")],
)
def test_the_result_of_the_reload_check_is_shown(runs: Path, proof: str, words: str) -> None:
    run = finished_run(runs)
    with run.writing() as writer:
        writer.update(force=True, state="finished", reload_proof=proof)
    app = train_page(details="Adapters")
    assert words in texts(app) + "".join(boxes(app))


def test_a_new_run_can_continue_from_an_adapter_or_start_from_scratch(runs: Path) -> None:
    run = finished_run(runs, "first")
    write_adapter(run, "last")
    app = train_page(details="Adapters")
    app.button(key="continue-training-last").click().run()
    assert f"Continues training from {run.name}/adapters/last." in texts(app)
    app.button(key="start-from-scratch").click().run()
    assert "Continues training from" not in texts(app)


def test_a_check_shows_what_a_run_needs_and_whether_the_settings_are_still_those(
    runs: Path,
    tiny_base,
    tmp_path: Path,
) -> None:
    get_check_job.clear()
    dataset = write_dataset(tmp_path / "data", images=5, empty_images=1)
    settings = {"model.base": str(tiny_base), "data.path": str(dataset), "lora.rank": 4, "training.device": "cpu"}
    create_run(runs, "small", **settings)  # the next run takes over the newest one's settings
    app = train_page()
    app.button(key="check").click().run()
    assert app.button(key="start").disabled and app.button(key="start").help
    assert get_check_job().wait(240)
    app.run()
    (result,) = (expander for expander in app.expander if "Ready to start" in expander.label)
    assert {metric.label for metric in result.metric} == {
        "Estimated time",
        "Seconds per step",
        "Steps",
        "Memory",
        "Largest batch",
    }
    receipt = result.dataframe[0].value
    assert (receipt["Gradient norm"] > 0).all() and (receipt["Modules"] > 0).all()
    assert any("only 6 images" in box for box in boxes(app)), "warnings stand apart from errors"
    assert not app.button(key="start").disabled

    app.switch_page("pages/configure.py").run()
    app.number_input(key="setting-lora-rank").set_value(2).run()
    app.switch_page("pages/train.py").run()
    assert any("Settings changed since" in expander.label for expander in app.expander)


def test_a_check_can_be_cancelled_and_says_so(runs: Path, tiny_base, tmp_path: Path, monkeypatch) -> None:
    get_check_job.clear()
    dataset = write_dataset(tmp_path / "data", images=2)
    create_run(runs, "small", **{"model.base": str(tiny_base), "data.path": str(dataset), "training.device": "cpu"})
    loading, go_on, prepare = threading.Event(), threading.Event(), preflight.prepare

    def load(*args, **options):
        loading.set()
        assert go_on.wait(60)
        return prepare(*args, **options)

    monkeypatch.setattr(preflight, "prepare", load)
    app = train_page()
    app.button(key="check").click().run()
    assert loading.wait(60)
    app.button(key="cancel-check").click().run()
    assert app.button(key="cancel-check").disabled and app.button(key="start").disabled
    go_on.set()
    assert get_check_job().wait(120)
    app.run()
    assert "Check cancelled" in texts(app) and not app.button(key="start").disabled


def test_a_check_with_an_error_shows_it_and_disables_the_start(runs: Path) -> None:
    get_check_job.clear()
    create_run(runs, "nowhere", **{"data.path": "/nowhere/at/all"})
    app = train_page()
    app.button(key="check").click().run()
    assert get_check_job().wait(240)
    app.run()
    assert any("1 error" in expander.label for expander in app.expander)
    (box,) = (box for box in app.error if "/nowhere/at/all" in box.value)
    assert not box.value.startswith("-"), "a single problem is not a list"
    assert app.button(key="start").disabled and app.button(key="start").help
