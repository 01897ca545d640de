"""Which query answers for which object: one-to-one (Hungarian) and one-to-many matching."""

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

# One-to-many: share of the class score in a pair's quality, least quality, most queries per object.
SCORE_SHARE, MIN_QUALITY, MAX_QUERIES = 0.3, 0.4, 4


@dataclass(frozen=True)
class Matches:
    """Pairs of a query and an object, sorted by phrase, then by query.

    phrase_index, query_index and target_index are (M,) int64 on the detections' device;
    target_index counts through the packed objects of the whole batch.
    """

    phrase_index: Tensor
    query_index: Tensor
    target_index: Tensor

    def __len__(self) -> int:
        return len(self.phrase_index)

    def keep(self, mask: Tensor) -> Matches:
        """The pairs for which mask (M,) bool is True."""
        return Matches(self.phrase_index[mask], self.query_index[mask], self.target_index[mask])


@torch.no_grad()
def match_one_to_one(logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> list[Matches]:
    """Gives each object one query of its phrase so that the cost is least, in every decoder layer.

    Where a phrase has more objects than queries, each query gets an object and the rest stay
    without. All layers are costed at once, so a GPU is waited for only once.

    Args:
        logits: (L, P, Q) class logits.
        boxes_cxcywh: (L, P, Q, 4) in [0, 1].

    Returns:
        The matches of each layer.

    Raises:
        TrainingError: a cost is not finite.

    Source: DETR (Carion et al., 2020); ``BinaryHungarianMatcherV2`` in sam3/train/matcher.py.
    """
    counts = targets.counts.tolist()
    asked = [phrase for phrase, count in enumerate(counts) if count]
    if not asked:
        return [_as_matches([], [], [], logits.device) for _ in logits]
    phrases = torch.tensor(asked, device=logits.device)
    logits, boxes_cxcywh = logits.float()[:, phrases], boxes_cxcywh.float()[:, phrases]
    objects_cxcywh = _padded(targets.boxes.float(), [counts[phrase] for phrase in asked])
    costs = _costs(logits, boxes_cxcywh, objects_cxcywh).cpu().numpy()  # (L, asked phrases, Q, most objects)

    first_target = np.concatenate(([0], np.cumsum(counts)))
    matches = []
    for layer, layer_costs in enumerate(costs):
        found = []
        for row, phrase in enumerate(asked):
            cost = layer_costs[row, :, : counts[phrase]]
            if not np.isfinite(cost).all():
                raise _cannot_match(logits[layer, row], boxes_cxcywh[layer, row], objects_cxcywh[row])
            queries, objects = linear_sum_assignment(cost)
            found.append((np.full_like(queries, phrase), queries, objects + first_target[phrase]))
        matches.append(_as_matches(*(np.concatenate(column) for column in zip(*found, strict=True)), logits.device))
    return matches


@torch.no_grad()
def match_one_to_many(logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> Matches:
    """Gives each object the queries of its phrase that fit it best: at most four, possibly none.

    A query may answer for several objects.

    Args:
        logits: (P, Q) class logits.
        boxes_cxcywh: (P, Q, 4) in [0, 1].

    Raises:
        TrainingError: the quality of a pair is not finite.

    Source: DAC-DETR (Hu et al., 2023); ``BinaryOneToManyMatcher`` in sam3/train/matcher.py.
    """
    counts = targets.counts.tolist()
    if not any(counts):
        return _as_matches([], [], [], logits.device)
    logits, boxes_cxcywh = logits.float(), boxes_cxcywh.float()
    objects_cxcywh = _padded(targets.boxes.float(), counts)  # (P, most objects, 4)
    iou = pairwise_iou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh))
    quality = SCORE_SHARE * logits.sigmoid().unsqueeze(-1) + (1 - SCORE_SHARE) * iou  # (P, Q, most objects)
    is_object = torch.arange(quality.shape[-1], device=logits.device) < targets.counts.unsqueeze(-1)

    broken = (~quality.isfinite() & is_object.unsqueeze(1)).flatten(1).any(-1)
    if broken.any():
        phrase = int(broken.nonzero()[0])
        raise _cannot_match(logits[phrase], boxes_cxcywh[phrase], objects_cxcywh[phrase])

    # A quantile rather than a top-k, as the reference: at equal quality it takes fewer, not any.
    least = torch.quantile(quality, max(0.0, 1 - MAX_QUERIES / logits.shape[1]), dim=1, keepdim=True)
    chosen = (quality > least) & (quality > MIN_QUALITY) & is_object.unsqueeze(1)
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
    """Packed boxes (N, 4) as (P, most objects, 4), padded with zeros."""
    assert len(boxes) == sum(counts), "counts must add up to the number of packed boxes"
    return torch.nn.utils.rnn.pad_sequence(boxes.split(list(counts)), batch_first=True)


def _as_matches(phrases, queries, objects, device: torch.device) -> Matches:
    columns = torch.from_numpy(np.array([phrases, queries, objects], dtype=np.int64)).to(device)
    return Matches(*columns)


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
        "Expected boxes with an area, but the overlap of a predicted box with an object's box cannot be computed "
        "because both are empty or far too large",
        annotations,
    )
