"""The loss of replayed phrases: how far detections are from what the base model predicts for them.

Each term is 0 where both are the same: cross entropies are less their least value, the entropy of the base's own
prediction. Decoder layers are summed, as in SAM 3's own loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, matched_giou
from sam3_lora.loss.wrapper import LossReport, LossTerm
from sam3_lora.structures import Detections, SoftTargets, to_device

# Factor of each term beside the weight of replay. Those of presence and boxes are the factors of SAM 3's own terms.
WEIGHTS = {"replay_presence": 10.0, "replay_logits": 1.0, "replay_bbox": 5.0, "replay_giou": 2.0, "replay_mask": 10.0}
MIN_SCORE = 0.2  # boxes of queries that the base scores lower are not compared


def replay_loss(detections: Detections, soft: SoftTargets, weight: float) -> LossReport:
    """The loss of P replayed phrases, in float32 even under autocast.

    Args:
        detections: of all phrases, with a mask head.
        soft: the base model's predictions, on the same device.
        weight: of replay in the whole loss.
    """
    with torch.autocast(detections.logits.device.type, enabled=False):
        raw = _raw_terms(detections, _in_float32(soft))
        terms = {
            name: LossTerm(value.detach(), weight * WEIGHTS[name], weight * WEIGHTS[name] * value.detach())
            for name, value in raw.items()
        }
        total = torch.stack([weight * WEIGHTS[name] * value for name, value in raw.items()]).sum()
    return LossReport(total, terms)


def _in_float32(soft: SoftTargets) -> SoftTargets:
    floats = (soft.logits.float(), soft.boxes.float(), soft.presence.float(), soft.masks.float())
    return SoftTargets(*floats, soft.phrase_index, soft.query_index)


def _raw_terms(detections: Detections, soft: SoftTargets) -> dict[str, Tensor]:
    """The unweighted terms by name, scalars with a gradient."""
    assert detections.presence is not None and detections.mask_head is not None
    found, present = soft.logits.sigmoid(), soft.presence.sigmoid().unsqueeze(-1)
    scores = found * present  # (L, P, Q)
    phrases = max(soft.logits.shape[1], 1)
    # A query matters as far as either model takes it for an object, of a phrase that the base takes for present.
    matters = torch.maximum(found, detections.logits.detach().sigmoid()) * present
    terms = {
        "replay_presence": _excess(detections.presence, soft.presence).sum() / phrases,
        "replay_logits": (matters * _excess(detections.logits, soft.logits)).sum() / phrases,
    }
    certain = torch.where(scores > MIN_SCORE, scores, 0)
    divisor = certain[-1].sum().clamp(min=1)  # the base's number of objects
    terms["replay_bbox"] = (certain * (detections.boxes - soft.boxes).abs().sum(-1)).sum() / divisor
    giou = matched_giou(cxcywh_to_xyxy(detections.boxes.flatten(0, 2)), cxcywh_to_xyxy(soft.boxes.flatten(0, 2)))
    terms["replay_giou"] = (certain.flatten() * (1 - giou)).sum() / divisor
    terms["replay_mask"] = _mask_term(detections.mask_head(soft.phrase_index, soft.query_index), soft, scores[-1])
    return terms


def _excess(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy of logits with the probabilities of other logits, less the entropy of these; elementwise."""
    probability = wanted.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(wanted, probability, reduction="none")
    return F.binary_cross_entropy_with_logits(logits.float(), probability, reduction="none") - entropy


def _mask_term(logits: Tensor, soft: SoftTargets, scores: Tensor) -> Tensor:
    """Excess cross entropy (mean over pixels) and dice loss of probabilities, a mean over masks by the base's score.

    Args:
        logits: (M, h, w).
        soft: with the base's.
        scores: (P, Q) of the base.
    """
    weights = scores[to_device(soft.phrase_index, scores.device), to_device(soft.query_index, scores.device)]  # (M,)
    ours, wanted = logits.float().sigmoid(), soft.masks.sigmoid()
    overlap, size = (ours * wanted).sum((1, 2)), (ours**2).sum((1, 2)) + (wanted**2).sum((1, 2))
    dice = 1 - (2 * overlap + 1) / (size + 1)
    errors = _excess(logits, soft.masks).mean((1, 2)) + dice if len(logits) else dice
    return (weights * errors).sum() / weights.sum().clamp(min=1)
