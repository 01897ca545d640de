"""fit() on a tiny dataset: what a run leaves behind, that it learns, that it can be stopped and resumed."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file

from sam3_lora.config import ReplayConfig, RunConfig
from sam3_lora.errors import ConfigError, DataError, RunError, TrainingError
from sam3_lora.runs.run import Run, effective_rows
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.data_loaders import epoch_order
from sam3_lora.train.loop import fit
from sam3_lora.train.optimizer import make_plan
from sam3_lora.train.resolve import resolve
from sam3_lora.train.setup import prepare
from sam3_lora.ui.train_job import TrainJob
from tests.factories import coco, write_dataset, write_split
from tests.train.helpers import request_after, steps, totals, train


def test_a_run_leaves_everything_behind(config):
    run = train(config)
    rows = steps(run)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert sum(row["terms"].values()) == pytest.approx(row["total"], rel=1e-4)
        assert row["terms"].keys() == row["raw"].keys()
        assert row["grad_norm"] > 0
    validations = [row for row in run.metrics()[0] if row["kind"] == "validation"]
    assert [row["step"] for row in validations] == [3, 4]  # the epoch's end, and the run's
    status = run.status()
    assert (status.state, status.step, status.total_steps) == ("finished", 4, 4)
    assert status.best_validation_loss == min(row["total"] for row in validations)
    assert set(run.adapters()) == {"best", "last"}


def test_a_run_learns_and_only_the_adapter_changes(config):
    run = train(config, training__max_steps=24, training__learning_rate=2e-3, lora__dropout=0.0)
    losses = totals(run)
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    weights = load_file(run.adapters()["last"] / "adapter_model.safetensors")
    assert all("lora" in name for name in weights)
    # Without example boxes the geometry encoder's self-attention sees one token, so its queries and keys stay as they
    # are; every component as a whole must have learned.
    learned = {name.split(".")[2] for name, weight in weights.items() if "lora_B" in name and weight.abs().sum() > 0}
    assert learned == {name.replace("scoring", "dot_product_scoring") for name in config.lora.components}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(config):
    assert totals(train(config)) == totals(train(config))
    assert totals(train(config)) != totals(train(config, training__seed=1))


@pytest.mark.parametrize("every", [0, 1])
def test_a_stopped_and_resumed_run_equals_an_unbroken_one(config, every, monkeypatch):
    whole = train(config, training__max_steps=6)
    run = Run.create(config.with_settings({"training.max_steps": 6, "training.checkpoint_every": every}))
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        assert fit(run).state == "stopped"
    assert run.resume_obstacle() is None
    assert fit(run, resume=True).state == "finished"
    assert totals(run) == pytest.approx(totals(whole), rel=1e-6)
    assert run.resume_obstacle() is not None


def test_a_run_that_breaks_leaves_its_last_checkpoint(config, monkeypatch):
    from sam3_lora.train import loop

    original, taken = loop.take_step, []

    def break_in_the_third_step(setup, group, **kwargs):
        taken.append(1)
        if len(taken) == 3:
            raise RuntimeError("a bug")
        return original(setup, group, **kwargs)

    monkeypatch.setattr(loop, "take_step", break_in_the_third_step)
    run = Run.create(config.with_settings({"training.checkpoint_every": 2, "training.batch_size": 1}))
    with pytest.raises(RuntimeError, match="a bug"):
        fit(run)
    assert run.status().state == "failed"
    assert read_checkpoint(run.checkpoints()[0])["progress"]["step"] == 2
    assert run.resume_obstacle() is None


def test_a_checkpoint_that_does_not_fit_is_refused_and_kept(config):
    run = train(config, training__max_steps=2)
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("max_steps: 2", "max_steps: 9").replace("rank: 4", "rank: 1"))
    with pytest.raises(RunError, match="cannot be used"):
        fit(run, resume=True)
    assert run.status().state == "failed" and run.status().step == 2
    assert read_checkpoint(run.checkpoints()[0])["progress"]["step"] == 2


def test_a_run_resumes_on_a_dataset_that_has_shrunk(config):
    run = train(config, training__max_steps=2, training__batch_size=1)  # an epoch has six steps
    path = run.folder / "config.yaml"
    text = path.read_text().replace("max_steps: 2", "max_steps: 6").replace("batch_size: 1", "batch_size: 6")
    path.write_text(text)
    assert fit(run, resume=True).state == "finished"
    assert steps(run)[-1]["step"] == 6


def test_accumulation_adds_up_batches_before_a_step(config):
    run = train(config, training__batch_size=1, training__gradient_accumulation_steps=3, training__max_steps=2)
    assert run.status().total_steps == 2
    assert len(steps(run)) == 2
    # Six images in groups of three batches of one: an epoch is two steps.
    assert [row["epoch"] for row in steps(run)] == [1, 1]


# Each setting, a value unlike the quick default, and where its effect must show.
EFFECTS = [
    ("data.num_negatives", 3, "total"),
    ("data.min_foreign", 1, "total"),
    ("augmentation.flip", "both", "total"),
    ("augmentation.scale_min", 0.5, "total"),
    ("augmentation.crop_min", 0.5, "total"),
    ("augmentation.rotation", 20.0, "total"),
    ("augmentation.color_jitter", 0.5, "total"),
    ("augmentation.hue", 0.5, "total"),
    ("augmentation.boxes_added", 1.0, "total"),
    ("augmentation.word_dropped", 1.0, "total"),
    ("lora.rank", 8, "total"),
    ("lora.alpha", 128.0, "total"),
    ("lora.dropout", 0.5, "total"),
    ("lora.rslora", True, "total"),
    ("lora.dora", True, "total"),
    ("lora.components", ["scoring"], "total"),
    ("lora.modules", ["q_proj"], "total"),
    ("loss.loss_bbox", 0.0, "total"),
    ("loss.loss_giou", 0.0, "total"),
    ("loss.loss_ce", 0.0, "total"),
    ("loss.presence_loss", 0.0, "total"),
    ("loss.loss_mask", 0.0, "total"),
    ("loss.loss_dice", 0.0, "total"),
    ("loss.o2m_weight", 0.0, "total"),
    ("loss.pos_weight", 1.0, "total"),
    ("training.batch_size", 3, "total"),
    ("training.gradient_accumulation_steps", 2, "total"),
    ("training.learning_rate", 5e-3, "total"),
    ("training.vision_lr_factor", 0.1, "total"),
    ("training.layer_decay", 0.1, "total"),
    ("training.weight_decay", 1.0, "total"),
    ("training.max_grad_norm", 1e-6, "total"),
    ("training.precision", "bf16", "total"),
    ("training.schedule", "constant", "lr"),
    ("training.warmup_steps", 0, "lr"),
]


# Settings whose effect other tests show: which data, model, length, place and processes.
SHOWN_ELSEWHERE = {
    "data.path",
    "data.train_split",
    "data.valid_split",
    "data.holdout",
    "data.num_workers",
    "data.crowds_as_objects",
    "data.edits",  # tests/runs: test_edits.py
    "data.tiles",  # test_tiles.py
    "data.tile_overlap",
    "data.vision_cache_gb",  # test_vision_cache.py
    "data.category_phrases",
    "data.refused_phrases",  # tests/data: test_prompts.py
    *(f"replay.{name}" for name in ReplayConfig.model_fields),  # test_replay.py
    "data.image_dir",  # the next test
    "data.default_phrase",
    "model.base",
    "model.processor",  # tests/model: test_base.py
    "model.image_size",  # tests/model: test_image_size.py
    "model.adapter",
    "model.gradient_checkpointing",
    "model.compile",  # tests/train/test_compile.py
    "loss.normalization",  # tests/loss: two processes
    "training.epochs",
    "training.max_steps",
    "training.device",
    "training.seed",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.select_best_by",  # test_validation.py
    "training.patience",  # there, too
    "output.runs",
    "output.name",
    "output.sample_images",
}


def test_no_setting_is_forgotten():
    settings = {f"{section}.{name}" for section, values in RunConfig() for name in type(values).model_fields}
    assert settings == SHOWN_ELSEWHERE | {name for name, _, _ in EFFECTS}


def test_training_reads_a_dataset_as_the_pages_do(quick_config, tmp_path):
    """Images in another folder, and objects without a category that the user has named."""
    data = coco(images=1, objects=1, empty_images=0)
    write_split(tmp_path / "images", data)
    entry = data["images"][0]
    image = {**entry, "image_id": entry["id"]}
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.json").write_text(json.dumps({"image": image, "annotations": data["annotations"]}))
    settings = {"data.path": str(tmp_path / "set"), "data.default_phrase": "road damage", "data.valid_split": ""}
    config = quick_config.with_settings({**settings, "data.image_dir": str(tmp_path / "images")})
    setup = prepare(config, make_accelerator(config.training), log=lambda line: None)
    assert setup.data.splits.categories == ("road damage",)
    assert len(setup.data.samples) == 1


@pytest.fixture(scope="module")
def quick_rows(quick_config, tmp_path_factory):
    return steps(train(quick_config.with_settings({"output.runs": str(tmp_path_factory.mktemp("runs"))})))


@pytest.mark.parametrize(("name", "value", "column"), EFFECTS, ids=[name for name, _, _ in EFFECTS])
def test_each_setting_has_an_effect(config, quick_rows, only_steps, name, value, column):
    changed = steps(train(config.with_settings({name: value, "data.valid_split": ""})))  # as the next test shows
    assert [row[column] for row in changed] != [row[column] for row in quick_rows]
    assert all(row["total"] > 0 for row in changed)


@pytest.mark.parametrize(("name", "value"), [("model.gradient_checkpointing", True), ("data.num_workers", 1)])
def test_settings_that_only_save_memory_or_time_give_the_same_losses(config, quick_rows, only_steps, name, value):
    changed = steps(train(config.with_settings({name: value, "data.valid_split": ""})))
    assert [row["total"] for row in changed] == pytest.approx([row["total"] for row in quick_rows], rel=1e-5)


def test_epochs_and_splits_and_device_are_followed(config):
    run = train(config, training__max_steps=None, training__epochs=2, data__train_split="valid")
    assert [row["epoch"] for row in steps(run)] == [1, 1, 1, 2, 2, 2]
    assert run.status().device == "cpu"


def test_without_a_validation_split_there_is_no_best_adapter(config):
    run = train(config, data__valid_split="")
    assert set(run.adapters()) == {"last"}
    assert run.status().best_validation_loss is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("data.path", "nowhere", DataError),
        ("data.train_split", "traning", DataError),
        ("data.valid_split", "validation", ConfigError),
        ("training.precision", "fp16", ConfigError),
        ("lora.modules", ["mlp"], None),
    ],
)
def test_what_cannot_be_trained_fails_with_its_sentence(config, name, value, error):
    run = Run.create(config.with_settings({name: value}))
    if error is None:
        assert fit(run).state == "finished"
        return
    with pytest.raises(error) as raised:
        fit(run)
    assert run.status().state == "failed"
    assert run.status().message == str(raised.value)


def test_waiting_for_a_validation_loss_that_never_comes_is_refused(config):
    run = Run.create(config.with_settings({"training.patience": 1, "data.valid_split": ""}))
    with pytest.raises(ConfigError, match=r"training\.patience"):
        fit(run)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images(config, monkeypatch):
    from sam3_lora.loss import terms, wrapper

    original = terms.box_terms

    def sick(*args, **kwargs):
        values = original(*args, **kwargs)
        return {**values, "loss_bbox": values["loss_bbox"] * torch.nan}

    monkeypatch.setattr(wrapper, "box_terms", sick)
    run = Run.create(config)
    with pytest.raises(TrainingError, match=r"loss_bbox.*\.png"):
        fit(run)
    assert run.status().state == "failed"


def test_jobs_train_in_the_background_one_at_a_time(config):
    jobs = TrainJob()
    run = jobs.start(config.with_settings({"training.max_steps": 500, "training.epochs": 500}))
    with pytest.raises(RunError, match="still being trained"):
        jobs.start(config)
    deadline = time.monotonic() + 120
    while not steps(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert jobs.current.folder == run.folder
    assert run.status().state == "running"
    jobs.current.requests.add("stop")
    assert jobs.wait(timeout=120)
    assert run.status().state == "stopped"
    assert run.resume_obstacle() is None
    assert "last" in run.adapters()


def test_a_job_that_fails_ends_in_the_failed_state(config):
    jobs = TrainJob()
    run = jobs.start(config.with_settings({"data.path": "nowhere"}))
    assert jobs.wait(timeout=120)
    assert run.status().state == "failed"
    assert "nowhere" in run.status().message


@pytest.mark.parametrize(("count", "batch_size", "world"), [(7, 2, 1), (7, 2, 2), (8, 2, 2), (3, 4, 2), (1, 1, 3)])
def test_every_image_is_seen_once_an_epoch_and_processes_take_equally_many_steps(count, batch_size, world):
    orders = [epoch_order(count, batch_size, seed=3, rank=rank, world=world) for rank in range(world)]
    assert len({len(order) for order in orders}) == 1
    assert all(batch for order in orders for batch in order)
    seen = [index for order in orders for batch in order for index in batch]
    assert set(seen) == set(range(count))
    assert len(seen) - count < world


def test_the_length_of_a_run():
    settings = {"training.epochs": 3, "training.batch_size": 2, "training.gradient_accumulation_steps": 2}
    training = resolve(RunConfig().with_settings(settings), torch.device("cpu"))[0].training
    assert (make_plan(training, images=9).steps_per_epoch, make_plan(training, images=9).total_steps) == (3, 9)
    limited = training.model_copy(update={"max_steps": 4})
    assert (make_plan(limited, images=9).total_steps, make_plan(limited, images=9).epochs) == (4, 2)
    assert make_plan(limited, images=9).warmup_steps == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_ends_the_run_with_its_sentence(config, workers):
    data = write_dataset(Run.create(config).folder / "data", splits=("train",), images=2, empty_images=0)
    for path in (data / "train").glob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    settings = {"data.path": str(data), "data.valid_split": "", "data.num_workers": workers}
    run = Run.create(config.with_settings(settings))
    with pytest.raises(DataError, match="cannot be decoded"):
        fit(run)
    assert "\n" not in run.status().message and ".png" in run.status().message


def test_missing_images_are_left_out_and_said(config):
    data = write_dataset(Run.create(config).folder / "data", images=3)
    missing = next((data / "train").glob("*.png"))
    missing.unlink()
    run = train(config, data__path=str(data), training__max_steps=1)
    assert "1 image of the split 'train' is missing" in run.log_tail()


@pytest.mark.parametrize("steps_in_epoch", [3, 2])
def test_a_run_that_ends_before_its_evaluation_makes_it_when_it_is_resumed(config, monkeypatch, steps_in_epoch):
    """At an epoch's end, and after a last step in the middle of an epoch."""
    from sam3_lora.train import loop

    original, made = loop.validate, []

    def broken(setup):
        made.append(1)
        if len(made) == 2:
            raise RuntimeError("gone")
        return original(setup)

    config = config.with_settings({"training.max_steps": 3 + steps_in_epoch, "training.checkpoint_every": 0})
    whole = train(config)
    run = Run.create(config)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="gone"):
        patch.setattr(loop, "validate", broken)
        fit(run)
    assert int(run.checkpoints()[0].stem[5:]) == 3 + steps_in_epoch  # before the evaluation
    assert fit(run, resume=True).state == "finished"
    for kind in ("step", "validation"):
        rows = [[row for row in effective_rows(one.metrics()[0]) if row["kind"] == kind] for one in (run, whole)]
        assert [(row["step"], row["total"]) for row in rows[0]] == [(row["step"], row["total"]) for row in rows[1]]
    assert (run.status().best_step, run.adapters().keys()) == (whole.status().best_step, whole.adapters().keys())
    for kind in ("best", "last"):
        assert weights(run, kind) == weights(whole, kind)


def weights(run, kind):
    return (run.adapters()[kind] / "adapter_model.safetensors").read_bytes()


def test_an_evaluation_that_was_made_is_not_repeated(config, monkeypatch):
    run = Run.create(config.with_settings({"training.max_steps": 6}))
    with monkeypatch.context() as patch:
        request_after(patch, 3, "stop")
        assert fit(run).state == "stopped"
    fit(run, resume=True)
    assert [row["step"] for row in run.metrics()[0] if row["kind"] == "validation"] == [3, 6]


def test_pictures_that_cannot_be_written_do_not_end_a_run(config):
    run = Run.create(config)
    (run.folder / "samples").write_bytes(b"no folder")
    assert fit(run).state == "finished"
    notes = [row for row in run.metrics()[0] if row["kind"] == "note"]
    assert {note["about"] for note in notes} == {"samples-not-written"}
