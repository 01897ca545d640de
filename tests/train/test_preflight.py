"""The pre-flight: what it finds before anything starts, and that it leaves nothing behind."""

import json
import threading

import pytest
import torch

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.splits.split_use import expected_use
from sam3_lora.errors import ConfigError, ModelError, RunError
from sam3_lora.train import accelerator, memory, setup
from sam3_lora.train.optimizer import make_plan
from sam3_lora.train.preflight import preflight
from sam3_lora.train.preflight.checks import check_data, check_dataset, check_settings
from sam3_lora.train.preflight.messages import describe
from sam3_lora.train.preflight.preflight import learning_rates
from sam3_lora.train.resolve import resolve
from sam3_lora.train.splits import open_splits
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.train.preflight_view import start_check
from tests.factories import octagon, write_dataset, write_spoiled
from tests.train.helpers import steps, train


@pytest.fixture(scope="module")
def flown(quick_config, tmp_path_factory):
    """A flight over a sound configuration, what it told, and where its runs would go."""
    runs, told = tmp_path_factory.mktemp("flight") / "runs", []
    config = quick_config.with_settings({"output.runs": str(runs), "training.gradient_accumulation_steps": 2})
    before = torch.get_rng_state()
    result = preflight.preflight(config, lambda share, what: told.append((share, what)))
    assert torch.equal(torch.get_rng_state(), before)
    return result, told, runs, config


def test_a_sound_configuration_is_measured(flown):
    result, told, _, _ = flown
    assert result.ok, result.problems
    measured = result.measured
    assert result.effective_batch == 4
    assert measured.seconds_per_step > 0
    assert measured.total_seconds > result.length.total_steps * measured.seconds_per_step
    assert 0 < measured.memory_bytes < measured.available_bytes
    assert measured.largest_batch >= 2 and not measured.largest_batch_is_measured
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_the_receipt_names_every_component_with_its_gradient(flown):
    result, _, _, config = flown
    receipts = {receipt.name: receipt for receipt in result.measured.components}
    assert receipts.keys() == set(config.lora.components)
    for receipt in receipts.values():
        assert receipt.gradient_norm > 0 and receipt.modules > 0
        assert receipt.parameters >= 2 * receipt.modules * config.lora.rank


def test_nothing_is_left_behind(flown):
    _, _, runs, _ = flown
    assert not runs.exists()
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name and thread.is_alive()]


def resolved(config):
    return resolve(config, torch.device("cpu"))[0]


def test_the_curve_is_the_one_that_a_run_follows(config):
    rates = dict(learning_rates(config, make_plan(resolved(config).training, images=6)))
    rows = steps(train(config))
    assert {row["step"]: row["lr"] for row in rows} == pytest.approx(rates)
    long = resolved(config.with_settings({"training.max_steps": 9999}))
    assert len(learning_rates(long, make_plan(long.training, images=99999))) < 300


def test_a_component_without_a_gradient_is_an_error(config):
    result = preflight.preflight(config.with_settings({"loss.loss_mask": 0.0, "loss.loss_dice": 0.0}))
    assert not result.ok
    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert (problem.kind, problem.names) == ("no-gradient", ("mask_decoder",)) and problem.value > 0
    message, _ = describe(problem, config)
    assert "No gradient reaches mask_decoder" in message and "silent no-op" in message


def boxes_only(data):
    for item in data["annotations"]:
        item.pop("segmentation", None)


def masks_on_crowds_only(data):
    boxes_only(data)
    data["annotations"][0] |= {"iscrowd": 1, "segmentation": octagon(data["annotations"][0]["bbox"])}


@pytest.mark.parametrize("spoil", [boxes_only, masks_on_crowds_only])
def test_without_a_mask_the_mask_decoder_is_the_cause_and_not_the_weights(config, tmp_path, spoil):
    data = str(write_spoiled(tmp_path / "data", spoil))
    config = config.with_settings({"data.path": data, "data.valid_split": ""})
    result = preflight.preflight(config)
    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert problem.kind == "no-masks"
    without = config.with_settings(problem.changes[0])
    assert "mask_decoder" not in without.lora.components and "no-masks" not in warnings_of(without)
    alone = config.with_settings({"lora.components": ["mask_decoder"]})
    assert warnings_of(alone)["no-masks"].changes == ()


def test_masks_of_lighter_images_are_enough(config, tmp_path):
    """The heaviest images, on which the step is taken, may have boxes only."""

    def mostly_boxes(data):
        boxes_only(data)
        data["annotations"] = data["annotations"][:-1]
        data["annotations"][-1]["segmentation"] = octagon(data["annotations"][-1]["bbox"])

    data = str(write_spoiled(tmp_path / "data", mostly_boxes))
    result = preflight.preflight(config.with_settings({"data.path": data, "data.valid_split": ""}))
    assert result.ok, result.problems


def test_all_problems_are_found_at_once_and_errors_come_first(config):
    settings = {"data.num_negatives": 0, "data.valid_split": "", "training.patience": 3, "model.base": "/nowhere"}
    config = config.with_settings(settings)
    result = preflight.preflight(config)
    assert not result.ok and result.measured is None
    severities = [problem.severity for problem in result.problems]
    assert severities == sorted(severities)
    assert [type(problem.cause) for problem in result.problems if problem.kind == "error"] == [ConfigError, ModelError]
    assert {"no-negatives", "no-validation"} < {problem.kind for problem in result.problems}
    for problem in result.problems:
        assert all(sentence.endswith(".") for sentence in describe(problem, config))


def test_a_step_that_does_not_fit_is_an_error_with_what_makes_it_fit(config, monkeypatch):
    original = setup.Setup.forward

    def forward(run_setup, model, batch):
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(run_setup, model, batch)

    monkeypatch.setattr(setup.Setup, "forward", forward)
    result = preflight.preflight(config)
    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert problem.kind == "out-of-memory"
    (change,) = problem.changes
    assert change["training.batch_size"] == 1
    assert "batches of 1" in describe(problem, config)[1]
    assert [saving.memory_bytes is None for saving in result.measured.savings] == [True, False, True]
    assert result.measured.largest_batch == 1 and result.measured.seconds_per_step is None


def test_where_memory_is_scarce_savings_are_measured(config, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda device: memory.used_bytes(device))
    result = preflight.preflight(config)
    assert any(problem.kind == "memory-almost-full" for problem in result.problems)
    assert [saving.settings for saving in result.measured.savings] == memory.smaller_settings(config)
    assert all(saving.saved_bytes >= 0 for saving in result.measured.savings)


def test_while_a_run_is_trained_in_this_process_it_waits_its_turn(config):
    with accelerator.one_at_a_time():
        result = preflight.preflight(config)
    assert not result.ok and isinstance(result.problems[0].cause, RunError)


def test_a_check_that_is_cancelled_ends_after_what_it_is_doing_and_frees_the_way(config, monkeypatch):
    loading, go_on = threading.Event(), threading.Event()

    def load(*args, **options):
        loading.set()
        assert go_on.wait(60)
        return setup.prepare(*args, **options)

    monkeypatch.setattr(preflight, "prepare", load)
    job = BackgroundJob("check")
    assert start_check(job, config)
    assert loading.wait(60)
    job.cancel()
    assert (job.snapshot().state, job.snapshot().text) == ("stopping", "Loading the model")
    assert not start_check(job, config), "one at a time"
    go_on.set()
    assert job.wait(120)
    assert (job.snapshot().state, job.snapshot().result, job.snapshot().error) == ("cancelled", None, "")
    assert start_check(job, config) and job.wait(120)
    assert job.snapshot().state == "done" and job.snapshot().result.ok


def warnings_of(config):
    """The problems that the quick checks find, without a model, by kind."""
    splits = open_splits(config, lambda line: None)
    plan = make_plan(resolved(config).training, len(splits.train.images))
    dataset = open_dataset(**config.data.reading)
    found = [*check_dataset(config, dataset), *check_data(config, splits), *check_settings(config, plan, "cpu")]
    return {problem.kind: problem for problem in found}


def test_more_images_per_step_than_there_are_count_only_once(config):
    result = preflight.preflight(
        config.with_settings({"training.batch_size": 4, "training.gradient_accumulation_steps": 200})
    )
    assert result.effective_batch == 6
    (problem,) = [problem for problem in result.problems if problem.kind == "step-exceeds-dataset"]
    assert (problem.value, problem.limit) == (800, 6)
    assert result.measured.seconds_per_step < 60


@pytest.mark.parametrize("name", ["file/runs", "file", "x" * 900])
def test_a_folder_of_runs_that_cannot_be_is_an_error(config, tmp_path, name):
    (tmp_path / "file").write_text("")
    result = preflight.preflight(config.with_settings({"output.runs": str(tmp_path / name)}))
    assert not result.ok and "Expected a writable folder for runs" in str(result.problems[0].cause)


def test_names_that_the_dataset_does_not_have_are_warned_of(config):
    settings = {"output.sample_images": ["1_000.png", "gone.png"], "data.category_phrases": {"no-such": "word"}}
    problems = warnings_of(config.with_settings(settings))
    assert problems["unknown-sample-images"].names == ("valid", "gone.png")
    assert problems["unknown-categories"].names == ("no-such",)
    assert not warnings_of(config).keys() & {"unknown-sample-images", "unknown-categories"}


def test_without_negatives_images_without_objects_have_one_nevertheless(config):
    assert warnings_of(config.with_settings({"data.num_negatives": 0}))["no-negatives"].value == 1


def test_that_augmentation_keeps_the_vision_cache_off_is_said_where_it_would_be_on(config):
    frozen = {"lora.components": ["detr_decoder", "scoring"]}
    changing = {"augmentation.scale_min": 0.5}
    message, fix = describe(warnings_of(config.with_settings(frozen | changing))["vision-cache-off"], config)
    assert "runs in every step" in message and "augmentation.scale_min" in fix
    adapted = {"lora.components": ["vision_encoder"]}
    for settings in (frozen, adapted | changing, frozen | changing | {"data.vision_cache_gb": 0}):
        assert "vision-cache-off" not in warnings_of(config.with_settings(settings))


def test_a_run_of_one_step_is_described_in_the_singular(config):
    config = config.with_settings({"training.max_steps": 1, "training.warmup_steps": 1000})
    problems = warnings_of(config)
    warmup, _ = describe(problems["warmup-shortened"], config)
    assert "only 1 step, and the warm-up may take half of it: it is shortened from 1,000 to 0 steps" in warmup
    assert "ends after 1 step, before" in describe(problems["shorter-than-an-epoch"], config)[0]


def test_a_validation_split_without_objects_is_said(config, tmp_path):
    folder = write_dataset(tmp_path / "data")
    file = folder / "valid" / "_annotations.coco.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    config = config.with_settings({"data.path": str(folder), "output.sample_images": []})
    dataset = open_dataset(folder)
    use = expected_use(dataset, config.data, 0)
    assert use.valid == "valid" and use.valid_objects == 0 and "no annotated object" in use.sentence
    found = [
        problem for problem in check_data(config, open_splits(config, lambda line: None)) if problem.names == ("valid",)
    ]
    assert [problem.kind for problem in found] == ["validation-without-objects"]
    assert all(describe(found[0], config))
