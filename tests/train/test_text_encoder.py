"""A frozen text encoder in training: each phrase is encoded once, and distributed training leaves it alone."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import kept_text
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.resolve import resolve
from sam3_lora.train.setup import Objective, make_model, wrap
from tests.train.helpers import train

CPU = torch.device("cpu")


@pytest.fixture
def process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def encoded(monkeypatch: pytest.MonkeyPatch, counts: Counter) -> None:
    """Counts how often each phrase is encoded by each model."""
    original = kept_text._encode

    def encode(model, input_ids, *args, **kwargs):
        counts[id(model), tuple(input_ids[0].tolist())] += 1
        return original(model, input_ids, *args, **kwargs)

    monkeypatch.setattr(kept_text, "_encode", encode)


def test_each_phrase_is_encoded_once_in_a_run(config, monkeypatch):
    counts: Counter = Counter()
    encoded(monkeypatch, counts)
    status = train(config, training__max_steps=6).status()  # with validations, samples and the reload check
    assert status.reload_proof == "ok"
    assert counts and set(counts.values()) == {1}
    assert len({model for model, _ in counts}) == 2  # the reload check loads another one


def test_distributed_training_accepts_a_text_encoder_on_another_device(config, process_group):
    adapted = make_model(resolve(config, CPU)[0], make_accelerator(config.training), print, fresh=True)
    for name in kept_text.MODULES:
        adapted.base.model.get_submodule(name).to("meta")
    objective = Objective(adapted.detector, Sam3LossWrapper.from_config(config.loss))
    with pytest.raises(ValueError, match="device"):
        DistributedDataParallel(objective, find_unused_parameters=True)
    stand_in = SimpleNamespace(prepare=lambda model, optimizer, **_: (DistributedDataParallel(model), optimizer))
    wrapped, _ = wrap(objective, None, stand_in)
    assert isinstance(wrapped, DistributedDataParallel)


def test_distributed_training_knows_an_adapted_text_encoder(config):
    config = config.with_settings({"lora.components": ["text_encoder"]})
    adapted = make_model(resolve(config, CPU)[0], make_accelerator(config.training), print, fresh=True)
    objective = Objective(adapted.detector, Sam3LossWrapper.from_config(config.loss))
    wrap(objective, None, SimpleNamespace(prepare=lambda model, optimizer, **_: (model, optimizer)))
    assert objective._ddp_params_and_buffers_to_ignore == []
