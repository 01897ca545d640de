"""The tensors that data, model and loss hand to each other; the only thing the three share.

Letters in shapes: B images, P phrases asked over all images, T tokens of a phrase, Q queries per
phrase, L decoder layers, N objects in the whole batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


class _OnDevice:
    """Moves every tensor of a dataclass at once."""

    def to(self, device: torch.device | str):
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: _move(value, device) for name, value in values.items()}
        return type(self)(**moved)


def _move(value, device):
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_move(item, device) for item in value)
    return value.to(device)


@dataclass(frozen=True)
class VisionFeatures(_OnDevice):
    """What the vision encoder makes of the images.

    fpn: three maps (B, C, Hi, Wi), finest first. position: their sine embeddings, same shapes.
    text_only_geometry: what Sam3Detector.text_only_geometry makes of them; None has it made when it is needed.
    """

    fpn: tuple[Tensor, ...]
    position: tuple[Tensor, ...]
    text_only_geometry: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class TextFeatures(_OnDevice):
    """What the text encoder makes of the phrases. states (P, T, C); mask (P, T) bool, True = real token."""

    states: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Detections(_OnDevice):
    """What the detector answers to each phrase.

    logits (L, P, Q); boxes (L, P, Q, 4) cxcywh in [0, 1]; presence (L, P) logits, or None in the
    one-to-many half, which has no presence token; masks (P, Q, h, w) logits of the last layer;
    semantic (P, 1, h, w) logits, or None in the one-to-many half; one_to_many: the second half of
    the queries, in training only.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor | None
    masks: Tensor
    semantic: Tensor | None
    one_to_many: Detections | None = None

    @property
    def scores(self) -> Tensor:
        """Scores (P, Q) in [0, 1] of the last layer: ``sigmoid(logits) * sigmoid(presence)``."""
        return self.logits[-1].sigmoid() * self.presence[-1].sigmoid().unsqueeze(-1)


@dataclass(frozen=True)
class Targets(_OnDevice):
    """The objects that each phrase should find, packed in phrase order.

    boxes (N, 4) cxcywh in [0, 1]; counts (P,) int64, their sum is N; masks (N, H, W) bool, or None
    if no object has one; mask_valid (N,) bool, False where an object has a box but no mask;
    exhaustive (P,) bool, False where a phrase's objects are known not to be all there are.
    """

    boxes: Tensor
    counts: Tensor
    masks: Tensor | None
    mask_valid: Tensor
    exhaustive: Tensor
