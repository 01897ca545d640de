"""The pre-flight: what it finds before anything starts, and that it leaves nothing behind."""

import threading

import pytest
import torch

from sam3_lora.data.dataset import open_dataset
from sam3_lora.train import memory, setup, step
from sam3_lora.train.preflight import preflight
from sam3_lora.train.preflight.checks import check_data, check_settings, planned_length
from sam3_lora.train.preflight.preflight import learning_rates
from sam3_lora.train.setup import plan
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.train.preflight_view import start_check
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
    result, told, _, config = flown
    assert result.ok, result.problems
    measured = result.measured
    assert result.effective_batch == 4
    assert measured.seconds_per_step > 0
    assert measured.total_seconds > result.length.total_steps * measured.seconds_per_step
    assert 0 < measured.memory_bytes < measured.available_bytes
    assert measured.largest_batch >= config.training.batch_size and not measured.largest_batch_is_measured
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


def test_the_curve_is_the_one_that_a_run_follows(config):
    rates = dict(learning_rates(config, plan(config.training, images=6)))
    rows = steps(train(config))
    assert {row["step"]: row["lr"] for row in rows} == pytest.approx(rates)
    assert len(learning_rates(config, plan(config.training.model_copy(update={"max_steps": 9999}), images=99999))) < 300


def test_a_component_without_a_gradient_is_an_error(config):
    result = preflight.preflight(config.with_settings({"loss.loss_mask": 0.0, "loss.loss_dice": 0.0}))
    assert not result.ok
    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert "No gradient reaches mask_decoder" in problem.message and "silent no-op" in problem.message


def test_every_mistake_is_told_at_once_and_errors_first(config):
    settings = {"data.num_negatives": 0, "data.valid_split": "", "training.patience": 3, "model.base": "/nowhere"}
    result = preflight.preflight(config.with_settings(settings))
    assert not result.ok and result.measured is None
    text = [f"{problem.severity}: {problem.message}" for problem in result.problems]
    assert [line.split(":")[0] for line in text] == sorted(line.split(":")[0] for line in text)
    for part in ("no folder", "patience", "not there", "validation split"):
        assert any(part in line for line in text), text
    assert all(problem.fix.endswith(".") for problem in result.problems)


def test_a_step_that_does_not_fit_is_an_error_with_what_makes_it_fit(config, monkeypatch):
    original = step.forward

    def forward(setup, model, batch):
        if len(batch.images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(setup, model, batch)

    monkeypatch.setattr(step, "forward", forward)
    result = preflight.preflight(config)
    (problem,) = [problem for problem in result.problems if problem.severity == "error"]
    assert "does not fit into the memory" in problem.message
    assert "batches of 1" in problem.fix and "gradient checkpointing" not in problem.fix
    assert [saving.memory_bytes is None for saving in result.measured.savings] == [True, False, True]
    assert result.measured.largest_batch == 1 and result.measured.seconds_per_step is None


def test_where_memory_is_scarce_savings_are_measured(config, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda device: memory.used_bytes(device))
    result = preflight.preflight(config)
    assert any("may not fit later" in problem.message for problem in result.problems)
    assert [saving.settings for saving in result.measured.savings] == list(memory.smaller_settings(config).values())
    assert all(saving.saved_bytes >= 0 for saving in result.measured.savings)


def test_while_a_run_is_trained_in_this_process_it_waits_its_turn(config):
    with setup.one_at_a_time():
        result = preflight.preflight(config)
    assert not result.ok and "being trained" in result.problems[0].message


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
    """What the quick checks tell, without a model."""
    dataset = open_dataset(config.data.path)
    found = [*check_data(config, dataset), *check_settings(config, planned_length(config, dataset), "cpu")]
    return "\n".join(problem.message for problem in found)


def test_more_images_per_step_than_there_are_count_only_once(config):
    result = preflight.preflight(
        config.with_settings({"training.batch_size": 4, "training.gradient_accumulation_steps": 200})
    )
    assert result.effective_batch == 6
    assert any("4 x 200 images, but there are only 6" in problem.message for problem in result.problems)
    assert result.measured.seconds_per_step < 60


@pytest.mark.parametrize("name", ["file/runs", "file", "x" * 900])
def test_a_folder_of_runs_that_cannot_be_is_an_error(config, tmp_path, name):
    (tmp_path / "file").write_text("")
    result = preflight.preflight(config.with_settings({"output.runs": str(tmp_path / name)}))
    assert not result.ok and "Expected a writable folder for runs" in result.problems[0].message


def test_names_that_the_dataset_does_not_have_are_warned_of(config):
    settings = {"output.sample_images": ["1_000.png", "gone.png"], "data.category_phrases": {"no-such": "word"}}
    told = warnings_of(config.with_settings(settings))
    assert "does not have: gone.png." in told and "does not have: no-such." in told
    assert "does not have" not in warnings_of(config)


def test_without_negatives_images_without_objects_are_still_asked(config):
    assert "Only images without objects are asked" in warnings_of(config.with_settings({"data.num_negatives": 0}))


def test_a_run_of_one_step_is_told_so_in_the_singular(config):
    told = warnings_of(config.with_settings({"training.max_steps": 1, "training.warmup_steps": 1000}))
    assert "only 1 step, and the warm-up may take half of it: it is shortened from 1,000 to 0 steps" in told
    assert "ends after 1 step, before" in told
