"""The validation loss: the training loss averaged over a split, without dropout and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sam3_lora.config import LossConfig
from sam3_lora.data.dataset import Split
from sam3_lora.data.samples import Batch, Collator, SampleDataset, batches_of, make_loader
from sam3_lora.loss import LossReport, Sam3LossWrapper
from sam3_lora.predict.predictor import Predictor

NUM_NEGATIVES, BATCH_SIZE = 3, 2  # of an evaluation, so that its losses can be compared


def validation_loss(
    predictor: Predictor,
    split: Split,
    phrases: Mapping[str, str],
    using_model: Callable[[], AbstractContextManager],
) -> float:
    """The weighted total of the default loss over a split.

    Args:
        predictor: the model, with its adapter as it is switched inside `using_model`.
        split: with annotations.
        phrases: the user's own phrase of each category.
        using_model: entered around each forward pass.
    """
    loss = Sam3LossWrapper.from_config(LossConfig())
    loader = validation_loader(
        split, predictor.processor, split.prompt_categories, NUM_NEGATIVES, BATCH_SIZE, phrases=phrases
    )

    def forward(batch: Batch) -> LossReport:
        batch = batch.to(predictor.device)
        with using_model():
            return loss(predictor.detector(*batch.inputs), batch.targets)

    return mean_loss(loader, forward).total


@dataclass(frozen=True)
class MeanLoss:
    """A loss report averaged over batches."""

    total: float
    terms: dict[str, float]  # weighted, by name of the term
    raw: dict[str, float]  # unweighted


def as_vector(report: LossReport) -> Tensor:
    """(1 + 2 T,) float32, detached: the total, every raw term, every weighted term."""
    terms = report.terms.values()
    values = [report.total, *(term.raw for term in terms), *(term.weighted for term in terms)]
    return torch.stack([value.detach().float() for value in values])


def from_vector(names: list[str], vector: Tensor) -> MeanLoss:
    """The inverse of :func:`as_vector`, as numbers; one transfer from the device for all of them."""
    total, *numbers = vector.tolist()
    return MeanLoss(
        total=total,
        raw=dict(zip(names, numbers[: len(names)], strict=True)),
        terms=dict(zip(names, numbers[len(names) :], strict=True)),
    )


def validation_loader(
    split: Split,
    processor: Any,
    categories: tuple[str, ...],
    num_negatives: int,
    batch_size: int,
    num_workers: int = 0,
    phrases: Mapping[str, str] | None = None,
) -> DataLoader:
    """Batches of a split in its own order, with the same negatives at every evaluation.

    Args:
        split: with annotations.
        processor: the base model's Sam3Processor.
        categories: the dataset's, from which negatives are drawn.
        num_negatives: absent phrases per image.
        batch_size: in images.
        num_workers: processes that load images; 0 loads them in this one.
        phrases: the user's own phrase of each category.
    """
    samples = SampleDataset(split, processor, categories, num_negatives, seed=0, phrases=phrases)
    return make_loader(samples, Collator(processor), num_workers, seed=0, batch_size=batch_size)


@torch.no_grad()
def mean_loss(loader: DataLoader, forward: Callable[[Batch], LossReport]) -> MeanLoss:
    """The mean over a loader's batches, each weighted by its number of images.

    Args:
        loader: of :func:`validation_loader`.
        forward: computes the loss of a batch.
    """
    vectors, images, names = [], [], []
    for batch in batches_of(loader):
        report = forward(batch)
        names = list(report.terms)
        vectors.append(as_vector(report))
        images.append(len(batch.images))
    weights = torch.tensor(images, dtype=torch.float32, device=vectors[0].device) / sum(images)
    return from_vector(names, (torch.stack(vectors) * weights[:, None]).sum(0))
