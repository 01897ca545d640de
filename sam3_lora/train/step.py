"""One optimizer step: forward, loss, backward, clipping, update; and its metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from sam3_lora.data.samples import Batch
from sam3_lora.errors import NotFiniteError
from sam3_lora.evaluate.validation_loss import MeanLoss, as_vector, from_vector
from sam3_lora.loss.distillation import WEIGHTS as REPLAY_WEIGHTS
from sam3_lora.structures import to_device
from sam3_lora.train.memory import free_unused, is_out_of_memory
from sam3_lora.train.setup import Setup

_REPLAY_TERMS = list(REPLAY_WEIGHTS)


@dataclass(frozen=True)
class StepMetrics:
    """The metrics of one step, over its forward passes and over all processes."""

    loss: MeanLoss
    grad_norm: float  # of all gradients before clipping
    grad_norm_by_component: dict[str, float] | None  # None where it was not measured
    lr: float
    images: int
    objects: int  # in the targets
    phrases: int
    negatives: int  # phrases without an object
    replay: MeanLoss | None = None  # None: nothing is replayed

    def columns(self) -> dict[str, Any]:
        """Its columns in a row of metrics.jsonl."""
        measured = ("lr", "grad_norm", "grad_norm_by_component", "objects", "phrases", "negatives")
        columns = asdict(self.loss) | {name: getattr(self, name) for name in measured}
        if self.replay is not None:
            columns |= {"replay": self.replay.terms, "replay_raw": self.replay.raw, "replay_total": self.replay.total}
        return {name: value for name, value in columns.items() if value is not None}


def take_step(
    setup: Setup, group: Sequence[Batch], by_component: bool = False, replayed: Sequence[Batch] = ()
) -> StepMetrics | None:
    """One optimizer step over the group's batches (gradient accumulation).

    Args:
        setup: the run.
        group: the batches, at least one.
        by_component: whether to measure each component's gradient norm.
        replayed: the batches that the step replays besides.

    Returns:
        The step's metrics; None if the group did not fit into memory and was skipped: the adapter stays as it was, the
        learning-rate schedule advances.

    Raises:
        NotFiniteError: the loss or the gradients are not finite; the adapter stays as it was.
    """
    # Of the parts that learn at the full rate; a checkpoint of an earlier version knows no others.
    lr = float(setup.scheduler.get_last_lr()[0]) / setup.optimizer.param_groups[0].get("lr_factor", 1.0)
    passes = _accumulate(setup, group, replayed)
    if passes is None:
        free_unused()
        setup.optimizer.zero_grad()
        setup.scheduler.step()
        return None
    max_norm = setup.config.training.max_grad_norm
    grad_norm = setup.accelerator.clip_grad_norm_(setup.model.parameters, max_norm)
    read = _read(setup, group, passes, grad_norm, _component_norms(setup) if by_component else [])
    _require_finite(setup, group, replayed, read, passes.terms)
    setup.optimizer.step()
    setup.scheduler.step()
    setup.optimizer.zero_grad()

    norms = dict(zip(setup.model.components, read.component_norms, strict=True)) if by_component else None
    loss = from_vector(passes.terms, read.mean)
    replay = from_vector(_REPLAY_TERMS, read.replay) if replayed else None
    images, objects, phrases, negatives = read.counts
    return StepMetrics(loss, read.grad_norm, norms, lr, images, objects, phrases, negatives, replay)


@dataclass(frozen=True)
class _Passes:
    """The losses of a step's forward passes, as vectors of as_vector."""

    reports: Tensor  # of each batch
    terms: list[str]
    replay: Tensor  # the mean over replayed images; zeros if nothing is replayed


@dataclass(frozen=True)
class _Read:
    """What the host reads of a step."""

    grad_norm: float
    component_norms: list[float]  # before clipping; none where they were not measured
    reports: Tensor  # of each batch of this process, see as_vector
    mean: Tensor  # of the reports of all processes
    replay: Tensor  # of the replay of all processes
    counts: list[int]  # images, objects, phrases, negatives of all processes


def _read(
    setup: Setup, group: Sequence[Batch], passes: _Passes, grad_norm: Tensor, component_norms: list[Tensor]
) -> _Read:
    """Reads everything in one copy: it waits for the device.

    Args:
        setup: the run.
        group: the step's batches.
        passes: the losses.
        grad_norm: of all gradients before clipping.
        component_norms: after clipping.
    """
    reports, replay = passes.reports, passes.replay
    counts = to_device(np.array(_counts(group), dtype=np.float32), reports.device)
    shared = setup.accelerator.reduce(torch.cat((reports.mean(0), replay, counts)), reduction="mean")
    norms = torch.stack([norm.float().to(reports.device) for norm in (grad_norm, *component_norms)])
    on_host = torch.cat((norms, reports.flatten(), shared)).cpu()
    sizes = (len(norms), reports.numel(), reports.shape[1], len(replay), len(counts))
    norms, own, mean, replay, counts = on_host.split(sizes)
    norm = norms.tolist()[0]
    clipped_by = np.float32(max(1.0, norm / setup.config.training.max_grad_norm))
    return _Read(
        grad_norm=norm,
        component_norms=(clipped_by * norms.numpy()[1:]).tolist(),
        reports=own.view_as(reports),
        mean=mean,
        replay=replay,
        counts=[round(value * setup.accelerator.num_processes) for value in counts.tolist()],
    )


def file_names(group: Sequence[Batch]) -> tuple[str, ...]:
    """The file names of the images in a group of batches."""
    return tuple(image.file_name for batch in group for image in batch.images)


def _component_norms(setup: Setup) -> list[Tensor]:
    """Each component's gradient norm as it is; 0 where no gradient arrives."""
    return [
        get_total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
        for parameters in setup.model.components.values()
    ]


def _accumulate(setup: Setup, group: Sequence[Batch], replayed: Sequence[Batch]) -> _Passes | None:
    """Adds the gradients up, those of replay first; None if memory ran out.

    Several processes would wait for each other for ever if one skipped a batch: there it is an error.
    """
    reports: list[Tensor] = []
    terms: list[str] = []
    replay = torch.zeros(1 + 2 * len(_REPLAY_TERMS), device=setup.accelerator.device)
    images = sum(len(batch.images) for batch in replayed)
    try:
        for batch in replayed:
            with setup.accelerator.no_sync(setup.wrapped):
                loss = setup.forward(setup.wrapped, batch)[1]
                setup.accelerator.backward(loss.total * len(batch.images) / images)
            replay += as_vector(loss) * len(batch.images) / images
        for position, batch in enumerate(group):
            # Processes exchange gradients only with the last batch.
            is_last = position == len(group) - 1
            with nullcontext() if is_last else setup.accelerator.no_sync(setup.wrapped):
                # Without the detections, the backward pass frees the features as it goes.
                loss = setup.forward(setup.wrapped, batch)[1]
                setup.accelerator.backward(loss.total / len(group))
            reports.append(as_vector(loss))
            terms = list(loss.terms)
    except Exception as error:
        if setup.accelerator.num_processes > 1 or not is_out_of_memory(error):
            raise
        return None
    return _Passes(torch.stack(reports), terms, replay)


def _require_finite(
    setup: Setup, group: Sequence[Batch], replayed: Sequence[Batch], read: _Read, terms: list[str]
) -> None:
    """Raises NotFiniteError for a loss or gradients that are not finite, before they are applied."""
    fp16 = setup.config.training.precision == "fp16"
    for batch, report in zip(group, read.reports, strict=True):
        loss = from_vector(terms, report)
        if not math.isfinite(loss.total):
            names = [name for name, value in loss.raw.items() if not math.isfinite(value)]
            raise NotFiniteError(names or ["total"], file_names([batch]), fp16)
    replay = from_vector(_REPLAY_TERMS, read.replay)
    if not math.isfinite(replay.total):
        names = [name for name, value in replay.raw.items() if not math.isfinite(value)]
        raise NotFiniteError(names or ["replay"], file_names(replayed), fp16)
    # With fp16 the scaler skips such a step by itself.
    if setup.accelerator.scaler is None and not math.isfinite(read.grad_norm):
        raise NotFiniteError((), file_names(group), fp16)


def _counts(group: Sequence[Batch]) -> list[int]:
    """Images, objects, phrases, and phrases without an object."""
    counts = [count for batch in group for count in batch.targets.counts.tolist()]
    return [sum(len(batch.images) for batch in group), sum(counts), len(counts), counts.count(0)]
