"""Splits as choices: on the configure page from the dataset, on the others as a run has used them."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.config import HOLDOUT, RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.splits.holdout import hold_out
from sam3_lora.runs.run import Run
from sam3_lora.ui.split_choices import train_choices, valid_choices
from sam3_lora.ui.state import RUN_CONFIG
from tests.factories import write_dataset
from tests.ui.helpers import dataset_page, new_app, open_sections, texts
from tests.ui.run_folders import write_adapter

VALID = "setting-data-valid_split"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def configure(path: Path) -> AppTest:
    app = open_sections(new_app())
    app.switch_page("pages/configure.py").run()
    app.text_input(key="setting-data-path").set_value(str(path)).run()
    assert not app.exception
    return app


@pytest.mark.parametrize(
    ("splits", "current", "values"),
    [
        (("train", "valid"), "valid", ["valid", HOLDOUT, ""]),
        (("train", "val"), "valid", ["valid", HOLDOUT, ""]),
        (("train", "val"), "val", ["val", HOLDOUT, ""]),
        (("train", "val", "test"), HOLDOUT, ["valid", "test", HOLDOUT, ""]),
        (("train",), "valid", ["valid", ""]),
        (("train", "test"), "valid", ["test", "valid", ""]),
        (("train", "test"), "eval", ["test", "valid", "", "eval"]),
        (("train",), "train", ["train", "valid", ""]),
        (("train",), "", ["valid", ""]),
    ],
)
def test_choices_mean_each_thing_once(tmp_path: Path, splits: tuple[str, ...], current: str, values: list[str]) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "data", splits, images=1))
    choices = valid_choices(dataset, "train", current, 0.1)
    assert list(choices) == values
    assert len(set(choices.values())) == len(choices)
    assert list(train_choices(dataset, "train")) == list(splits)
    assert list(train_choices(dataset, "trian")) == ["train", *splits[1:], "trian"]
    assert current in valid_choices(None, "train", current, 0.1)


def test_the_form_offers_the_splits_and_says_what_is_used(tmp_path: Path) -> None:
    with_split = write_dataset(tmp_path / "split", ("train", "val", "test"), images=9)
    without = write_dataset(tmp_path / "none", ("train",), images=9)
    app = configure(without)
    assert app.selectbox(key=VALID).options == ["Held out from train (10 %)", "None"]
    assert "About 1 of the 10 images of 'train' is held out" in texts(app)
    app.text_input(key="setting-data-path").set_value(str(with_split)).run()
    assert app.selectbox(key=VALID).options[0] == "val (10 images)"
    assert "validated on the 10 images of 'val'" in texts(app)
    app.selectbox(key=VALID).select(HOLDOUT).run()
    app.number_input(key="setting-data-holdout").set_value(0.3).run()
    assert "About 3 of the 10 images" in texts(app)
    config = app.session_state[RUN_CONFIG]
    assert (config.data.valid_split, config.data.holdout) == (HOLDOUT, 0.3)
    app.switch_page("pages/train.py").run()
    assert "About 3 of the 10 images" in texts(app)


def test_a_dataset_that_cannot_be_opened_keeps_the_form(tmp_path: Path) -> None:
    app = configure(tmp_path / "nowhere")
    assert "There is no folder" in texts(app)
    assert app.selectbox(key=VALID).value == "valid"
    app.switch_page("pages/train.py").run()
    assert not app.exception


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Run:
    data = write_dataset(tmp_path / "data", ("train", "test"), images=9)
    run = Run.create(RunConfig().with_settings({"data.path": str(data), "output.runs": str(runs)}))
    run.write_held_out(hold_out(open_dataset(data).split("train"), 0.3, 0))
    write_adapter(run, "best")
    return run


def test_a_run_with_held_out_images_is_evaluated_on_them(run: Run) -> None:
    app = dataset_page().run()
    app.text_input(key="path").set_value(run.config.data.path).run()
    app.switch_page("pages/evaluate.py").run()
    choice = app.selectbox(key="measured_split")
    assert (choice.value, choice.options[0]) == (HOLDOUT, "train (held out)")
    assert "of these images" not in texts(app)
    choice.select("train").run()
    assert "was trained on 7 of these images" in texts(app)
    app.selectbox(key="measured_split").select("test").run()
    assert "of these images" not in texts(app) and not app.exception


def test_the_dataset_page_shows_what_a_run_holds_out(run: Run) -> None:
    app = dataset_page().run()
    app.text_input(key="path").set_value(run.config.data.path).run()
    app.selectbox(key="held_out_by").select(run.name).run()
    assert "3 of 10 images" in texts(app)
    shown = {button.label.replace("\\", "") for button in app.button if button.key.startswith("open-")}
    assert shown & {*run.held_out().images} == {*run.held_out().images}
    app.button(key="clear-filters").click().run()
    assert app.selectbox(key="held_out_by").value is None


def test_the_train_page_says_what_a_run_holds_out(run: Run) -> None:
    app = new_app()
    app.switch_page("pages/train.py").run()
    assert "3 of the 10 images of 'train' are held out" in texts(app)
