"""The loss of the reference implementation, set up as SAM 3 was trained, on this project's tensors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sam3_lora.boxes import cxcywh_to_xyxy
from sam3_lora.structures import Detections, Targets

REASON = "the reference (package sam3, with Triton) is not installed"
loss_fns = pytest.importorskip("sam3.train.loss.loss_fns", reason=REASON, exc_type=ImportError)
sam3_loss = pytest.importorskip("sam3.train.loss.sam3_loss", reason=REASON, exc_type=ImportError)
matcher = pytest.importorskip("sam3.train.matcher", reason=REASON, exc_type=ImportError)
model_misc = pytest.importorskip("sam3.model.model_misc", reason=REASON, exc_type=ImportError)

Indices = tuple[Tensor, Tensor, Tensor | None]
O2M_WEIGHT = 2.0
# Reported by the reference beside its losses, but never part of the total.
METRICS = ("ce_f1", "presence_dec_acc")


def hungarian_matcher() -> torch.nn.Module:
    return matcher.BinaryHungarianMatcherV2(
        cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, focal=True, alpha=0.25, gamma=2, stable=False
    )


def one_to_many_matcher() -> torch.nn.Module:
    return matcher.BinaryOneToManyMatcher(alpha=0.3, threshold=0.4, topk=4)


def classification_loss(**options) -> torch.nn.Module:
    return loss_fns.IABCEMdetr(
        weight_dict={"loss_ce": 20.0, "presence_loss": 20.0},
        pos_weight=10.0,
        gamma=2,
        alpha=0.25,
        pos_focal=False,
        use_presence=True,
        pad_n_queries=200,
        pad_scale_pos=1.0,
        **options,
    )


def loss_wrapper() -> torch.nn.Module:
    boxes = loss_fns.Boxes(weight_dict={"loss_bbox": 5.0, "loss_giou": 2.0})
    # As in its training on videos, where many phrases are not annotated exhaustively.
    classification = classification_loss(
        weak_loss=False, use_separate_loss_for_det_and_trk=True, det_non_exhaustive_loss_scale_neg=0.0
    )
    masks = loss_fns.Masks(
        weight_dict={"loss_mask": 200.0, "loss_dice": 10.0}, focal_alpha=0.25, focal_gamma=2.0, compute_aux=False
    )
    return sam3_loss.Sam3LossWrapper(
        loss_fns_find=[boxes, classification, masks],
        normalization="local",
        matcher=hungarian_matcher(),
        o2m_matcher=one_to_many_matcher(),
        o2m_weight=O2M_WEIGHT,
        use_o2m_matcher_on_o2m_aux=False,
    )


def as_targets(targets: Targets) -> dict[str, Tensor]:
    """Targets under the reference's names."""
    counts = targets.counts.tolist()
    ids = [torch.arange(count) for count in counts]
    return {
        "boxes": targets.boxes,
        "boxes_xyxy": cxcywh_to_xyxy(targets.boxes),
        "boxes_padded": pad_sequence(targets.boxes.split(counts), batch_first=True),
        "num_boxes": targets.counts,
        "masks": targets.masks,
        "is_valid_mask": targets.mask_valid,
        "is_exhaustive": targets.exhaustive,
        "object_ids_padded": pad_sequence(ids, batch_first=True, padding_value=-1),
    }


def as_outputs(detections: Detections) -> dict:
    """Detections under the reference's names, not matched yet."""
    last = len(detections.logits) - 1
    outputs = _layer_outputs(detections, last)
    outputs["aux_outputs"] = [_layer_outputs(detections, layer) for layer in range(last)]
    return outputs


def _layer_outputs(detections: Detections, layer: int) -> dict[str, Tensor]:
    outputs = {
        "Q_det": detections.logits.shape[-1],  # all queries detect, none tracks
        "pred_logits": detections.logits[layer].unsqueeze(-1),
        "pred_boxes": detections.boxes[layer],
        "pred_boxes_xyxy": cxcywh_to_xyxy(detections.boxes[layer]),
    }
    if detections.presence is not None:
        outputs["presence_logit_dec"] = detections.presence[layer]
    if layer == len(detections.logits) - 1:
        outputs["pred_masks"] = detections.masks
    if detections.one_to_many is not None:
        other = _layer_outputs(detections.one_to_many, layer)
        outputs |= {f"{name}_o2m": value for name, value in other.items()}
    return outputs


def pairs(indices: Indices) -> set[tuple[int, int, int]]:
    """Matches as (phrase, query, target); the reference leaves targets out where they are simply in order."""
    phrases, queries, objects = indices
    objects = torch.arange(len(phrases)) if objects is None else objects
    return set(zip(phrases.tolist(), queries.tolist(), objects.tolist(), strict=True))


@contextmanager
def without_triton() -> Iterator[None]:
    """The reference's focal loss as ordinary tensor operations: its Triton kernel needs a GPU."""
    focal_loss = functools.partial(loss_fns.sigmoid_focal_loss, triton=False)
    with mock.patch.object(loss_fns, "sigmoid_focal_loss", focal_loss):
        yield


def reference_loss(detections: Detections, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and the terms, unweighted but for the factor on one-to-many terms."""
    outputs, wanted = as_outputs(detections), as_targets(targets)
    # The model matches its own one-to-one half (Sam3Image._compute_matching); the loss expects it done.
    match = hungarian_matcher()
    for layer in (outputs, *outputs["aux_outputs"]):
        layer["indices"] = match(layer, wanted)
    with without_triton():
        terms = loss_wrapper()(model_misc.SAM3Output([[outputs]]), [wanted])
    total = terms.pop(loss_fns.CORE_LOSS_KEY)
    return total, {name: value for name, value in terms.items() if not name.startswith(METRICS)}


def weak_classification(detections: Detections, targets: Targets) -> tuple[dict[str, Tensor], int]:
    """The last layer's classification terms of the reference's weak loss, and how many queries they count."""
    outputs, wanted = as_outputs(detections), as_targets(targets)
    indices = hungarian_matcher()(outputs, wanted)
    with without_triton():
        terms = classification_loss(weak_loss=True).get_loss(outputs, wanted, indices, num_boxes=1)
    matched = len(pairs(indices))
    of_exhaustive = int(targets.exhaustive.sum()) * detections.logits.shape[-1]
    matched_there = sum(bool(targets.exhaustive[phrase]) for phrase, _, _ in pairs(indices))
    return terms, of_exhaustive + matched - matched_there
