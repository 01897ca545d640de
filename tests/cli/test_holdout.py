"""Datasets without a validation split from the command line: check, train, resume, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3_lora.errors import ConfigError, DataError
from sam3_lora.runs.run import Run
from tests.cli.helpers import call
from tests.factories import coco, write_dataset, write_split


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))


def arguments(tmp_path: Path, base: Path, data: Path, **settings: object) -> list[str]:
    config = tmp_path / "run.yaml"
    config.write_text(call("config").stdout)
    values = {"model.base": base, "data.path": data, "training.max_steps": 1, "output.runs": tmp_path / "runs"}
    values |= {"training.device": "cpu", **settings}
    return ["train", str(config), *(f"--set={name}={value}" for name, value in values.items())]


@pytest.mark.slow
def test_the_default_configuration_trains_and_evaluates_on_held_out_images(tmp_path: Path, tiny_base: Path) -> None:
    data = write_dataset(tmp_path / "data", ("train",), images=9)
    command = arguments(tmp_path, tiny_base, data, **{"training.seed": 4})
    checked = json.loads(call(*command, "--check", "--json").stdout)
    assert (checked["splits"]["train_images"], checked["splits"]["valid_images"]) == (9, 1)
    assert checked["splits"]["held_out"]["seed"] == 4
    told = call(*command)
    assert "1 of the 10 images of 'train'" in told.output and "seed 4" in told.output
    run = Run.open(next((tmp_path / "runs").iterdir()))
    assert list(run.held_out().images) == checked["splits"]["held_out"]["images"]
    adapter = run.adapters()["best"]
    measured = json.loads(call("evaluate", data, "--adapter", adapter, "--json").stdout)
    assert (measured["images"], measured["trained_on"]) == (1, 0)
    measured = json.loads(call("evaluate", data, "--adapter", adapter, "--split", "train", "--json").stdout)
    assert (measured["images"], measured["trained_on"]) == (10, 9)
    assert "trained-on" in {alarm["kind"] for alarm in measured["alarms"]}
    assert isinstance(call("evaluate", data).exception, DataError), "the base alone has held out nothing"


def test_one_unnamed_folder_of_four_images_trains_without_validation(tmp_path: Path, tiny_base: Path) -> None:
    data = write_split(tmp_path / "data", coco(images=4, empty_images=0))
    told = call(*arguments(tmp_path, tiny_base, data))
    assert told.exit_code == 0 and "no validation" in told.output
    assert set(Run.open(next((tmp_path / "runs").iterdir())).adapters()) == {"last"}


def test_a_split_that_is_not_there_says_which_are(tmp_path: Path, tiny_base: Path) -> None:
    data = write_dataset(tmp_path / "data", ("train", "test"))
    for setting, error in (("data.valid_split", ConfigError), ("data.train_split", DataError)):
        told = call(*arguments(tmp_path, tiny_base, data, **{setting: "nowhere"}))
        assert isinstance(told.exception, error) and "train, test" in str(told.exception)
