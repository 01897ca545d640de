"""The training loss: which terms apply to which layer and half, their weights and their normalization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from sam3_lora.config import LossConfig
from sam3_lora.loss.matching import Matches, match
from sam3_lora.loss.terms import box_terms, classification_terms, mask_terms, with_mask
from sam3_lora.structures import Detections, Targets


@dataclass(frozen=True)
class LossTerm:
    """One term of the loss, detached, float32 scalars."""

    raw: Tensor  # unweighted
    weight: float
    weighted: Tensor  # raw * weight


@dataclass(frozen=True)
class LossReport:
    """The loss of a batch."""

    total: Tensor  # scalar with a gradient
    terms: dict[str, LossTerm]  # by name; their weighted values add up to the total


class Sam3LossWrapper(nn.Module):
    """SAM 3's training loss.

    The suffix of a term's name tells its origin: none for the last decoder layer, ``_aux_0`` for the first, and so on;
    ``_o2m`` for the one-to-many half of the queries. Masks are compared in the last layer only.

    Source: ``Sam3LossWrapper`` in sam3/train/loss/sam3_loss.py, as SAM 3's training configuration sets it up.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: LossConfig) -> Sam3LossWrapper:
        """The loss with the weights of the `loss` section of the settings."""
        return cls(config)

    def forward(self, detections: Detections, targets: Targets) -> LossReport:
        """The loss of a batch, in float32 even under autocast.

        Args:
            detections: any number of layers, phrases and queries, with masks or with a mask head, which is asked once
                for the masks of matched queries; without a one-to-many half, as in evaluation, the terms of that half
                are left out.
            targets: on the same device.

        Raises:
            TrainingError: detections or targets are not finite, so they cannot be matched.
        """
        with torch.autocast(detections.logits.device.type, enabled=False):
            total = detections.logits.new_zeros((), dtype=torch.float32)
            terms = {}
            for name, raw, weight in self._weighted_terms(detections, targets):
                weighted = raw * weight
                total = total + weighted
                terms[name] = LossTerm(raw.detach(), weight, weighted.detach())
        return LossReport(total, terms)

    def _weighted_terms(self, detections: Detections, targets: Targets) -> Iterator[tuple[str, Tensor, float]]:
        """Name, raw value and weight of each term, last layer first; the only place where weights are chosen."""
        num_objects = self._num_objects(targets)
        o2m = detections.one_to_many if self.config.o2m_weight > 0 else None
        matches, o2m_matches = match(detections, targets, with_one_to_many=o2m is not None)
        halves = [(detections, matches, "", 1.0)]
        if o2m is not None:
            halves.append((o2m, o2m_matches, "_o2m", self.config.o2m_weight))

        last = len(detections.logits) - 1
        masked = [with_mask(matches[last], targets) for _, matches, _, _ in halves]
        masks = _masks_of(detections, masked)
        for layer in (last, *range(last)):
            for position, (half, matches, half_suffix, half_weight) in enumerate(halves):
                suffix = half_suffix if layer == last else f"_aux_{layer}{half_suffix}"
                terms = self._layer_terms(half, layer, targets, matches[layer], num_objects)
                if layer == last:
                    terms |= mask_terms(masks[position], targets, masked[position].target_index, num_objects)
                for name, raw in terms.items():
                    yield name + suffix, raw, getattr(self.config, name) * half_weight

    def _layer_terms(
        self, half: Detections, layer: int, targets: Targets, matches: Matches, num_objects: Tensor
    ) -> dict[str, Tensor]:
        """The raw terms of one decoder layer of one half, but for the masks."""
        logits, boxes = half.logits[layer], half.boxes[layer]
        presence = None if half.presence is None else half.presence[layer]
        terms = box_terms(boxes, targets, matches, num_objects)
        return terms | classification_terms(logits, boxes, presence, targets, matches, self.config.pos_weight)

    def _num_objects(self, targets: Targets) -> Tensor:
        """The divisor of sums over objects: a scalar, at least 1."""
        num_objects = torch.full((), sum(targets.counts.tolist()), dtype=torch.float32, device=targets.boxes.device)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        # Evaluation runs in one process: the others would never join the all_reduce.
        if self.training and self.config.normalization == "global" and distributed:
            torch.distributed.all_reduce(num_objects)
            num_objects = num_objects / torch.distributed.get_world_size()
        return num_objects.clamp(min=1)


def _masks_of(detections: Detections, matches: Sequence[Matches]) -> list[Tensor]:
    """The mask logits (M, h, w) of each half's matched queries; the halves are one or both, the one-to-many last."""
    if detections.mask_head is None:
        # Indexed once: indexing in each chunk of the loss would create a gradient of (P, Q, h, w) for each.
        return [
            _masks(half)[of_half.phrase_index, of_half.query_index]
            for half, of_half in zip((detections, detections.one_to_many), matches, strict=False)
        ]
    phrase_index = torch.from_numpy(np.concatenate([of_half.on_host[0] for of_half in matches]))
    queries = detections.logits.shape[-1]
    query_index = torch.cat([of_half.query_index + half * queries for half, of_half in enumerate(matches)])
    masks = detections.mask_head(phrase_index, query_index)
    return list(torch.split(masks, [len(of_half) for of_half in matches]))


def _masks(half: Detections | None) -> Tensor:
    assert half is not None and half.masks is not None, "detections have masks or a mask head"
    return half.masks
