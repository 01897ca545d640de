"""The validation loss: the training loss averaged over a split, without dropout and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sam3_lora.config import LossConfig, Negatives
from sam3_lora.data.dataset import ImageRecord
from sam3_lora.data.loading import batches_of, make_loader
from sam3_lora.data.samples import Batch, Collator, LeftOut, SampleDataset, input_size, sample_prompts
from sam3_lora.data.targets import pack_targets, targets_of
from sam3_lora.errors import DataError
from sam3_lora.loss import LossReport, Sam3LossWrapper
from sam3_lora.predict.phrase_subsets import join_phrases
from sam3_lora.predict.predictor import Predictor
from sam3_lora.structures import Detections, Targets

NEGATIVES, BATCH_SIZE = Negatives(3), 2  # of an evaluation, so that its losses can be compared


@dataclass(frozen=True)
class ImageTargets:
    """What the validation loss asks of an image: P phrases and their objects."""

    phrases: tuple[str, ...]
    targets: Targets


class SplitLoss:
    """The weighted total of the default loss over a split, for several models in turn.

    It takes detections that were computed for the predictions anyway, and averages as :func:`mean_loss` does over
    batches of BATCH_SIZE images in the order of the split.

    Args:
        predictor: its model's detections are taken.
        categories: the dataset's, from which negatives are drawn.
        phrases: the user's own phrase of each category.
    """

    def __init__(self, predictor: Predictor, categories: Sequence[str], phrases: Mapping[str, str]) -> None:
        self._loss = Sam3LossWrapper.from_config(LossConfig()).eval()
        self._device = predictor.device
        self._categories, self._phrases = tuple(categories), phrases
        self._size_hw = input_size(predictor.processor.image_processor)
        self._images = 0
        self._waiting: dict[str, list[tuple[Targets, Detections]]] = {}
        self._vectors: dict[str, list[tuple[Tensor, int]]] = {}

    def next_image(self, image: ImageRecord) -> ImageTargets:
        """What is asked of an image, the same at every evaluation; call it once for each, in the order of the split."""
        rng = np.random.default_rng((0, 0, self._images))  # as SampleDataset draws them
        self._images += 1
        prompts = sample_prompts(image, self._categories, NEGATIVES, rng, self._phrases)
        prompts = [one for one in prompts if one.phrase]  # a category's name may be all punctuation
        return ImageTargets(tuple(one.phrase for one in prompts), targets_of(image, prompts, self._size_hw))

    def add(self, model: str, asked: ImageTargets, detections: Detections | None) -> None:
        """Adds an image; a model may be at work, as masks are made here.

        Args:
            model: its name.
            asked: of :meth:`next_image`.
            detections: of its phrases, by this model.
        """
        if detections is None:
            return
        waiting = self._waiting.setdefault(model, [])
        waiting.append((asked.targets, detections))
        if len(waiting) == BATCH_SIZE:
            self.finish(model)

    def is_waiting(self, model: str) -> bool:
        """Whether images were added that do not make a whole batch."""
        return bool(self._waiting.get(model))

    @torch.inference_mode()
    def finish(self, model: str) -> None:
        """Computes the loss of the images that wait; the model is at work, as in :meth:`add`."""
        waiting = self._waiting.pop(model)
        targets = pack_targets([targets for targets, _ in waiting], self._size_hw).to(self._device)
        report = self._loss(join_phrases([detections for _, detections in waiting]), targets)
        self._vectors.setdefault(model, []).append((as_vector(report)[:1], len(waiting)))

    def mean(self, model: str) -> float:
        """The mean over the batches; nan without any."""
        return float(_mean(self._vectors[model])) if model in self._vectors else float("nan")


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
    images: Sequence[ImageRecord],
    processor: Any,
    categories: tuple[str, ...],
    negatives: Negatives,
    batch_size: int,
    num_workers: int = 0,
    phrases: Mapping[str, str] | None = None,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of images in their own order, with the same negatives at every evaluation.

    Args:
        images: of a split, or their tiles.
        processor: the base model's Sam3Processor.
        categories: the dataset's, from which negatives are drawn.
        negatives: absent phrases of each image.
        batch_size: in images.
        num_workers: processes that load images; 0 loads them in this one.
        phrases: the user's own phrase of each category.
        pin_memory: see :func:`sam3_lora.data.loading.make_loader`.
    """
    prompts = (processor, categories, negatives)
    samples = SampleDataset(images, *prompts, seed=0, phrases=phrases, unreadable="leave-out")
    return make_loader(samples, Collator(processor), num_workers, 0, pin_memory, batch_size=batch_size)


@torch.no_grad()
def mean_loss(
    loader: DataLoader, forward: Callable[[Batch], LossReport], left_out: Callable[[LeftOut], None] = lambda _: None
) -> MeanLoss:
    """The mean over a loader's batches, each weighted by its number of images.

    Args:
        loader: of :func:`validation_loader`.
        forward: computes the loss of a batch.
        left_out: called with each image that cannot be loaded, without which the mean is taken.

    Raises:
        DataError: no image can be loaded.
    """
    vectors, names = [], []
    for batch in batches_of(loader, left_out):
        report = forward(batch)
        names = list(report.terms)
        vectors.append((as_vector(report), len(batch.images)))
    if not vectors:
        raise DataError(
            "None of the images to validate on can be loaded",
            "Put them back, or correct their permissions, then resume the run",
        )
    return from_vector(names, _mean(vectors))


def _mean(vectors: Sequence[tuple[Tensor, int]]) -> Tensor:
    """The mean of vectors (K,), each weighted by its number of images."""
    images = torch.tensor([count for _, count in vectors], dtype=torch.float32, device=vectors[0][0].device)
    return (torch.stack([vector for vector, _ in vectors]) * (images / images.sum())[:, None]).sum(0)
