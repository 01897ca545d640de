"""Box formats, normalization, IoU and GIoU.

Formats are in the names: xyxy (left, top, right, bottom), xywh (left, top, width, height, as in COCO) and cxcywh
(center, width, height, as in DETR). Every function takes tensors (..., 4). Conversions are our own because importing
torchvision takes as long as importing torch; matched GIoU because torchvision's, a loss, adds an epsilon and waits
for the GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """COCO's boxes to corners."""
    x, y, w, h = boxes_xywh.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """DETR's boxes to corners."""
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return torch.stack((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners to DETR's boxes."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), dim=-1)


def normalize(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Pixels to [0, 1]: divides x and w by the image's width, y and h by its height (any format)."""
    return boxes / _scale(boxes, size_hw)


def denormalize(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """[0, 1] to pixels, the inverse of :func:`normalize`."""
    return boxes * _scale(boxes, size_hw)


def _scale(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    height, width = size_hw
    return boxes.new_tensor((width, height, width, height))


def pairwise_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """IoU of every pair: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    from torchvision.ops import box_iou

    iou: Tensor = box_iou(boxes1_xyxy, boxes2_xyxy)
    return iou


def pairwise_giou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Generalized IoU of every pair (Rezatofighi et al., 2019): (..., N, 4), (..., M, 4) -> (..., N, M)."""
    from torchvision.ops import generalized_box_iou

    giou: Tensor = generalized_box_iou(boxes1_xyxy, boxes2_xyxy)
    return giou


def matched_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """IoU of box i with box i: (N, 4), (N, 4) -> (N,)."""
    return _matched(boxes1_xyxy, boxes2_xyxy)[0]


def matched_giou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Generalized IoU of box i with box i: (N, 4), (N, 4) -> (N,)."""
    iou, union = _matched(boxes1_xyxy, boxes2_xyxy)
    top_left = torch.minimum(boxes1_xyxy[:, :2], boxes2_xyxy[:, :2])
    bottom_right = torch.maximum(boxes1_xyxy[:, 2:], boxes2_xyxy[:, 2:])
    hull = (bottom_right - top_left).clamp(min=0).prod(-1)
    return iou - (hull - union) / hull


def _matched(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    top_left = torch.maximum(boxes1_xyxy[:, :2], boxes2_xyxy[:, :2])
    bottom_right = torch.minimum(boxes1_xyxy[:, 2:], boxes2_xyxy[:, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(-1)
    union = _area(boxes1_xyxy) + _area(boxes2_xyxy) - intersection
    return intersection / union, union


def _area(boxes_xyxy: Tensor) -> Tensor:
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return (x1 - x0) * (y1 - y0)
