"""SAM 3's loss terms, unweighted: pure functions of detections, targets and their matches.

Each function returns its terms by name as scalars with a gradient, even where nothing is matched. Everything is
computed in float32, whatever the precision of the inputs.
Source: ``Boxes``, ``IABCEMdetr`` and ``Masks`` in sam3/train/loss/loss_fns.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sam3_lora.boxes import cxcywh_to_xyxy, matched_giou, matched_iou
from sam3_lora.loss.matching import Matches
from sam3_lora.structures import Targets

# Classification: the target score of a matched query is prob**SCORE_ALPHA * iou**(1 - SCORE_ALPHA), at least MIN_SCORE.
SCORE_ALPHA, MIN_SCORE, NEGATIVE_GAMMA = 0.25, 0.01, 2
# The mean over queries is taken over at least this many, so that models with fewer have the same weight.
PAD_QUERIES = 200
PRESENCE_ALPHA = 0.5
# Focal loss over mask pixels: weight of an object's pixels against the background's (its gamma is 2).
MASK_ALPHA = 0.25
# Mask pixels computed at once, 4 masks of 1008 x 1008: enough to keep a GPU busy with 16 MiB per buffer.
PIXELS_AT_ONCE = 2**22


def box_terms(boxes_cxcywh: Tensor, targets: Targets, matches: Matches, num_objects: Tensor) -> dict[str, Tensor]:
    """L1 distance and 1 - GIoU, summed over matches, divided by the number of objects.

    Args:
        boxes_cxcywh: (P, Q, 4) in [0, 1].
        targets: of the P phrases.
        matches: of one decoder layer.
        num_objects: scalar, at least 1.

    Returns:
        loss_bbox and loss_giou.
    """
    predicted = boxes_cxcywh[matches.phrase_index, matches.query_index].float()  # (M, 4)
    gt = targets.boxes[matches.target_index].float()
    giou = matched_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(gt))
    return {
        "loss_bbox": (predicted - gt).abs().sum() / num_objects,
        "loss_giou": (1 - giou).sum() / num_objects,
    }


def classification_terms(
    logits: Tensor,
    boxes_cxcywh: Tensor,
    presence: Tensor | None,
    targets: Targets,
    matches: Matches,
    pos_weight: float,
) -> dict[str, Tensor]:
    """Cross entropy of query scores and of phrase presence.

    The target score of a matched query follows from the IoU of its box, that of an unmatched one is 0, where
    confident errors weigh more. A phrase without objects contributes to the presence loss only. Where a phrase's
    objects are incomplete, an unmatched query may have found one that is not annotated: it has no loss.

    Args:
        logits: (P, Q).
        boxes_cxcywh: (P, Q, 4) in [0, 1].
        presence: (P,) logits, or None for the one-to-many half.
        targets: of the P phrases.
        matches: of one decoder layer.
        pos_weight: factor on matched queries.

    Returns:
        loss_ce and, with `presence`, presence_loss.
    """
    logits = logits.float()
    num_phrases, num_queries = logits.shape
    probability = logits.sigmoid()
    present = _is_present(targets)

    target_score = _target_scores(probability, boxes_cxcywh, targets, matches)
    of_unmatched = probability**NEGATIVE_GAMMA * targets.exhaustive.unsqueeze(-1)
    weight = torch.where(target_score != 0, pos_weight, of_unmatched)
    errors = weight * F.binary_cross_entropy_with_logits(logits, target_score, reduction="none")
    # A batch may contain no phrase at all (images without objects, no negatives): then the mean is 0, not NaN.
    mean_over = max(num_phrases, 1) * max(num_queries, PAD_QUERIES)
    terms = {"loss_ce": (errors * present.unsqueeze(-1)).sum() / mean_over}

    if presence is not None:
        terms["presence_loss"] = presence_term(presence, present)
    return terms


def presence_term(presence: Tensor, present: Tensor) -> Tensor:
    """Cross entropy of phrase presence, a mean over phrases, as a scalar.

    Args:
        presence: (P,) logits.
        present: (P,) float in [0, 1]: 1 where a phrase has an object, or the probability of it.
    """
    errors = F.binary_cross_entropy_with_logits(presence.float(), present, reduction="sum")
    # A focal loss with gamma 0, where alpha weighs present and absent phrases alike.
    return PRESENCE_ALPHA * errors / max(len(presence), 1)


def _is_present(targets: Targets) -> Tensor:
    """(P,) float: 1 where a phrase has an object with an area, else 0."""
    has_area = (targets.boxes[:, 2:] > 0).all(-1).float()
    return has_area.new_zeros(len(targets.counts)).index_add(0, targets.phrase_index, has_area).clamp(max=1)


@torch.no_grad()
def _target_scores(probability: Tensor, boxes_cxcywh: Tensor, targets: Targets, matches: Matches) -> Tensor:
    """The target score of each query, (P, Q): at least MIN_SCORE where matched, 0 elsewhere."""
    pairs = (matches.phrase_index, matches.query_index)
    predicted = cxcywh_to_xyxy(boxes_cxcywh[pairs].float())
    iou = matched_iou(predicted, cxcywh_to_xyxy(targets.boxes[matches.target_index].float()))
    score = (probability[pairs] ** SCORE_ALPHA * iou ** (1 - SCORE_ALPHA)).clamp(min=MIN_SCORE)
    # The target of a query with several objects is that of the last one; all of its pairs write it, in any order.
    return torch.zeros_like(probability).index_put(pairs, score[matches.last_of_query])


def with_mask(matches: Matches, targets: Targets) -> Matches:
    """The matches with an object whose mask is valid: those that :func:`mask_terms` compares."""
    if targets.masks is None:
        return matches.keep(np.zeros(len(matches), dtype=bool))
    return matches.keep(targets.mask_valid.cpu().numpy()[matches.on_host[2]])


def mask_terms(
    mask_logits: Tensor,
    targets: Targets,
    target_index: Tensor,
    num_objects: Tensor,
    pixels_at_once: int = PIXELS_AT_ONCE,
) -> dict[str, Tensor]:
    """Focal loss (mean over pixels) and dice loss, summed over matches, divided by the number of objects.

    Predictions are upsampled to the targets' size in chunks, and again in the backward pass, so that memory beyond the
    predictions themselves does not grow with the number of matches.

    Args:
        mask_logits: (M, h, w) of the matches :func:`with_mask`, of the last decoder layer.
        targets: with masks (N, H, W); without any, M is 0.
        target_index: (M,) the object of each.
        num_objects: scalar, at least 1: all objects, with a mask or without.
        pixels_at_once: size of a chunk in upsampled pixels; at least one mask.

    Returns:
        loss_mask and loss_dice.
    """
    masks = targets.boxes.new_zeros((0, 1, 1), dtype=torch.bool) if targets.masks is None else targets.masks
    at_once = max(1, pixels_at_once // (masks.shape[-2] * masks.shape[-1]))
    focal, dice = _MaskErrors.apply(mask_logits, masks, target_index, at_once)
    return {"loss_mask": focal / num_objects, "loss_dice": dice / num_objects}


class _MaskErrors(torch.autograd.Function):
    """Focal and dice loss of mask logits (M, h, w) against masks[target_index], each summed over matches.

    Both are functions of one number per pixel. With x the upsampled logit, let z = x on the background and z = -x on
    the object: q = sigmoid(z) is the pixel's error, softplus(z) its cross entropy.

        focal      = alpha * q^2 * softplus(z)
        d focal/dz = alpha * q^2 * (2 (1 - q) softplus(z) + q)
        dice       = 1 - (2 A + 1) / (D + 1),  A = sum(1 - q on the object),  D = A + area + sum(q on the background)
        d dice/dq  = (2 A + 1) / (D + 1)^2 on the background,  2 / (D + 1) - (2 A + 1) / (D + 1)^2 on the object

    and dq/dz = q (1 - q). Written out, the backward pass takes half the time of autograd's.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, masks: Tensor, target_index: Tensor, at_once: int) -> tuple[Tensor, Tensor]:
        focal, overlap, size = torch.zeros(3, len(logits), device=logits.device)
        for chunk in _chunks(len(logits), at_once):
            on_object = masks[target_index[chunk]].float()
            error_logits = _upsample(logits[chunk], masks).mul_(_sign(on_object))
            error = error_logits.sigmoid()
            area, error_area = on_object.sum((1, 2)), error.sum((1, 2))
            missed_area = (error * on_object).sum((1, 2))
            overlap[chunk] = area - missed_area
            size[chunk] = 2 * area + error_area - 2 * missed_area
            pixel_errors = F.softplus(error_logits).mul_(error).mul_(error).mul_(_alpha(on_object))
            focal[chunk] = pixel_errors.mean((1, 2))
        ctx.save_for_backward(logits, masks, target_index, overlap, size)
        ctx.at_once = at_once
        return focal.sum(), (1 - (2 * overlap + 1) / (size + 1)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_focal: Tensor, grad_dice: Tensor) -> tuple[Tensor | None, ...]:
        logits, masks, target_index, overlap, size = ctx.saved_tensors
        grad_focal = grad_focal / (masks.shape[-2] * masks.shape[-1])
        by_background = grad_dice * (2 * overlap + 1) / (size + 1) ** 2
        by_object_more = grad_dice * 2 / (size + 1) - 2 * by_background
        grad = torch.empty_like(logits)
        for chunk in _chunks(len(logits), ctx.at_once):
            on_object = masks[target_index[chunk]].float()
            with torch.enable_grad():
                small = logits[chunk].detach().requires_grad_()
                upsampled = _upsample(small, masks)
            sign = _sign(on_object)
            error_logits = upsampled.detach().mul_(sign)
            error = error_logits.sigmoid()
            correct = 1 - error
            grad_error_logits = F.softplus(error_logits).mul_(2).mul_(correct).add_(error).mul_(error)
            grad_error_logits.mul_(_alpha(on_object).mul_(grad_focal))
            by_pixel = on_object.mul_(by_object_more[chunk, None, None]).add_(by_background[chunk, None, None])
            grad_error_logits.add_(correct.mul_(by_pixel)).mul_(error)
            (grad[chunk],) = torch.autograd.grad(upsampled, small, grad_error_logits.mul_(sign))
        return grad, None, None, None


def _chunks(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def _upsample(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """(K, h, w) -> (K, H, W) float32, H and W those of masks."""
    size_hw = masks.shape[-2:]
    return F.interpolate(mask_logits.float().unsqueeze(1), size_hw, mode="bilinear", align_corners=False).squeeze(1)


def _sign(on_object: Tensor) -> Tensor:
    """-1 on the object, 1 on the background."""
    return (on_object * -2).add_(1)


def _alpha(on_object: Tensor) -> Tensor:
    """The focal loss's weight of each pixel, (K, H, W)."""
    return (on_object * (2 * MASK_ALPHA - 1)).add_(1 - MASK_ALPHA)
