"""Which images a run trains and validates on, where the dataset has a split for that and where it has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.splits.split_use import expected_use
from sam3_lora.errors import ConfigError, DataError, Sam3LoraError
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from sam3_lora.train.preflight import preflight
from sam3_lora.train.splits import Splits, open_splits
from tests.factories import coco, write_dataset, write_split
from tests.train.helpers import train


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))


def splits_of(folder: Path, **settings: object) -> Splits:
    names = {name.replace("__", "."): value for name, value in settings.items()}
    return open_splits(RunConfig().with_settings({"data.path": str(folder), **names}), lambda line: None)


def write_yolo(folder: Path, parts: list[str]) -> Path:
    """A YOLO dataset of boxes; parts: "train" for images/train and labels/train, "" for images and labels."""
    for part in parts:
        for data in (write_split(folder / "images" / part, coco(images=9, empty_images=1)),):
            (data / "_annotations.coco.json").unlink()
        (folder / "labels" / part).mkdir(parents=True)
        for image in (folder / "images" / part).glob("*.png"):
            (folder / "labels" / part / f"{image.stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("names: [crack]\ntrain: images/train\nval: images/train\n")
    return folder


def only_train(folder: Path) -> Path:
    return write_dataset(folder, ("train",), images=9)


def train_and_test(folder: Path) -> Path:
    return write_dataset(folder, ("train", "test"), images=9)


def one_unnamed_folder(folder: Path) -> Path:
    return write_split(folder, coco(images=9))


def one_split_with_a_name_of_its_own(folder: Path) -> Path:
    return write_dataset(folder, ("photos",), images=9)


def an_empty_validation_split(folder: Path) -> Path:
    write_split(folder / "valid", coco(images=0, empty_images=0))
    return only_train(folder)


def yolo_only_train(folder: Path) -> Path:
    return write_yolo(folder, ["train"])


def yolo_flat(folder: Path) -> Path:
    return write_yolo(folder, [""])


@pytest.mark.parametrize(
    "write",
    [
        only_train,
        train_and_test,
        one_unnamed_folder,
        one_split_with_a_name_of_its_own,
        an_empty_validation_split,
        yolo_only_train,
        yolo_flat,
    ],
)
def test_without_a_validation_split_a_share_is_held_out(tmp_path: Path, write) -> None:
    folder = write(tmp_path / "data")
    splits = splits_of(folder)
    assert splits.valid is not None and splits.held_out is not None
    assert (len(splits.train.images), len(splits.valid.images), splits.held_out.of) == (9, 1, 10)
    assert not set(splits.train.images.names) & set(splits.valid.images.names)
    expected = expected_use(open_dataset(folder), RunConfig().data, seed=0)
    assert expected.is_estimate and (expected.train_images, expected.valid_images) == (9, 1)


@pytest.mark.parametrize("name", ["valid", "val", "validation", "dev", "Val"])
def test_the_default_finds_a_validation_split_by_its_usual_names(tmp_path: Path, name: str) -> None:
    splits = splits_of(write_dataset(tmp_path / "data", ("train", name)))
    assert splits.valid is not None and (splits.valid.name, splits.held_out) == (name, None)
    assert splits_of(tmp_path / "data", data__valid_split="holdout").valid.name != name


@pytest.mark.parametrize("name", ["Train", "training", "TRAIN"])
def test_the_default_finds_the_training_split(tmp_path: Path, name: str) -> None:
    assert splits_of(write_dataset(tmp_path / "data", (name, "valid"))).train.name == name


@pytest.mark.parametrize(
    ("there", "settings", "named"),
    [
        (("train", "test"), {"data__valid_split": "eval"}, ["train", "test"]),
        (("train", "test"), {"data__valid_split": "val"}, ["train", "test"]),
        (("train", "valid"), {"data__train_split": "trian"}, ["train", "valid"]),
        (("test",), {}, ["test"]),
        (("val",), {}, ["val"]),
        (("one", "two"), {}, ["one", "two"]),
    ],
)
def test_a_split_that_is_not_there_says_which_are(tmp_path: Path, there, settings, named) -> None:
    folder = write_dataset(tmp_path / "data", there)
    with pytest.raises(Sam3LoraError) as raised:
        splits_of(folder, **settings)
    assert ", ".join(named) in raised.value.message and raised.value.fix


def test_fewer_than_five_images_are_trained_on_without_validation(config: RunConfig, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", ("train",), images=3, empty_images=1)
    config = config.with_settings({"data.path": str(data), "training.max_steps": 1, "output.sample_images": []})
    checked = preflight.preflight(config)
    assert checked.ok and checked.splits.held_out.obstacle == "few-images"
    assert "no-validation" in {problem.kind for problem in checked.problems}
    run = train(config)
    assert set(run.adapters()) == {"last"} and run.held_out().obstacle == "few-images"
    assert [row["about"] for row in run.metrics()[0] if row["kind"] == "note"] == ["held-out"]
    assert run.held_out().split == "train" and "no validation" in run.log_tail()
    with pytest.raises(ConfigError, match=r"training\.patience"):
        fit(Run.create(config.with_settings({"training.patience": 2})))


@pytest.mark.parametrize("settings", [{"data.valid_split": ""}, {"data.holdout": 0}])
def test_nothing_is_held_out_where_nothing_is_wanted(tmp_path: Path, settings: dict[str, object]) -> None:
    splits = splits_of(only_train(tmp_path / "data"), **{n.replace(".", "__"): v for n, v in settings.items()})
    assert (splits.valid, splits.held_out, len(splits.train.images)) == (None, None, 10)


def test_a_run_says_what_it_holds_out_and_goes_on_with_the_same(config: RunConfig, tmp_path: Path) -> None:
    data = only_train(tmp_path / "data")
    settings = {"data.path": str(data), "training.max_steps": 1, "data.holdout": 0.3, "output.sample_images": []}
    checked = preflight.preflight(config.with_settings(settings))
    run = train(config.with_settings(settings))
    held_out = run.held_out()
    assert len(held_out.images) == 3 and checked.splits.held_out == held_out, "the check holds out the same"
    assert set(run.adapters()) == {"best", "last"}
    assert "3 of the 10 images of 'train'" in run.log_tail() and "seed 0" in run.log_tail()
    assert "7 images" in (run.adapters()["best"] / "README.md").read_text()
    shown = [sample.image for sample in run.samples()]
    assert shown and set(shown) <= set(held_out.images)

    # Another seed, more images, even a validation split by now: the run keeps to its own images.
    path = run.folder / "config.yaml"
    text = path.read_text().replace("seed: 0", "seed: 5").replace("max_steps: 1", "max_steps: 2")
    path.write_text(text)
    write_split(data / "valid", coco(seed=1))
    assert fit(run, resume=True).state == "finished"
    assert run.held_out() == held_out
    assert "changed" not in run.log_tail()


def test_a_run_that_continues_an_adapter_holds_out_what_its_run_did(config: RunConfig, tmp_path: Path) -> None:
    data = only_train(tmp_path / "data")
    settings = {"data.path": str(data), "training.max_steps": 1, "output.sample_images": []}
    first = train(config.with_settings(settings))
    more = {**settings, "training.seed": 7, "model.adapter": str(first.adapters()["last"])}
    second = train(config.with_settings(more))
    assert second.held_out().images == first.held_out().images
    assert second.held_out().taken_from == first.name
    everything = train(config.with_settings({**settings, "data.valid_split": ""}))
    knowing = train(config.with_settings({**settings, "model.adapter": str(everything.adapters()["last"])}))
    assert knowing.held_out().known_from == everything.name and knowing.held_out().images
    other = write_dataset(tmp_path / "other", ("train",), images=9, objects=3)
    third = train(config.with_settings({**more, "data.path": str(other)}))
    assert third.held_out().taken_from == ""


def test_a_run_whose_validation_split_is_gone_does_not_validate_on_trained_images(
    config: RunConfig, tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "data", images=6)
    run = train(config.with_settings({"data.path": str(data), "training.max_steps": 1}))
    (data / "valid").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="valid"):
        fit(run, resume=True)


def test_a_run_whose_held_out_images_are_gone_says_so(config: RunConfig, tmp_path: Path) -> None:
    data = only_train(tmp_path / "data")
    run = train(config.with_settings({"data.path": str(data), "training.max_steps": 1, "output.sample_images": []}))
    for name in run.held_out().images:
        (data / "train" / name).unlink()
    with pytest.raises(DataError, match="held out"):
        fit(run, resume=True)
    stored = run.folder / "held_out.json"
    stored.write_text(json.dumps({"split": "train"}))
    with pytest.raises(Sam3LoraError, match="held_out"):
        fit(run, resume=True)


def test_taught_are_the_phrases_with_objects_to_learn_from(tmp_path: Path) -> None:
    names = ("Crack", "pot-hole", "joint", "crowd only", "_", "in valid only")
    data = coco(images=2, objects=5, empty_images=0, categories=names)
    for number, one in enumerate(data["annotations"]):
        one["category_id"] = data["categories"][number % 5]["id"]
        one["iscrowd"] = int(number % 5 == 3)
    write_split(tmp_path / "train", data)
    write_split(tmp_path / "valid", coco(seed=1, categories=names))
    splits = splits_of(tmp_path)
    assert set(splits.taught_phrases({})) == {"crack", "pot hole", "joint"}
    assert splits.taught_phrases(dict.fromkeys(names, "Road  Damage")) == ("road damage",)
