"""The optimizer, its learning-rate schedule, and how many steps a run takes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sam3_lora.config import TrainingConfig
from sam3_lora.model.lora import component_of
from sam3_lora.resolved import ResolvedTraining

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}  # names in transformers
_VISION_LAYER = re.compile(r"\bvision_encoder\.backbone\.layers\.(\d+)\.")


@dataclass(frozen=True)
class TrainPlan:
    """How many optimizer steps a run takes."""

    steps_per_epoch: int
    epochs: int
    total_steps: int
    warmup_steps: int


def make_plan(training: ResolvedTraining, images: int, processes: int = 1) -> TrainPlan:
    """The steps of a run over so many images per epoch; the warm-up takes at most half of them."""
    batch_count = math.ceil(images / (training.batch_size * processes))
    steps_per_epoch = math.ceil(batch_count / training.gradient_accumulation_steps)
    total_steps = steps_per_epoch * training.epochs
    if training.max_steps is not None:
        total_steps = min(total_steps, training.max_steps)
    return TrainPlan(
        steps_per_epoch=steps_per_epoch,
        epochs=math.ceil(total_steps / steps_per_epoch),
        total_steps=total_steps,
        warmup_steps=min(training.warmup_steps, total_steps // 2),
    )


def learning_rate_factors(model: nn.Module, training: TrainingConfig) -> dict[str, float]:
    """What the learning rate is multiplied by, for each trainable parameter by name, in the model's order.

    Of a vision encoder of D layers, layer i (from 0) learns at ``vision_lr_factor * layer_decay ** (D - i)`` of the
    rate, so that the decay holds for the last layer too, as in SAM 3's own training code.
    """
    layers = {name: int(match[1]) for name, _ in model.named_parameters() if (match := _VISION_LAYER.search(name))}
    depth = 1 + max(layers.values(), default=-1)
    factors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            in_vision = component_of(name) == "vision_encoder"
            decay = training.layer_decay ** (depth - layers[name]) if name in layers else 1.0
            factors[name] = training.vision_lr_factor * decay if in_vision else 1.0
    return factors


def make_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, with a group for each learning rate; the highest comes first.

    A group's ``lr_factor`` is what its rate is of ``training.learning_rate``.
    """
    parameters = dict(model.named_parameters())
    groups: dict[float, list[nn.Parameter]] = {}
    for name, factor in learning_rate_factors(model, training).items():
        groups.setdefault(factor, []).append(parameters[name])
    return torch.optim.AdamW(
        [
            {"params": groups[factor], "lr": factor * training.learning_rate, "lr_factor": factor}
            for factor in sorted(groups, reverse=True)
        ],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,  # hundreds of small matrices: one kernel instead of a loop over them
    )


def make_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig, plan: TrainPlan) -> LambdaLR:
    """The learning-rate schedule: linear warm-up, then ``training.schedule``, on all groups' rates alike.

    It advances once per optimizer step.
    """
    from transformers import get_scheduler

    return get_scheduler(SCHEDULES[training.schedule], optimizer, plan.warmup_steps, plan.total_steps)
