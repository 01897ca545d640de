"""What settings that are "auto" become on a device, and how a run keeps both what was asked and what was used."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Sam3Config

from sam3_lora.config import RunConfig
from sam3_lora.config.fields import AUTO
from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import RunError
from sam3_lora.model.memory_estimate import estimate_memory
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.auto_values import AUTO_FILE, describe, with_auto
from sam3_lora.runs.run import Run
from sam3_lora.train import memory
from sam3_lora.train.loop import Training, fit
from sam3_lora.train.resolve import heaviest_image, resolve
from tests.factories import write_dataset
from tests.train.helpers import request_after, steps, train

AUTO_SETTINGS = (
    "training.precision",
    "model.gradient_checkpointing",
    "training.batch_size",
    "data.num_workers",
    "training.select_best_by",
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
        "training.select_best_by": "loss",
    }
    for device in (CPU, GPU):
        resolved, chosen = resolve(RunConfig().with_settings(own), device)
        assert values_of(resolved) == ("bf16", True, 7, 3, 5) and chosen == ()


@pytest.fixture
def gpu(monkeypatch):
    """A CUDA GPU that computes in bf16, with as much free memory as the test says."""
    free = SimpleNamespace(bytes=0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free.bytes)
    monkeypatch.setattr("sam3_lora.train.resolve.load_config", lambda name, image_size=None: Sam3Config())
    return free


def test_bf16_is_for_gpus_that_compute_in_it(gpu, monkeypatch):
    assert resolve(RunConfig(), GPU)[0].training.precision == "bf16"
    assert resolve(RunConfig(), CPU)[0].training.precision == "fp32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert resolve(RunConfig(), GPU)[0].training.precision == "fp32"


SAM3 = RunConfig().with_settings({"model.base": "facebook/sam3", "replay.source": "none"})


def needed(checkpointing, images):
    architecture, lora = Sam3Config(), SAM3.lora
    how = {"precision": "bf16", "gradient_checkpointing": checkpointing, "images": images}
    return estimate_memory(architecture, lora, phrases_per_image=2 + 3, **how).total


@pytest.mark.parametrize("steps_asked", [1, 3])
@pytest.mark.parametrize(
    ("way", "short", "checkpointing", "batch"),
    [
        ((False, 2), 0, False, 2),
        ((False, 2), 1, False, 1),
        ((False, 1), 1, True, 2),
        ((True, 2), 1, True, 1),
        ((True, 1), 10**9, True, 1),
    ],
)
def test_on_a_gpu_the_fastest_way_that_fits_is_chosen(gpu, way, short, checkpointing, batch, steps_asked):
    gpu.bytes = needed(*way) - short
    config = SAM3.with_settings({"training.gradient_accumulation_steps": steps_asked})
    resolved, chosen = resolve(config, GPU)
    assert (resolved.model.gradient_checkpointing, resolved.training.batch_size) == (checkpointing, batch)
    assert resolved.training.images_per_step == config.training.images_per_step == 2 * steps_asked
    facts = {each.setting: each for each in chosen}
    assert facts["model.gradient_checkpointing"].available_bytes == gpu.bytes
    assert ("training.gradient_accumulation_steps" in facts) == (batch == 1)
    assert with_auto(resolved, chosen) == config
    for each in chosen:
        needs = each.needed_bytes
        assert needs == 0 or (needs <= gpu.bytes) == (each.reason == "fits"), describe(each)


def test_what_the_user_set_bounds_the_choice(gpu):
    gpu.bytes = needed(False, 1)
    fixed = SAM3.with_settings({"training.batch_size": 2})
    assert resolve(fixed, GPU)[0].model.gradient_checkpointing is True
    assert resolve(fixed, GPU)[0].training.batch_size == 2
    gpu.bytes = needed(True, 2)
    kept = SAM3.with_settings({"model.gradient_checkpointing": True})
    assert resolve(kept, GPU)[0].training.batch_size == 2


def test_the_heaviest_image_counts(tmp_path):
    data = open_dataset(write_dataset(tmp_path / "data", images=4, empty_images=1))
    train = data.splits["train"].present()
    objects = [[item for item in image.annotations if not item.iscrowd] for image in train.images]
    assert heaviest_image(train) == (
        max(len({item.category for item in items}) for items in objects),
        max(map(len, objects)),
    )
    assert heaviest_image(replace(train, images=train.images.take(np.zeros(len(train.images), bool)))) == (2, 10)


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
    numbers = dict(zip(AUTO_SETTINGS, ("fp32", False, 2, 0, "loss"), strict=True))
    run = train(config.with_settings(numbers), training__max_steps=1)
    assert not (run.folder / AUTO_FILE).exists()
    assert run.auto_values() == () and run.asked_config == run.config
    (run.folder / AUTO_FILE).write_text("[{")
    with pytest.raises(RunError, match=AUTO_FILE):
        run.auto_values()


def test_the_estimate_knows_that_frozen_vision_is_read_from_disk(gpu):
    frozen = SAM3.with_settings({"lora.components": ["detr_decoder"], "model.gradient_checkpointing": True})
    gpu.bytes = 10**12
    images = 2
    how = {"precision": "bf16", "gradient_checkpointing": True, "images": images, "phrases_per_image": 2 + 3}
    for gigabytes in (0, 20):
        config = frozen.with_settings({"data.vision_cache_gb": gigabytes})
        expected = estimate_memory(Sam3Config(), config.lora, **how, cached_vision=gigabytes > 0).total
        (chosen,) = (each for each in resolve(config, GPU)[1] if each.setting == "training.batch_size")
        assert chosen.needed_bytes == expected
