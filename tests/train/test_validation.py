"""Validation while training gives the numbers of Evaluate; the best adapter and early stopping follow one of them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.predictions import kinds_asked
from sam3_lora.masks import encode_rle
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.auto_values import describe
from sam3_lora.runs.run import Run
from sam3_lora.train import loop
from sam3_lora.train.checkpoint import Progress, read_checkpoint
from sam3_lora.train.loop import fit
from sam3_lora.train.resolve import resolve
from sam3_lora.train.splits import open_splits
from scripts.scenes import make_scene
from tests.factories import write_dataset, write_split
from tests.train.helpers import request_after, train


def write_scenes(folder, splits):
    """Scenes with shapes, which the demo's model finds; splits: images of each."""
    for seed, (split, images) in enumerate(splits.items()):
        rng = np.random.default_rng(seed)
        scenes = [make_scene(rng) for _ in range(images)]
        kinds = ("circle", "square", "star", "cross", "ring")
        data = {"images": [], "annotations": [], "categories": [{"id": n, "name": one} for n, one in enumerate(kinds)]}
        for number, scene in enumerate(scenes):
            height, width = scene.image.shape[:2]
            entry = {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
            data["images"].append(entry)
            for figure in scene.figures:
                if figure.kind in kinds:
                    rows, columns = np.flatnonzero(figure.mask.any(1)), np.flatnonzero(figure.mask.any(0))
                    corner, end = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
                    box = [int(value) for value in (*corner, end[0] - corner[0], end[1] - corner[1])]
                    where = {"image_id": number, "bbox": box, "segmentation": encode_rle(figure.mask), "iscrowd": 0}
                    named = {"id": len(data["annotations"]), "category_id": kinds.index(figure.kind)}
                    data["annotations"].append(named | where)
        write_split(folder / split, data)
        for number, scene in enumerate(scenes):
            Image.fromarray(scene.image).save(folder / split / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), {"train": 4, "valid": 7})


@pytest.mark.usefixtures("only_steps")
@pytest.mark.parametrize(
    "settings",
    [
        {"data.num_negatives": 0, "training.batch_size": 3, "data.category_phrases": {"circle": "round"}},
        {"data.num_negatives": 2, "lora.components": ["detr_decoder", "scoring"], "data.vision_cache_gb": 1},
    ],
    ids=["asked for Evaluate alone", "asked for the loss, too, and from the cache"],
)
def test_the_numbers_are_those_of_evaluate(scenes, tmp_path, settings):
    fixed = {"data.path": str(scenes), "output.runs": str(tmp_path), "training.device": "cpu", "training.epochs": 2}
    short = {"training.warmup_steps": 0, "training.learning_rate": 1e-3, "lora.rank": 4}
    run = train(RunConfig().with_settings({**fixed, **short, **settings}))
    rows = [row for row in run.metrics()[0] if row["kind"] == "validation"]
    predictor = Predictor.load("demo", run.adapters()["last"], "cpu")
    split = open_dataset(str(scenes)).split("valid")
    own = run.config.data.category_phrases
    report = evaluate(predictor, EvaluationRequest(split, "scenes", "demo", category_phrases=own))
    base, adapter = report.base.metrics, report.adapter.metrics
    assert rows[-1]["f1_50"] == pytest.approx(adapter["f1_50"], abs=1e-6)
    assert rows[-1]["cgf1"] == pytest.approx(adapter["cgf1"], abs=1e-6)
    assert adapter["f1_50"] > 0.1 and adapter["f1_50"] != base["f1_50"], "a number that the base's would not pass for"
    status = run.status()
    name, by = ("cgf1", "cgf1") if settings["data.num_negatives"] else ("f1_50", "f1")
    assert (status.best_by, status.best_value) == (by, max(row[name] for row in rows))
    assert status.best_step == max(rows, key=lambda row: (row[name], -row["total"]))["step"]
    assert status.best_validation_loss == min(row["total"] for row in rows)


def course(by, validations):
    """The numbers of the validations whose adapter is kept as the best; validations: (value, loss)."""
    progress, kept = Progress(best_by=by), []
    for progress.step, (value, loss) in enumerate(validations, start=1):
        if progress.is_best(value, loss):
            kept.append(progress.step)
    assert progress.best_step == (kept[-1] if kept else None)
    assert progress.best_loss == min(loss for _, loss in validations)
    return kept


def test_the_best_is_the_highest_f1_or_the_lowest_loss():
    assert course("f1", [(0.2, 3.0), (0.5, 9.0), (0.4, 1.0), (0.6, 9.0)]) == [1, 2, 4]
    assert course("loss", [(3.0, 3.0), (9.0, 9.0), (3.0, 3.0), (1.0, 1.0)]) == [1, 4]
    assert course("cgf1", [(-0.1, 3.0), (0.0, 3.0)]) == [1, 2]


def test_of_equal_numbers_the_lower_loss_decides():
    assert course("f1", [(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.0, 2.0)]) == [1, 2]


def test_a_number_that_is_not_defined_is_never_the_best():
    assert course("cgf1", [(None, 3.0), (0.1, 4.0), (None, 1.0)]) == [2]


def test_another_number_begins_anew():
    progress = Progress(step=3, best_by="loss", best_loss=2.0, best_step=2, stale_epochs=1)
    assert progress.best_value == 2.0, "as in checkpoints of earlier versions"
    assert not progress.choose_by("loss") and progress.best_step == 2
    assert progress.choose_by("f1")
    assert (progress.best_value, progress.best_step, progress.stale_epochs) == (None, None, 0)
    assert progress.is_best(0.0, 5.0) and progress.best_loss == 2.0


def fake_validations(monkeypatch, values):
    """Validations of the loop with these F1s and losses, one after the other."""
    coming, true = iter(values), loop.validate

    def validate(setup):
        f1, loss = next(coming)
        found = true(setup)
        return dataclasses.replace(found, f1_50=f1, cgf1=f1, loss=dataclasses.replace(found.loss, total=loss))

    monkeypatch.setattr(loop, "validate", validate)


@pytest.mark.usefixtures("only_steps")
@pytest.mark.parametrize(("by", "step", "words"), [("auto", 3, "best cgF1"), ("loss", 5, "best validation loss")])
def test_early_stopping_follows_the_same_number(config, monkeypatch, by, step, words):
    fake_validations(monkeypatch, [(0.5, 9.0), (0.4, 8.0), (0.3, 7.0), (0.2, 7.5), (0.1, 8.0), (0.6, 9.0)])
    settings = {"training.select_best_by": by, "training.patience": 2, "training.max_steps": None}
    run = train(config.with_settings({**settings, "training.epochs": 9, "training.batch_size": 6}))
    status = run.status()
    assert (status.state, status.step) == ("finished", step)
    assert f"2 epochs in a row have not improved the {words}." in status.message
    assert status.best_step == (3 if by == "loss" else 1)
    assert status.best_value == (7.0 if by == "loss" else 0.5) and status.best_validation_loss == 7.0
    card = (run.adapters()["best"] / "README.md").read_text()
    assert f"{words[5:]}: {status.best_value:.4f}, after step {status.best_step}." in card
    assert f"best adapter so far by its {words[5:]}" in card


@pytest.mark.usefixtures("only_steps")
def test_a_loss_that_is_not_finite_is_not_kept_as_best(config, monkeypatch):
    fake_validations(monkeypatch, [(0.9, float("nan"))])
    run = train(config, training__max_steps=1)
    assert set(run.adapters()) == {"last"} and run.status().best_value is None
    assert [row["about"] for row in run.metrics()[0] if row["kind"] == "note"] == ["not-finite-validation"]


@pytest.mark.usefixtures("only_steps")
def test_a_number_that_cannot_be_measured_is_said(config, monkeypatch):
    fake_validations(monkeypatch, [(None, 2.0)])
    run = train(config, training__max_steps=1)
    assert set(run.adapters()) == {"last"} and run.status().best_validation_loss == 2.0
    (note,) = [row for row in run.metrics()[0] if row["kind"] == "note"]
    assert note["about"] == "best-by" and "There is no cgF1" in note["message"]


def without_objects(data):
    for path in data.glob("valid/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))


def with_one_category_everywhere(data):
    for path in data.glob("valid/*.json"):
        content = json.loads(path.read_text())
        content["annotations"] = [{**one, "category_id": 1} for one in content["annotations"]]
        path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "settings", "chosen", "why"),
    [
        (lambda data: None, {}, "cgf1", "cgF1 (auto: there are phrases"),
        (lambda data: None, {"data.num_negatives": 0}, "f1", "F1 (auto: data.num_negatives is 0"),
        (lambda data: None, {"data.num_negatives": 0, "training.select_best_by": "cgf1"}, "cgf1", None),
        (lambda data: None, {"data.valid_split": ""}, "loss", "validation loss (auto: there is no validation)"),
        (without_objects, {"training.select_best_by": "loss"}, "loss", None),
        (without_objects, {"training.select_best_by": "f1"}, "loss", "loss (instead of F1: there is no object"),
        (with_one_category_everywhere, {}, "f1", "F1 (auto: no phrase is absent"),
        (with_one_category_everywhere, {"training.select_best_by": "cgf1"}, "f1", "F1 (instead of cgF1: no phrase"),
    ],
)
def test_what_the_best_is_chosen_by(config, tmp_path, spoil, settings, chosen, why):
    data = write_dataset(tmp_path / "data", images=3, empty_images=0)
    spoil(data)
    asked = config.with_settings({"data.path": str(data), **settings})
    resolved, values = resolve(asked, torch.device("cpu"), open_splits(asked, lambda line: None))
    assert resolved.training.select_best_by == chosen
    said = [describe(value) for value in values if value.setting == "training.select_best_by"]
    assert len(said) == (why is not None) and all(why in one for one in said)


@pytest.mark.usefixtures("only_steps")
def test_without_objects_to_validate_on_the_loss_decides_and_it_is_said(config, tmp_path):
    data = write_dataset(tmp_path / "data", images=3, empty_images=0)
    without_objects(data)
    settings = {"data.path": str(data), "training.max_steps": 1, "output.sample_images": []}
    run = train(config.with_settings(settings))
    assert run.status().best_by == run.config.training.select_best_by == "loss"
    assert run.status().best == run.status().best_validation_loss and set(run.adapters()) == {"best", "last"}
    (note,) = [row for row in run.metrics()[0] if row["kind"] == "note"]
    assert note["about"] == "best-by" and "no object to validate on" in note["message"]
    (row,) = [row for row in run.metrics()[0] if row["kind"] == "validation"]
    assert (row["f1_50"], row["cgf1"]) == (None, None)
    assert run.asked_config.training.select_best_by == "auto"


def test_what_is_asked_of_a_split(tmp_path):
    data = write_dataset(tmp_path / "data", images=3, empty_images=0)
    kinds = {name: kinds_asked(split) for name, split in open_dataset(str(data)).splits.items()}
    assert kinds == {"train": {True, False}, "valid": {True, False}}
    with_one_category_everywhere(data)
    assert kinds_asked(open_dataset(str(data)).split("valid")) == {True}


@pytest.mark.usefixtures("only_steps")
def test_a_run_of_an_earlier_version_goes_on_with_the_best_by_its_loss(config, monkeypatch):
    run = Run.create(config.with_settings({"training.max_steps": 6}))
    with monkeypatch.context() as patch:
        request_after(patch, 3, "stop")  # at the end of an epoch
        fit(run)
    as_written_before(run)
    before = run.status()
    assert before.best is not None and before.best == before.best_validation_loss
    assert fit(run, resume=True).state == "finished"
    status = run.status()
    assert status.best_by == run.config.training.select_best_by == "loss"
    losses = {row["step"]: row["total"] for row in run.metrics()[0] if row["kind"] == "validation"}
    assert (status.best_step, status.best) == min(losses.items(), key=lambda one: one[1])
    assert len(losses) == 2 and "begun by an earlier version" in run.log_tail()
    assert run.asked_config.training.select_best_by == "auto" and run.asked_config.training.batch_size == "auto"


def as_written_before(run):
    """Makes a run's files those of a version that knew no other number than the loss."""
    (path, *_) = run.checkpoints()
    state = read_checkpoint(path)
    for name in ("best_by", "best_value", "best_value_loss"):
        del state["progress"][name]
    torch.save(state, path)
    file = run.folder / "status.json"
    status = json.loads(file.read_text())
    del status["best_by"], status["best_value"]
    file.write_text(json.dumps(status))
    settings = run.folder / "config.yaml"
    lines = settings.read_text().splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if "select_best_by:" not in line))
    chosen = run.folder / "auto.json"
    values = [one for one in json.loads(chosen.read_text()) if one["setting"] != "training.select_best_by"]
    chosen.write_text(json.dumps(values))
    assert run.config.training.select_best_by == "auto"
