"""Images that cannot be decoded do not end a run: each is left out, noted once and counted; if none can, it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam3_lora.config import Negatives, RunConfig
from sam3_lora.errors import DataError
from sam3_lora.evaluate.validation_loss import mean_loss, validation_loader
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from sam3_lora.train.preflight.checks import check_images
from sam3_lora.train.splits import Splits, open_splits
from tests.factories import tiny_processor, write_dataset
from tests.train.helpers import request_after, steps, totals, train


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BREAK: dict[str, Callable[[Path], object]] = {
    "cut_off": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "pipe": make_pipe,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", images=6, empty_images=0)


@pytest.fixture
def own_config(config: RunConfig, data: Path) -> RunConfig:
    """Three steps of two images: each image once."""
    return config.with_settings({"data.path": str(data), "training.max_steps": 3, "training.batch_size": 2})


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def left_out(run: Run) -> list[list[str]]:
    """The images of the notes about left-out images."""
    return [row["images"] for row in run.metrics()[0] if row.get("about") == "image-left-out"]


def break_while_training(patch: pytest.MonkeyPatch, **how: Path) -> None:
    """Breaks images, each in its way, once the dataset has been opened and the run begins."""

    def open_then_break(*args: Any, **options: Any) -> Splits:
        splits = open_splits(*args, **options)
        for name, path in how.items():
            BREAK[name](path)
        return splits

    patch.setattr("sam3_lora.train.splits.open_splits", open_then_break)


@pytest.mark.usefixtures("only_steps")
def test_a_run_goes_on_without_images_that_break(own_config, data, monkeypatch):
    broken = dict(zip(BREAK, images(data / "train"), strict=False))
    break_while_training(monkeypatch, **broken)
    run = train(own_config, training__max_steps=6, training__epochs=2)
    assert run.status().state == "finished" and run.status().left_out_images == len(BREAK)
    assert sorted(left_out(run)) == sorted([path.name] for path in broken.values()), "once, not in each epoch"
    assert len(steps(run)) == 6 and run.log_tail().count("left out") == len(BREAK)


@pytest.mark.usefixtures("only_steps")
@pytest.mark.slow
def test_workers_and_a_resumed_run_take_the_same_images_instead(own_config, data, monkeypatch):
    for path in images(data / "train")[:2]:
        path.write_bytes(b"no image")
    config = own_config.with_settings({"training.max_steps": 6, "training.epochs": 2})
    whole = train(config)
    assert len(left_out(whole)) == 2
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        resumed = train(config, data__num_workers=1)
    assert fit(resumed, resume=True).left_out_images == 2
    assert totals(resumed) == totals(whole) and sorted(left_out(resumed)) == sorted(left_out(whole))


@pytest.mark.usefixtures("only_steps")
def test_a_run_ends_in_a_sentence_if_no_image_can_be_loaded(own_config, data, monkeypatch):
    splits = open_splits(own_config, lambda line: None)
    for path in images(data / "train"):
        BREAK["cut_off"](path)
    monkeypatch.setattr("sam3_lora.train.splits.open_splits", lambda *args, **options: splits)
    run = Run.create(own_config)
    with pytest.raises(DataError, match="resume the run"):
        fit(run)
    assert run.status().state == "failed" and "cannot be decoded" in run.status().message


def test_validation_samples_and_reload_check_go_without_it(own_config, data, monkeypatch):
    validated = images(data / "valid")
    break_while_training(monkeypatch, cut_off=validated[0])
    run = train(own_config)
    assert run.status().state == "finished" and run.status().reload_proof == "ok"
    assert left_out(run) == [[validated[0].name]]
    (row,) = [row for row in run.metrics()[0] if row["kind"] == "validation"]
    assert row["total"] > 0


def test_nothing_left_to_validate_on_is_an_error(own_config, data):
    splits = open_splits(own_config, lambda line: None)
    for path in images(data / "valid"):
        BREAK["gone"](path)
    loader = validation_loader(splits.valid.images, tiny_processor(), splits.categories, Negatives(1), batch_size=1)
    left = []
    with pytest.raises(DataError, match="validate on"):
        mean_loss(loader, lambda batch: pytest.fail("there is no batch"), left.append)
    assert [one.file_name for one in left] == [image.file_name for image in splits.valid.images]


@pytest.mark.usefixtures("only_steps")
def test_the_vision_cache_is_filled_without_it(own_config, data, monkeypatch):
    broken = images(data / "train")[1]
    break_while_training(monkeypatch, empty=broken)
    run = train(own_config, lora__components=["detr_decoder"], data__vision_cache_gb=1)
    assert "once per image" in run.log_tail()
    assert run.status().state == "finished" and left_out(run) == [[broken.name]]


def test_the_check_counts_them(own_config, data):
    splits = open_splits(own_config, lambda line: None)
    assert list(check_images(splits)) == []
    broken = [images(data / "train")[1], images(data / "valid")[0]]
    for path in broken:
        BREAK["cut_off"](path)
    (problem,) = check_images(splits)
    count = len(images(data / "train")) + len(images(data / "valid"))
    assert (problem.kind, problem.severity, problem.value, problem.limit) == ("unreadable-images", "warning", 2, count)
    assert sorted(problem.names) == sorted(path.name for path in broken)
    for path in {*images(data / "train"), *images(data / "valid")} - {*broken}:
        BREAK["empty"](path)
    assert [problem.severity for problem in check_images(splits)] == ["error"]
    assert list(check_images(splits, seconds=-1)) == [], "no image is opened beyond the time"
