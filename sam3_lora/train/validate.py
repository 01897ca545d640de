"""Validation: the very loss of training, averaged over a split without dropout and gradients, and the boxes' F1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.data import DataLoader

from sam3_lora.answers import Refinement, refine, result_of
from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_iou
from sam3_lora.data.coco import Split
from sam3_lora.data.samples import Batch, Collator, SampleDataset, checked
from sam3_lora.loss import LossReport
from sam3_lora.structures import Detections, Targets
from sam3_lora.train.loading import leave_group

SCORE_THRESHOLD = IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class MeanLoss:
    """A loss report averaged over batches: the total, and each term raw and weighted."""

    total: float
    raw: dict[str, float]
    weighted: dict[str, float]


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
        weighted=dict(zip(names, numbers[len(names) :], strict=True)),
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
    """Batches of a split in its own order, with the same negatives at every evaluation."""
    return DataLoader(
        SampleDataset(split, processor, categories, num_negatives, seed=0, phrases=phrases),
        batch_size=batch_size,
        collate_fn=Collator(processor),
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),  # leaves the global generator to training
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=leave_group,
        persistent_workers=num_workers > 0,
    )


@torch.no_grad()
def mean_loss(loader: DataLoader, forward: Callable[[Batch], LossReport]) -> MeanLoss:
    """The mean over a loader's batches, each weighted by its number of images."""
    vectors, images, names = [], [], []
    for batch in map(checked, loader):
        report = forward(batch)
        names = list(report.terms)
        vectors.append(as_vector(report))
        images.append(len(batch.images))
    weights = torch.tensor(images, dtype=torch.float32, device=vectors[0].device) / sum(images)
    return from_vector(names, (torch.stack(vectors) * weights[:, None]).sum(0))


class BoxF1:
    """F1 of boxes at IoU 0.5 and score 0.5, gathered over batches from what the loss needs anyway.

    Answers are thinned out as everywhere else; cheaper than evaluation (no masks at full size) and another number.
    """

    def __init__(self) -> None:
        self._right = self._found = self._objects = 0

    def add(self, detections: Detections, targets: Targets) -> None:
        """Counts a batch: in each phrase an answer may meet one object and an object one answer."""
        truths = cxcywh_to_xyxy(targets.boxes.float().cpu()).split(targets.counts.tolist())
        for phrase, of_phrase in enumerate(truths):
            found = result_of("", detections, phrase, size_hw=(1, 1), threshold=SCORE_THRESHOLD)
            answers = torch.from_numpy(refine(found, Refinement(SCORE_THRESHOLD)).boxes_xyxy)
            self._found += len(answers)
            self._objects += len(of_phrase)
            if len(answers) and len(of_phrase):
                ious, _ = pairwise_iou(answers, of_phrase)
                pairs = linear_sum_assignment(-ious.nan_to_num().numpy())  # boxes without an area have none
                self._right += int((ious[pairs] >= IOU_THRESHOLD).sum())

    def value(self) -> float:
        """In [0, 1]; 0 where nothing is right."""
        return 2 * self._right / max(self._found + self._objects, 1)
