"""The tensors that data, model and loss pass to each other.

Letters in shapes: B images, P phrases over all images, T tokens of a phrase, Q queries per phrase, L decoder layers,
N objects in the whole batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _OnDevice:
    def to(self, device: torch.device | str) -> Self:
        """The same with every tensor on a device."""
        return type(self)(**{field.name: _move(getattr(self, field.name), device) for field in fields(self)})


def _move(value: Any, device: torch.device | str) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_move(item, device) for item in value)
    return value.to(device)


@dataclass(frozen=True)
class VisionFeatures(_OnDevice):
    """Features of the images."""

    fpn: tuple[Tensor, ...]  # three maps (B, C, Hi, Wi), finest first
    position: tuple[Tensor, ...]  # their sine embeddings, same shapes
    text_only_geometry: tuple[Tensor, Tensor] | None = None  # Sam3Detector.text_only_geometry, if known already


@dataclass(frozen=True)
class TextFeatures(_OnDevice):
    """Features of the phrases."""

    states: Tensor  # (P, T, C)
    mask: Tensor  # (P, T) bool, True = real token


@dataclass(frozen=True)
class Detections(_OnDevice):
    """The detector's predictions for each phrase."""

    logits: Tensor  # (L, P, Q)
    boxes: Tensor  # (L, P, Q, 4) cxcywh in [0, 1]
    presence: Tensor | None  # (L, P) logits; None in the one-to-many half, which has no presence token
    masks: Tensor  # (P, Q, h, w) logits of the last layer
    semantic: Tensor | None  # (P, 1, h, w) logits; None in the one-to-many half
    one_to_many: Detections | None = None  # the second half of the queries, in training only

    @property
    def scores(self) -> Tensor:
        """Scores (P, Q) in [0, 1] of the last layer: ``sigmoid(logits) * sigmoid(presence)``."""
        assert self.presence is not None, "the one-to-many half has no scores"
        return self.logits[-1].sigmoid() * self.presence[-1].sigmoid().unsqueeze(-1)


@dataclass(frozen=True)
class Targets(_OnDevice):
    """The ground-truth objects of each phrase, packed in phrase order."""

    boxes: Tensor  # (N, 4) cxcywh in [0, 1]
    counts: Tensor  # (P,) int64, their sum is N
    masks: Tensor | None  # (N, H, W) bool; None if no object has one
    mask_valid: Tensor  # (N,) bool, False where an object has a box but no mask
    exhaustive: Tensor  # (P,) bool, False where a phrase's objects are known to be incomplete
