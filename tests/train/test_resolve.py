"""What settings that are "auto" become on a device, and how a run keeps both what was asked and what was used."""

import pytest
import torch

from sam3_lora.config import AUTO, RunConfig
from sam3_lora.errors import RunError
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.auto_values import AUTO_FILE, describe
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import Training, fit
from sam3_lora.train.resolve import resolve
from tests.train.helpers import request_after, steps, train

AUTO_SETTINGS = (
    "training.precision",
    "model.gradient_checkpointing",
    "training.batch_size",
    "data.num_workers",
)
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def values_of(config):
    training = config.training
    return (
        training.precision,
        config.model.gradient_checkpointing,
        training.batch_size,
        training.gradient_accumulation_steps,
        config.data.num_workers,
    )


@pytest.mark.parametrize("base", ["demo", "facebook/sam3"])
def test_on_a_cpu_the_values_are_those_of_earlier_versions(base):
    config = RunConfig().with_settings({"model.base": base})
    assert values_of(config) == (AUTO, AUTO, AUTO, 1, AUTO)
    resolved, chosen = resolve(config, CPU)
    assert isinstance(resolved, ResolvedConfig)
    assert values_of(resolved) == ("fp32", False, 2, 1, 0)
    assert {each.setting for each in chosen} == set(AUTO_SETTINGS)
    for each in chosen:
        assert describe(each).endswith(").") and "auto: " in describe(each)


def test_what_the_user_set_stays():
    own = {
        "training.precision": "bf16",
        "model.gradient_checkpointing": True,
        "training.batch_size": 7,
        "training.gradient_accumulation_steps": 3,
        "data.num_workers": 5,
    }
    for device in (CPU, GPU):
        resolved, chosen = resolve(RunConfig().with_settings(own), device)
        assert values_of(resolved) == ("bf16", True, 7, 3, 5) and chosen == ()


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_for_gpus_that_compute_in_it(native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert resolve(RunConfig(), GPU)[0].training.precision == ("bf16" if native else "fp32")
    assert resolve(RunConfig(), CPU)[0].training.precision == "fp32"


@pytest.mark.parametrize("steps_asked", [1, 3])
def test_a_step_learns_from_as_many_images_wherever_it_runs(steps_asked):
    settings = {"model.base": "facebook/sam3", "training.gradient_accumulation_steps": steps_asked}
    config = RunConfig().with_settings(settings)
    assert config.training.images_per_step == 2 * steps_asked
    for device in (CPU, GPU):
        assert resolve(config, device)[0].training.images_per_step == 2 * steps_asked


def test_a_run_keeps_what_was_asked_and_what_was_used(config):
    run = train(config, training__max_steps=1)
    assert values_of(run.config) == ("fp32", False, 2, 1, 0)
    assert run.asked_config == config.with_settings({"training.max_steps": 1})
    for each in run.auto_values():
        assert describe(each) in run.log_tail()
    renamed = run.rename("other")
    assert renamed.asked_config.training.batch_size == AUTO and renamed.config.training.batch_size == 2


def test_a_resumed_run_uses_what_it_began_with(config, monkeypatch):
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        run = Run.create(config)
        fit(run)
    used = run.config
    monkeypatch.setattr("sam3_lora.train.resolve.AUTO_BATCH", 1)  # another machine would choose otherwise
    setups = []
    original = Training.resume
    monkeypatch.setattr(Training, "resume", lambda self: (setups.append(self.setup), original(self)))
    fit(run, resume=True)
    assert setups[0].config.training.batch_size == 2
    assert run.config == used and run.asked_config == config
    assert [row["step"] for row in steps(run)] == [1, 2, 3, 4]


def test_a_run_of_numbers_has_no_file_of_choices(config):
    numbers = dict(zip(AUTO_SETTINGS, ("fp32", False, 2, 0), strict=True))
    run = train(config.with_settings(numbers), training__max_steps=1)
    assert not (run.folder / AUTO_FILE).exists()
    assert run.auto_values() == () and run.asked_config == run.config
    (run.folder / AUTO_FILE).write_text("[{")
    with pytest.raises(RunError, match=AUTO_FILE):
        run.auto_values()
