"""The tensors that data, model and loss pass to each other.

Letters in shapes: B images, P phrases over all images, T tokens of a phrase, Q queries per phrase, L decoder layers,
N objects in the whole batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

PADDING_LABEL = -10  # of exemplar boxes that only pad a batch, as in Sam3Processor
VISUAL = "visual"  # the phrase SAM 3 was trained with for prompts of exemplar boxes alone


def to_device(numbers: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Numbers as a tensor on a device; those of the host are copied without waiting for a GPU's work so far."""
    tensor = numbers if isinstance(numbers, Tensor) else torch.from_numpy(numbers)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # from other memory the copy would wait


@dataclass(frozen=True)
class OnDevice:
    """Tensors that move together."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same with every tensor on a device; `non_blocking` as in ``Tensor.to``."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same in page-locked memory, from which a GPU copies while it computes."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{field.name: _each(getattr(self, field.name), change) for field in fields(self)})


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, OnDevice):
        return value._changed(change)
    if isinstance(value, tuple):
        return tuple(_each(item, change) for item in value)
    return value


@dataclass(frozen=True)
class VisionFeatures(OnDevice):
    """Features of the images."""

    fpn: tuple[Tensor, ...]  # three maps (B, C, Hi, Wi), finest first
    position: tuple[Tensor, ...]  # their sine embeddings, same shapes
    text_only_geometry: tuple[Tensor, Tensor] | None = None  # Sam3Detector.text_only_geometry, if known already


@dataclass(frozen=True)
class TextFeatures(OnDevice):
    """Features of the phrases."""

    states: Tensor  # (P, T, C)
    mask: Tensor  # (P, T) bool, True = real token


@dataclass(frozen=True)
class Detections(OnDevice):
    """The detector's predictions for each phrase."""

    logits: Tensor  # (L, P, Q)
    boxes: Tensor  # (L, P, Q, 4) cxcywh in [0, 1]
    presence: Tensor | None  # (L, P) logits; None in the one-to-many half, which has no presence token
    masks: Tensor | None  # (P, Q, h, w) logits of the last layer; None with a mask head
    semantic: Tensor | None  # (P, 1, h, w) logits; None in the one-to-many half and with a mask head
    one_to_many: Detections | None = None  # the second half of the queries, in training only
    # Makes the masks (M, h, w) of phrases (M,), on the host or a GPU is waited for, and queries (M,): in [0, Q), those
    # of the one-to-many half in [Q, 2 Q). Asking for several queries of a phrase in one call costs as much as for one;
    # phrases not asked for cost nothing.
    mask_head: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def scores(self) -> Tensor:
        """Scores (P, Q) in [0, 1] of the last layer: ``sigmoid(logits) * sigmoid(presence)``."""
        assert self.presence is not None, "the one-to-many half has no scores"
        return self.logits[-1].sigmoid() * self.presence[-1].sigmoid().unsqueeze(-1)


@dataclass(frozen=True)
class SoftTargets(OnDevice):
    """What another model predicts for each phrase, see :class:`Detections`: to be predicted alike.

    `phrase_index` and `query_index` stay on the host wherever the rest is, as :attr:`Detections.mask_head` wants them.
    """

    logits: Tensor  # (L, P, Q)
    boxes: Tensor  # (L, P, Q, 4) cxcywh in [0, 1]
    presence: Tensor  # (L, P) logits
    masks: Tensor  # (M, h, w) logits of the last layer, of the queries that matter
    phrase_index: Tensor  # (M,) int64 in [0, P), ascending
    query_index: Tensor  # (M,) int64 in [0, Q)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        on_host = {"phrase_index": self.phrase_index, "query_index": self.query_index}
        return replace(super()._changed(change), **on_host)


@dataclass(frozen=True)
class Targets(OnDevice):
    """The ground-truth objects of each phrase, packed in phrase order.

    `counts` and `mask_valid` stay on the host wherever the rest is: they decide what is computed, and a GPU would have
    to be waited for.
    """

    boxes: Tensor  # (N, 4) cxcywh in [0, 1]
    counts: Tensor  # (P,) int64, their sum is N
    masks: Tensor | None  # (N, H, W) bool; None if no object has one
    mask_valid: Tensor  # (N,) bool, False where an object has a box but no mask
    exhaustive: Tensor  # (P,) bool, False where a phrase's objects are known to be incomplete

    @cached_property
    def phrase_index(self) -> Tensor:
        """(N,) int64: the phrase of each object."""
        counts = self.counts.cpu().numpy()
        return to_device(np.repeat(np.arange(len(counts)), counts), self.boxes.device)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(super()._changed(change), counts=self.counts, mask_valid=self.mask_valid)
