"""Learning rates by part of the model, and that runs of earlier versions go on."""

import pytest
import torch
from torch import nn

from sam3_lora.config import RunConfig
from sam3_lora.errors import RunError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.runs.run import Run
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.loop import fit
from sam3_lora.train.optimizer import learning_rate_factors, make_optimizer, make_plan, make_schedule
from sam3_lora.train.resolve import resolve
from tests.train.helpers import request_after, steps, train


def training(**settings):
    return RunConfig().with_settings({f"training.{name}": value for name, value in settings.items()}).training


def model_of(*names: str) -> nn.Module:
    """Modules with one trainable weight under each dotted name."""
    root = nn.Module()
    for name in names:
        parent = root
        for part in name.split("."):
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        parent.weight = nn.Parameter(torch.zeros(2))
    return root


VISION = "base_model.model.vision_encoder.backbone.layers"
MODEL = (f"{VISION}.0.lora_A", f"{VISION}.1.lora_A", f"{VISION}.2.lora_A", "base_model.model.detr_decoder.lora_A")


def test_the_rate_of_each_parameter_by_hand():
    model = model_of(*MODEL, "base_model.model.vision_encoder.neck.lora_A")
    model.get_submodule(f"{VISION}.2.lora_A").weight.requires_grad_(False)  # frozen, but it counts as a layer
    settings = training(learning_rate=1e-4, vision_lr_factor=0.5, layer_decay=0.8)
    optimizer = make_optimizer(model, settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == pytest.approx(
        {
            f"{VISION}.0.lora_A.weight": 1e-4 * 0.5 * 0.8**3,
            f"{VISION}.1.lora_A.weight": 1e-4 * 0.5 * 0.8**2,
            "base_model.model.vision_encoder.neck.lora_A.weight": 1e-4 * 0.5,
            "base_model.model.detr_decoder.lora_A.weight": 1e-4,
        }
    )
    assert optimizer.param_groups[0]["lr"] == 1e-4, "the peak comes first"
    assert optimizer.defaults["fused"]


def test_with_the_defaults_there_is_one_group_in_the_models_order():
    model = lora.attach(load_base("demo").model, RunConfig().lora)
    optimizer = make_optimizer(model, training())
    (group,) = optimizer.param_groups
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trainable) > 20 and all(one is other for one, other in zip(group["params"], trainable, strict=True))
    assert group["lr"] == 5e-4


def test_the_schedule_moves_all_groups_alike():
    settings = {"training.vision_lr_factor": 0.25, "training.schedule": "linear", "training.warmup_steps": 2}
    config = resolve(RunConfig().with_settings(settings | {"training.epochs": 1}), torch.device("cpu"))[0]
    optimizer = make_optimizer(model_of(*MODEL), config.training)
    schedule = make_schedule(optimizer, config.training, make_plan(config.training, images=20))  # 10 steps
    for expected in (0, 0.5, 1, 7 / 8, 6 / 8):
        decoder, vision = (group["lr"] for group in optimizer.param_groups)
        assert (decoder, vision) == pytest.approx((5e-4 * expected, 5e-4 * 0.25 * expected))
        optimizer.step()
        schedule.step()


def test_every_adapted_layer_of_the_demo_has_its_factor():
    model = lora.attach(load_base("demo").model, RunConfig().lora)
    factors = learning_rate_factors(model, training(vision_lr_factor=0.5, layer_decay=0.9))
    layers = model.base_model.model.config.vision_config.backbone_config.num_hidden_layers
    for name, factor in factors.items():
        if lora.component_of(name) == "vision_encoder":
            layer = int(name.split(".layers.")[1].split(".")[0])
            assert factor == pytest.approx(0.5 * 0.9 ** (layers - layer))
        else:
            assert factor == 1.0


def test_rows_tell_the_rate_of_the_other_parts(config, only_steps):
    full = [row["lr"] for row in steps(train(config))]
    for components in (["vision_encoder", "scoring"], ["vision_encoder"]):
        run = train(config, training__vision_lr_factor=0.5, lora__components=components)
        assert [row["lr"] for row in steps(run)] == pytest.approx(full)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_checkpoint_of_an_earlier_version_goes_on_or_says_why_not(config, only_steps, monkeypatch, factor):
    with monkeypatch.context() as patch:
        request_after(patch, 2, "stop")
        run = Run.create(config)
        fit(run)
    path = run.checkpoints()[0]
    state = read_checkpoint(path)
    for group in state["optimizer"]["param_groups"]:
        del group["lr_factor"]  # as earlier versions wrote it
    torch.save(state, path)
    if factor != 1.0:
        run._write_config(run.config.with_settings({"training.vision_lr_factor": factor}))
        with pytest.raises(RunError, match="parameter groups.*config.yaml was changed"):
            fit(run, resume=True)
        return
    fit(run, resume=True)
    whole = train(config)
    assert [row["lr"] for row in steps(run)] == [row["lr"] for row in steps(whole)]
    assert [row["total"] for row in steps(run)] == [row["total"] for row in steps(whole)]
