"""Matches queries with ground-truth objects: one-to-one (Hungarian) and one-to-many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_giou, pairwise_iou
from sam3_lora.errors import TrainingError
from sam3_lora.structures import Targets

# Costs of the Hungarian matcher, as in SAM 3's training configuration.
COST_CLASS, COST_BBOX, COST_GIOU = 2.0, 5.0, 2.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0

# One-to-many: weight of the class score in a pair's quality, minimum quality, maximum queries per object.
SCORE_WEIGHT, MIN_QUALITY, MAX_QUERIES = 0.3, 0.4, 4


@dataclass(frozen=True)
class Matches:
    """M pairs of a query and an object, sorted by phrase, then by query; on the detections' device."""

    phrase_index: Tensor  # (M,) int64
    query_index: Tensor  # (M,) int64
    target_index: Tensor  # (M,) int64, into the packed objects of the whole batch

    def __len__(self) -> int:
        return len(self.phrase_index)

    def keep(self, mask: Tensor) -> Matches:
        """The pairs for which mask (M,) bool is True."""
        return Matches(self.phrase_index[mask], self.query_index[mask], self.target_index[mask])


@torch.no_grad()
def match_one_to_one(logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> list[Matches]:
    """Assigns each object one query of its phrase at the lowest total cost, in every decoder layer.

    Where a phrase has more objects than queries, each query gets an object and the other objects none. The costs of
    all layers are computed at once, so that the GPU is synchronized only once.

    Args:
        logits: (L, P, Q) class logits.
        boxes_cxcywh: (L, P, Q, 4) in [0, 1].
        targets: of the P phrases.

    Returns:
        The matches of each layer.

    Raises:
        TrainingError: a cost is not finite.

    Source: DETR (Carion et al., 2020); ``BinaryHungarianMatcherV2`` in sam3/train/matcher.py.
    """
    counts = targets.counts.tolist()
    present = [phrase for phrase, count in enumerate(counts) if count]
    if not present:
        return [_matches([], logits.device) for _ in logits]
    phrases = torch.tensor(present, device=logits.device)
    logits, boxes_cxcywh = logits.float()[:, phrases], boxes_cxcywh.float()[:, phrases]
    objects_cxcywh = _padded(targets.boxes.float(), [counts[phrase] for phrase in present])
    costs = _costs(logits, boxes_cxcywh, objects_cxcywh).cpu().numpy()  # (L, present phrases, Q, max. objects)

    first_target = np.concatenate(([0], np.cumsum(counts)))
    matches = []
    for layer, layer_costs in enumerate(costs):
        pairs = []
        for row, phrase in enumerate(present):
            cost = layer_costs[row, :, : counts[phrase]]
            if not np.isfinite(cost).all():
                raise _cannot_match(logits[layer, row], boxes_cxcywh[layer, row], objects_cxcywh[row])
            queries, objects = linear_sum_assignment(cost)
            pairs.append(np.stack((np.full_like(queries, phrase), queries, objects + first_target[phrase])))
        matches.append(_matches(pairs, logits.device))
    return matches


@torch.no_grad()
def match_one_to_many(logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> Matches:
    """Assigns each object the queries of its phrase that fit it best: at most four, possibly none.

    A query may be assigned to several objects.

    Args:
        logits: (P, Q) class logits.
        boxes_cxcywh: (P, Q, 4) in [0, 1].
        targets: of the P phrases.

    Raises:
        TrainingError: the quality of a pair is not finite.

    Source: DAC-DETR (Hu et al., 2023); ``BinaryOneToManyMatcher`` in sam3/train/matcher.py.
    """
    counts = targets.counts.tolist()
    if not any(counts):
        return _matches([], logits.device)
    logits, boxes_cxcywh = logits.float(), boxes_cxcywh.float()
    objects_cxcywh = _padded(targets.boxes.float(), counts)  # (P, max. objects, 4)
    iou = pairwise_iou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh))
    quality = SCORE_WEIGHT * logits.sigmoid().unsqueeze(-1) + (1 - SCORE_WEIGHT) * iou  # (P, Q, max. objects)
    is_object = torch.arange(quality.shape[-1], device=logits.device) < targets.counts.unsqueeze(-1)

    not_finite = (~quality.isfinite() & is_object.unsqueeze(1)).flatten(1).any(-1)
    if not_finite.any():
        phrase = int(not_finite.nonzero()[0])
        raise _cannot_match(logits[phrase], boxes_cxcywh[phrase], objects_cxcywh[phrase])

    # A quantile rather than a top-k, as in the reference: of equal qualities it takes none rather than some.
    min_quality = torch.quantile(quality, max(0.0, 1 - MAX_QUERIES / logits.shape[1]), dim=1, keepdim=True)
    chosen = (quality > min_quality) & (quality > MIN_QUALITY) & is_object.unsqueeze(1)
    phrase_index, query_index, object_index = chosen.nonzero(as_tuple=True)
    first_target = targets.counts.cumsum(0) - targets.counts
    return Matches(phrase_index, query_index, first_target[phrase_index] + object_index)


def _costs(logits: Tensor, boxes_cxcywh: Tensor, objects_cxcywh: Tensor) -> Tensor:
    """Costs (L, P, Q, M) of every pair from logits (L, P, Q), boxes (L, P, Q, 4) and objects (P, M, 4)."""
    probability = logits.sigmoid()
    as_object = -FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * F.logsigmoid(logits)
    as_background = -(1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * F.logsigmoid(-logits)
    distance = torch.cdist(boxes_cxcywh, objects_cxcywh, p=1)
    giou = pairwise_giou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh))
    return COST_BBOX * distance + COST_CLASS * (as_object - as_background).unsqueeze(-1) - COST_GIOU * giou


def _padded(boxes: Tensor, counts: Sequence[int]) -> Tensor:
    """Packed boxes (N, 4) as (P, max. objects, 4), padded with zeros."""
    assert len(boxes) == sum(counts), "counts must add up to the number of packed boxes"
    return torch.nn.utils.rnn.pad_sequence(list(torch.split(boxes, list(counts))), batch_first=True)


def _matches(pairs: list[np.ndarray], device: torch.device) -> Matches:
    """Of rows phrase, query and object, each (3, number of pairs)."""
    columns = np.concatenate([np.zeros((3, 0), dtype=np.int64), *pairs], axis=1)
    return Matches(*torch.from_numpy(columns).to(device))


def _cannot_match(logits: Tensor, boxes_cxcywh: Tensor, objects_cxcywh: Tensor) -> TrainingError:
    """Why one phrase's detections, logits (Q,) and boxes (Q, 4), cannot be compared with its objects (M, 4)."""
    learning_rate = (
        "Lower training.learning_rate or set training.precision to fp32, and resume from the last checkpoint"
    )
    annotations = "Correct the annotations that 'python -m sam3_lora inspect' reports for this dataset"
    if not objects_cxcywh.isfinite().all():
        return TrainingError("Expected finite boxes of objects, but some are NaN or infinite", annotations)
    for name, values in (("class scores", logits), ("boxes", boxes_cxcywh)):
        if not values.isfinite().all():
            return TrainingError(f"Expected finite {name}, but some predicted are NaN or infinite", learning_rate)
    return TrainingError(
        "Expected boxes with an area, but the IoU of a predicted box and an object's box is undefined because both "
        "are empty or far too large",
        annotations,
    )
