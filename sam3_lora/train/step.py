"""One optimizer step: forward, loss, backward, clipping, update; and its metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from sam3_lora.data.samples import Batch
from sam3_lora.errors import NotFiniteError
from sam3_lora.evaluate.validation_loss import MeanLoss, as_vector, from_vector
from sam3_lora.loss import LossReport
from sam3_lora.train.memory import free_unused, is_out_of_memory
from sam3_lora.train.setup import Setup


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

    def columns(self) -> dict[str, Any]:
        """Its columns in a row of metrics.jsonl."""
        measured = ("lr", "grad_norm", "grad_norm_by_component", "objects", "phrases", "negatives")
        columns = asdict(self.loss) | {name: getattr(self, name) for name in measured}
        return {name: value for name, value in columns.items() if value is not None}


def take_step(setup: Setup, group: Sequence[Batch], by_component: bool = False) -> StepMetrics | None:
    """One optimizer step over the group's batches (gradient accumulation).

    Args:
        setup: the run.
        group: the batches, at least one.
        by_component: whether to measure each component's gradient norm.

    Returns:
        The step's metrics; None if the group did not fit into memory and was skipped: the adapter stays as it was, the
        learning-rate schedule advances.

    Raises:
        NotFiniteError: the loss or the gradients are not finite; the adapter stays as it was.
    """
    lr = float(setup.scheduler.get_last_lr()[0])
    reports, terms = _accumulate(setup, group)
    if not reports:
        free_unused()
        setup.optimizer.zero_grad()
        setup.scheduler.step()
        return None
    max_norm = setup.config.training.max_grad_norm
    grad_norm = float(setup.accelerator.clip_grad_norm_(setup.model.parameters, max_norm))
    # With fp16 the scaler skips such a step by itself.
    if setup.accelerator.scaler is None and not math.isfinite(grad_norm):
        raise NotFiniteError((), file_names(group), setup.config.training.precision == "fp16")
    norms = component_norms(setup, grad_norm) if by_component else None
    setup.optimizer.step()
    setup.scheduler.step()
    setup.optimizer.zero_grad()

    world = setup.accelerator.num_processes
    counts = torch.tensor(_counts(group), dtype=torch.float32, device=reports[0].device)
    shared = setup.accelerator.reduce(torch.cat((torch.stack(reports).mean(0), counts)), reduction="mean")
    images, objects, phrases, negatives = (round(value * world) for value in shared[-len(counts) :].tolist())
    loss = from_vector(terms, shared[: -len(counts)])
    return StepMetrics(loss, grad_norm, norms, lr, images, objects, phrases, negatives)


def file_names(group: Sequence[Batch]) -> tuple[str, ...]:
    """The file names of the images in a group of batches."""
    return tuple(image.file_name for batch in group for image in batch.images)


def component_norms(setup: Setup, grad_norm: float) -> dict[str, float]:
    """Each component's gradient norm before clipping; 0 where no gradient arrives.

    Args:
        setup: the run, its gradients clipped.
        grad_norm: of all gradients before clipping.
    """
    components, device = setup.model.components, setup.accelerator.device
    norms = [
        get_total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
        for parameters in components.values()
    ]
    clipped_by = max(1.0, grad_norm / setup.config.training.max_grad_norm)
    values = clipped_by * torch.stack([norm.float().to(device) for norm in norms])
    return dict(zip(components, values.tolist(), strict=True))


def _accumulate(setup: Setup, group: Sequence[Batch]) -> tuple[list[Tensor], list[str]]:
    """Adds the group's gradients up.

    Returns each loss report as a vector and the terms' names; nothing if memory ran out.
    Several processes would wait for each other for ever if one skipped a batch: there it is an error.
    """
    model = setup.model.wrapped
    reports: list[Tensor] = []
    terms: list[str] = []
    try:
        for position, batch in enumerate(group):
            # Processes exchange gradients only with the last batch.
            is_last = position == len(group) - 1
            with nullcontext() if is_last else setup.accelerator.no_sync(model):
                _, loss = setup.forward(model, batch)
                _require_finite(setup, loss, batch)
                setup.accelerator.backward(loss.total / len(group))
            reports.append(as_vector(loss))
            terms = list(loss.terms)
    except Exception as error:
        if setup.accelerator.num_processes > 1 or not is_out_of_memory(error):
            raise
        return [], []
    return reports, terms


def _require_finite(setup: Setup, loss: LossReport, batch: Batch) -> None:
    if torch.isfinite(loss.total):
        return
    terms = [name for name, term in loss.terms.items() if not torch.isfinite(term.raw)]
    raise NotFiniteError(terms or ["total"], file_names([batch]), setup.config.training.precision == "fp16")


def _counts(group: Sequence[Batch]) -> list[int]:
    """Images, objects, phrases, and phrases without an object."""
    counts = torch.cat([batch.targets.counts for batch in group])
    return [sum(len(batch.images) for batch in group), int(counts.sum()), len(counts), int((counts == 0).sum())]
