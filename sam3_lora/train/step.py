"""One optimizer step: forward, loss, backward, clipping, update; and what is told about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sam3_lora.data.samples import Batch
from sam3_lora.errors import TrainingError
from sam3_lora.evaluate.validation_loss import MeanLoss, as_vector, from_vector
from sam3_lora.loss import LossReport
from sam3_lora.runs.nan_fix import nan_fix
from sam3_lora.train.memory import free_unused, is_out_of_memory
from sam3_lora.train.setup import Setup


@dataclass(frozen=True)
class StepMetrics:
    """What one step did, over its forward passes and over all processes.

    grad_norm: of all gradients before clipping; by_component: of each component's, or None if not asked for;
    objects: in the targets; phrases: asked; negatives: phrases without an object.
    """

    loss: MeanLoss
    grad_norm: float
    by_component: dict[str, float] | None
    lr: float
    images: int
    objects: int
    phrases: int
    negatives: int

    def columns(self) -> dict[str, Any]:
        """What a row of metrics.jsonl holds of it."""
        columns = {
            "total": self.loss.total,
            "terms": self.loss.weighted,
            "raw": self.loss.raw,
            "lr": self.lr,
            "grad_norm": self.grad_norm,
            "objects": self.objects,
            "phrases": self.phrases,
            "negatives": self.negatives,
        }
        if self.by_component is not None:
            columns["grad_norm_by_component"] = self.by_component
        return columns


class NotFinite(TrainingError):
    """A loss or a gradient that is not a number any more. images: the batch's file names."""

    def __init__(self, message: str, fix: str, images: tuple[str, ...] = ()) -> None:
        super().__init__(message, fix)
        self.images = images


def take_step(setup: Setup, group: Sequence[Batch], by_component: bool = False) -> StepMetrics | None:
    """One optimizer step over the group's batches (accumulation).

    Returns:
        What it did; None if the group did not fit into memory and was passed over: the adapter stays as it
        was, the learning rate goes on.

    Raises:
        NotFinite: the loss or the gradients are not; the adapter stays as it was.
    """
    lr = setup.scheduler.get_last_lr()[0]
    reports, names = _accumulate(setup, group)
    if not reports:
        free_unused()
        setup.optimizer.zero_grad()
        setup.scheduler.step()
        return None
    grad_norm = float(setup.accelerator.clip_grad_norm_(setup.parameters, setup.config.training.max_grad_norm))
    # With fp16 the scaler passes over such a step by itself.
    if setup.accelerator.scaler is None and not math.isfinite(grad_norm):
        raise NotFinite(
            f"Expected finite gradients, but found infinity or NaN on the images {', '.join(file_names(group))}",
            nan_fix(setup.config, file_names(group)),
            file_names(group),
        )
    norms = component_norms(setup, grad_norm) if by_component else None
    setup.optimizer.step()
    setup.scheduler.step()
    setup.optimizer.zero_grad()

    world = setup.accelerator.num_processes
    counts = torch.tensor(_counts(group), dtype=torch.float32, device=reports[0].device)
    shared = setup.accelerator.reduce(torch.cat((torch.stack(reports).mean(0), counts)), reduction="mean")
    images, objects, phrases, negatives = (round(value * world) for value in shared[-len(counts) :].tolist())
    loss = from_vector(names, shared[: -len(counts)])
    return StepMetrics(loss, grad_norm, norms, lr, images, objects, phrases, negatives)


def forward(setup: Setup, model: nn.Module, batch: Batch) -> LossReport:
    """The loss of a batch, in the run's precision."""
    batch = batch.to(setup.accelerator.device)
    with setup.accelerator.autocast():
        detections = model(batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
    return setup.loss(detections, batch.targets)


def file_names(group: Sequence[Batch]) -> tuple[str, ...]:
    """The file names of a step's images."""
    return tuple(image.file_name for batch in group for image in batch.images)


def component_norms(setup: Setup, grad_norm: float) -> dict[str, float]:
    """Each component's gradient norm before clipping, from the clipped gradients; 0 where nothing arrives."""
    gradients: dict[str, list[Tensor]] = {name: [] for name in setup.components}
    for name, parameters in setup.components.items():
        gradients[name] = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = [
        torch.stack(torch._foreach_norm(of_component)).norm() if of_component else torch.zeros(())
        for of_component in gradients.values()
    ]
    values = torch.stack([norm.float().to(setup.accelerator.device) for norm in norms]).tolist()
    unclipped = max(1.0, grad_norm / setup.config.training.max_grad_norm)
    return {name: value * unclipped for name, value in zip(gradients, values, strict=True)}


def _accumulate(setup: Setup, group: Sequence[Batch]) -> tuple[list[Tensor], list[str]]:
    """Adds the group's gradients up. Returns each report as a vector and the terms' names; nothing if memory ran out.

    Several processes would wait for each other for ever if one passed over a batch: there it is an error.
    """
    reports, names = [], []
    try:
        for position, batch in enumerate(group):
            with _sync_gradients(setup, last=position == len(group) - 1):
                loss = forward(setup, setup.model, batch)
                _require_finite(setup, loss, batch)
                setup.accelerator.backward(loss.total / len(group))
            reports.append(as_vector(loss))
            names = list(loss.terms)
    except Exception as error:
        if setup.accelerator.num_processes > 1 or not is_out_of_memory(error):
            raise
        return [], []
    return reports, names


def _sync_gradients(setup: Setup, last: bool) -> AbstractContextManager:
    """Processes exchange gradients only with the last batch of a group."""
    return nullcontext() if last else setup.accelerator.no_sync(setup.model)


def _require_finite(setup: Setup, loss: LossReport, batch: Batch) -> None:
    if torch.isfinite(loss.total):
        return
    sick = [name for name, term in loss.terms.items() if not torch.isfinite(term.raw)]
    images = file_names([batch])
    raise NotFinite(
        f"Expected a finite loss, but found infinity or NaN in {', '.join(sick) or 'the total'} on the images "
        f"{', '.join(images)}",
        nan_fix(setup.config, images),
        images,
    )


def _counts(group: Sequence[Batch]) -> list[int]:
    """Images, objects, phrases, and phrases without an object."""
    counts = torch.cat([batch.targets.counts for batch in group])
    return [sum(len(batch.images) for batch in group), int(counts.sum()), len(counts), int((counts == 0).sum())]
