"""Matches queries with ground-truth objects: one-to-one (Hungarian) and one-to-many.

The device computes what each pair costs, the host chooses. For all layers and both halves of the queries together the
host waits for the device once, and what it chose goes back in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_giou, pairwise_iou
from sam3_lora.errors import TrainingError
from sam3_lora.structures import Detections, Targets, to_device

# Costs of the Hungarian matcher, as in SAM 3's training configuration.
COST_CLASS, COST_BBOX, COST_GIOU = 2.0, 5.0, 2.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0

# One-to-many: weight of the class score in a pair's quality, minimum quality, maximum queries per object.
SCORE_WEIGHT, MIN_QUALITY, MAX_QUERIES = 0.3, 0.4, 4


@dataclass(frozen=True)
class Matches:
    """M pairs of a query and an object, sorted by phrase, then by query."""

    on_host: np.ndarray  # (3, M) int64: phrase, query, and object in the packed objects of the whole batch
    on_device: Tensor  # (4, M) int64: the same; and where the last pair of the same query stands

    @classmethod
    def of(cls, pairs: np.ndarray, device: torch.device) -> Matches:
        """The matches of pairs (3, M) int64."""
        return _on_device([pairs], device)[0]

    @property
    def phrase_index(self) -> Tensor:
        """(M,) int64."""
        return self.on_device[0]

    @property
    def query_index(self) -> Tensor:
        """(M,) int64."""
        return self.on_device[1]

    @property
    def target_index(self) -> Tensor:
        """(M,) int64, into the packed objects of the whole batch."""
        return self.on_device[2]

    @property
    def last_of_query(self) -> Tensor:
        """(M,) int64: the place of the last of the pairs that have this pair's query."""
        return self.on_device[3]

    def __len__(self) -> int:
        return len(self.on_host[0])

    def keep(self, mask: np.ndarray) -> Matches:
        """The pairs for which mask (M,) bool is True."""
        return self if mask.all() else Matches.of(self.on_host[:, mask], self.on_device.device)


@dataclass(frozen=True)
class _Objects:
    """The objects of the R phrases that have any, padded to the largest number of them."""

    counts: list[int]  # of all phrases
    phrases: list[int]  # R of them
    boxes_cxcywh: Tensor  # (R, most objects, 4) float32


# Computes a number for each pair from logits (L, R, Q), boxes (L, R, Q, 4) and objects (R, M, 4): (L, R, Q, M).
_Numbers = Callable[[Tensor, Tensor, Tensor], Tensor]
# Chooses queries and objects of one phrase by its numbers (Q, M).
_Choice = Callable[[np.ndarray], tuple[np.ndarray, ...]]
_Layers = tuple[Tensor, Tensor, _Numbers, _Choice]  # logits (L, P, Q), boxes (L, P, Q, 4) and how they are matched


def match(
    detections: Detections, targets: Targets, with_one_to_many: bool = True
) -> tuple[list[Matches], list[Matches]]:
    """The matches of each layer of the main half, and of each layer of the one-to-many half.

    SAM 3 matches the auxiliary layers one-to-one in the one-to-many half too (use_o2m_matcher_on_o2m_aux: false).

    Args:
        detections: of P phrases.
        targets: of the P phrases.
        with_one_to_many: whether to match that half, if there is one; it gets no matches otherwise.

    Raises:
        TrainingError: see :func:`match_one_to_one`.
    """
    layers: list[_Layers] = [(detections.logits, detections.boxes, _costs, linear_sum_assignment)]
    o2m = detections.one_to_many if with_one_to_many else None
    if o2m is not None:
        layers.append((o2m.logits[:-1], o2m.boxes[:-1], _costs, linear_sum_assignment))
        layers.append((o2m.logits[-1:], o2m.boxes[-1:], _qualifies, np.nonzero))
    matches = _match(layers, targets)
    return matches[: len(detections.logits)], matches[len(detections.logits) :]


def match_one_to_one(logits: Tensor, boxes_cxcywh: Tensor, targets: Targets) -> list[Matches]:
    """Assigns each object one query of its phrase at the lowest total cost, in every decoder layer.

    Where a phrase has more objects than queries, each query gets an object and the other objects none.

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
    return _match([(logits, boxes_cxcywh, _costs, linear_sum_assignment)], targets)


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
    return _match([(logits[None], boxes_cxcywh[None], _qualifies, np.nonzero)], targets)[0]


@torch.no_grad()
def _match(groups: Sequence[_Layers], targets: Targets) -> list[Matches]:
    """The matches of the layers of all groups, one after another."""
    device = groups[0][0].device
    counts = targets.counts.tolist()
    objects = _objects(targets.boxes, counts)
    if not objects.phrases:
        return _on_device([_columns([]) for logits, *_ in groups for _ in logits], device)
    rows = to_device(np.array(objects.phrases), device)
    present = [(logits[:, rows].float(), boxes[:, rows].float()) for logits, boxes, *_ in groups]
    numbers = [compute(*layers, objects.boxes_cxcywh) for layers, (*_, compute, _) in zip(present, groups, strict=True)]
    on_host = torch.split(torch.cat([one.flatten() for one in numbers]).cpu(), [one.numel() for one in numbers])

    pairs = []
    for layers, values, computed, (*_, choose) in zip(present, on_host, numbers, groups, strict=True):
        for layer, of_layer in enumerate(values.view(computed.shape).numpy()):
            pairs.append(_choose(choose, of_layer, objects, (layers[0][layer], layers[1][layer])))
    return _on_device(pairs, device)


def _objects(boxes_cxcywh: Tensor, counts: list[int]) -> _Objects:
    assert len(boxes_cxcywh) == sum(counts), "counts must add up to the number of packed boxes"
    phrases = [phrase for phrase, count in enumerate(counts) if count]
    if not phrases:
        return _Objects(counts, [], boxes_cxcywh.new_zeros((0, 0, 4)))
    of_phrases = torch.split(boxes_cxcywh.float(), [counts[phrase] for phrase in phrases])
    return _Objects(counts, phrases, torch.nn.utils.rnn.pad_sequence(list(of_phrases), batch_first=True))


def _choose(choose: _Choice, numbers: np.ndarray, objects: _Objects, predicted: tuple[Tensor, Tensor]) -> np.ndarray:
    """The pairs (3, K) of one layer.

    Args:
        choose: from the numbers of one phrase.
        numbers: (R, Q, most objects); not finite where a pair cannot be compared.
        objects: of the R phrases.
        predicted: logits (R, Q) and boxes (R, Q, 4), for the error's reason.
    """
    first_target = np.concatenate(([0], np.cumsum(objects.counts)))
    pairs = []
    for row, phrase in enumerate(objects.phrases):
        of_phrase = numbers[row, :, : objects.counts[phrase]]
        if not np.isfinite(of_phrase).all():
            raise _cannot_match(predicted[0][row], predicted[1][row], objects.boxes_cxcywh[row])
        queries, places = choose(of_phrase)
        pairs.append(np.stack((np.full_like(queries, phrase), queries, places + first_target[phrase])))
    return _columns(pairs)


def _costs(logits: Tensor, boxes_cxcywh: Tensor, objects_cxcywh: Tensor) -> Tensor:
    """Costs (L, R, Q, M) of every pair from logits (L, R, Q), boxes (L, R, Q, 4) and objects (R, M, 4)."""
    probability = logits.sigmoid()
    as_object = -FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * F.logsigmoid(logits)
    as_background = -(1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * F.logsigmoid(-logits)
    distance = torch.cdist(boxes_cxcywh, objects_cxcywh, p=1)
    giou = pairwise_giou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh))
    return COST_BBOX * distance + COST_CLASS * (as_object - as_background).unsqueeze(-1) - COST_GIOU * giou


def _qualifies(logits: Tensor, boxes_cxcywh: Tensor, objects_cxcywh: Tensor) -> Tensor:
    """1 for the pairs that match one-to-many, 0 for others, NaN where the quality is not finite; as :func:`_costs`."""
    iou = pairwise_iou(cxcywh_to_xyxy(boxes_cxcywh), cxcywh_to_xyxy(objects_cxcywh))
    quality = SCORE_WEIGHT * logits.sigmoid().unsqueeze(-1) + (1 - SCORE_WEIGHT) * iou  # (L, R, Q, M)
    # A quantile rather than a top-k, as in the reference: of equal qualities it takes none rather than some.
    min_quality = torch.quantile(quality, max(0.0, 1 - MAX_QUERIES / logits.shape[-1]), dim=-2, keepdim=True)
    chosen = (quality > min_quality) & (quality > MIN_QUALITY)
    return torch.where(quality.isfinite(), chosen.float(), torch.nan)


def _columns(pairs: list[np.ndarray]) -> np.ndarray:
    """Arrays (3, K) as one."""
    return np.concatenate([np.zeros((3, 0), dtype=np.int64), *pairs], axis=1)


def _on_device(pairs: list[np.ndarray], device: torch.device) -> list[Matches]:
    """Each array of pairs (3, M) as matches; copied to the device together."""
    if not pairs:
        return []
    columns = np.concatenate([np.vstack((one, _last_of_query(one))) for one in pairs], axis=1)
    parts = torch.split(to_device(columns, device), [one.shape[1] for one in pairs], dim=1)
    return [Matches(one, part) for one, part in zip(pairs, parts, strict=True)]


def _last_of_query(pairs: np.ndarray) -> np.ndarray:
    """See :attr:`Matches.last_of_query`; the pairs of a query are neighbors."""
    is_last = np.ones(pairs.shape[1], dtype=bool)
    is_last[:-1] = (pairs[:2, 1:] != pairs[:2, :-1]).any(0)
    places = np.flatnonzero(is_last)
    return places[np.searchsorted(places, np.arange(pairs.shape[1]))]


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
