"""The ground truth of a sample's phrases as tensors, packed over a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from sam3_lora.boxes import normalize, xywh_to_xyxy, xyxy_to_cxcywh
from sam3_lora.data.prompts import Prompt
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_resized
from sam3_lora.structures import Targets

_log = logging.getLogger(__name__)


def targets_of(record: ImageRecord, asked: Sequence[Prompt], size_hw: tuple[int, int]) -> Targets:
    """The objects of each phrase, none of the negative ones; masks at the model's input size."""
    annotations = [annotation for one in asked for annotation in one.annotations]
    masks = [_mask(annotation, record, size_hw) for annotation in annotations]
    valid = [mask is not None for mask in masks]
    empty = torch.zeros(size_hw, dtype=torch.bool)
    return Targets(
        boxes=_boxes(annotations, record),
        counts=torch.tensor([len(one.annotations) for one in asked], dtype=torch.int64),
        masks=torch.stack([empty if mask is None else mask for mask in masks]) if any(valid) else None,
        mask_valid=torch.tensor(valid, dtype=torch.bool),
        exhaustive=torch.tensor([one.exhaustive for one in asked], dtype=torch.bool),
    )


def pack_targets(targets: Sequence[Targets], size_hw: tuple[int, int]) -> Targets:
    """The targets of several images as one, their phrases in this order; masks are (N, *size_hw)."""
    masks = None
    if any(one.masks is not None for one in targets):
        masks = torch.cat(
            [
                one.masks if one.masks is not None else torch.zeros((len(one.boxes), *size_hw), dtype=torch.bool)
                for one in targets
            ]
        )
    return Targets(
        boxes=torch.cat([one.boxes for one in targets]),
        counts=torch.cat([one.counts for one in targets]),
        masks=masks,
        mask_valid=torch.cat([one.mask_valid for one in targets]),
        exhaustive=torch.cat([one.exhaustive for one in targets]),
    )


def _boxes(annotations: Sequence[Annotation], record: ImageRecord) -> Tensor:
    """Boxes cxcywh in [0, 1], float32 (N, 4), by the size that the annotation file gives the image.

    Not by the size of the image file: where images were scaled after annotation, the annotations still refer to the
    size in the annotation file.
    """
    boxes_xywh = torch.tensor([annotation.bbox_xywh for annotation in annotations], dtype=torch.float64).reshape(-1, 4)
    boxes_xyxy = normalize(xywh_to_xyxy(boxes_xywh), (record.height, record.width)).clamp(0, 1)
    return xyxy_to_cxcywh(boxes_xyxy).float()


def _mask(annotation: Annotation, record: ImageRecord, size_hw: tuple[int, int]) -> Tensor | None:
    """An object's mask bool (S, S); None if it has none, or none that can be decoded."""
    if annotation.segmentation is None:
        return None
    try:
        mask = decode_resized(annotation.segmentation, (record.height, record.width), size_hw)
    except DataError as error:
        _log.warning("%s, annotation %s is used without its mask: %s", record.file_name, annotation.id, error)
        return None
    return torch.from_numpy(mask) if mask.any() else None  # torch takes milliseconds to look for any
