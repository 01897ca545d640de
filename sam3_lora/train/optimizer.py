"""The optimizer, its learning-rate schedule, and how many steps a run takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sam3_lora.config import TrainingConfig
from sam3_lora.resolved import ResolvedTraining

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}  # names in transformers


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


def make_optimizer(parameters: Iterable[nn.Parameter], training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the adapter's parameters, all in one group."""
    return torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,  # hundreds of small matrices: one kernel instead of a loop over them
    )


def make_schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig, plan: TrainPlan) -> LambdaLR:
    """The learning-rate schedule: linear warm-up, then ``training.schedule``; advances once per optimizer step."""
    from transformers import get_scheduler

    return get_scheduler(SCHEDULES[training.schedule], optimizer, plan.warmup_steps, plan.total_steps)
