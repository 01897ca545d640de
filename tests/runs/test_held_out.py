"""Which images an adapter is measured on, and how many of them it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam3_lora.config import HOLDOUT, RunConfig
from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.splits.holdout import hold_out
from sam3_lora.errors import DataError
from sam3_lora.runs.held_out import count_trained_on, held_out_split, split_to_evaluate
from sam3_lora.runs.run import Run
from tests.factories import write_dataset


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))


def run_on(data: Path, runs: Path, **settings: object) -> Run:
    return Run.create(RunConfig().with_settings({"data.path": str(data), "output.runs": str(runs), **settings}))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", ("train", "test"), images=9)


@pytest.fixture
def dataset(data: Path) -> Dataset:
    return open_dataset(data)


@pytest.fixture
def run(data: Path, dataset: Dataset, tmp_path: Path) -> Run:
    run = run_on(data, tmp_path / "runs")
    run.write_held_out(hold_out(dataset.split("train").present(), 0.3, 0))
    return run


@pytest.mark.parametrize("name", ["valid", HOLDOUT])
def test_what_the_run_held_out_is_measured_on(dataset: Dataset, run: Run, name: str) -> None:
    split = split_to_evaluate(dataset, name, run)
    assert set(split.images.names) == set(run.held_out().images)
    assert count_trained_on(dataset, str(dataset.root), split, run) == 0


def test_an_adapter_that_knew_the_held_out_images_before_is_told(dataset: Dataset, run: Run) -> None:
    run.write_held_out(replace(run.held_out(), known_from="earlier"))
    assert count_trained_on(dataset, str(dataset.root), held_out_split(dataset, run), run) == 3


def test_in_another_place_the_same_images_are_measured_on(data: Path, run: Run) -> None:
    moved = open_dataset(data.rename(data.with_name("moved")))
    assert len(held_out_split(moved, run).images) == 3
    assert count_trained_on(moved, str(moved.root), moved.split("train"), run) == 7


def test_images_that_were_trained_on_are_counted(dataset: Dataset, run: Run) -> None:
    counts = {name: count_trained_on(dataset, str(dataset.root), split, run) for name, split in dataset.splits.items()}
    assert counts == {"train": 7, "test": 0}


def test_a_run_with_a_split_to_validate_on_was_trained_on_all_of_the_other(data: Path, tmp_path: Path) -> None:
    run, dataset = run_on(data, tmp_path / "runs", **{"data.valid_split": "test"}), open_dataset(data)
    assert count_trained_on(dataset, f"{data}/../data", dataset.split("train"), run) == 10
    assert count_trained_on(dataset, str(data), dataset.split("test"), run) == 0
    other = open_dataset(write_dataset(tmp_path / "other", ("train",)))
    assert count_trained_on(other, str(other.root), other.split("train"), run) == 0


def test_another_dataset_has_nothing_held_out(run: Run, tmp_path: Path) -> None:
    other = open_dataset(write_dataset(tmp_path / "other", ("train",), images=9, objects=3))
    assert held_out_split(other, run) is None
    for name in ("valid", HOLDOUT):
        with pytest.raises(DataError) as raised:
            split_to_evaluate(other, name, run)
        assert "train" in raised.value.message + raised.value.fix


@pytest.mark.parametrize("name", ["val", "dev", "Validation"])
def test_the_default_finds_a_validation_split_by_its_usual_names(tmp_path: Path, run: Run, name: str) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "other", ("train", name)))
    assert split_to_evaluate(dataset, "valid", run).name == split_to_evaluate(dataset, "valid", None).name == name
