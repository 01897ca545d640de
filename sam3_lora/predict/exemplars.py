"""Exemplar boxes: objects on the image that show by example what to find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam3_lora.boxes import normalize, xyxy_to_cxcywh
from sam3_lora.errors import Sam3LoraError


@dataclass(frozen=True)
class Exemplars:
    """Boxes on the image that show by example what to find, or what not to find."""

    boxes_xyxy: np.ndarray  # (K, 4) float in pixels
    positive: np.ndarray  # (K,) bool: find objects like this one, or none like this one


def exemplar_tensors(
    exemplars: Exemplars, size_hw: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Boxes (1, K, 4) cxcywh in [0, 1] and labels (1, K) as the detector takes them; None without any.

    Args:
        exemplars: the boxes.
        size_hw: height and width in pixels that they refer to.
        device: of the tensors.

    Raises:
        Sam3LoraError: a box is empty or outside the image.
    """
    if len(exemplars.boxes_xyxy) == 0:
        return None
    height, width = size_hw
    boxes_xyxy = torch.as_tensor(np.asarray(exemplars.boxes_xyxy), dtype=torch.float32).reshape(-1, 4)
    inside = boxes_xyxy.clamp(min=0).minimum(boxes_xyxy.new_tensor((width, height) * 2))
    empty = ~torch.isfinite(boxes_xyxy).all(1) | (inside[:, 2:] - inside[:, :2] < 1).any(1)
    if empty.any():
        number = int(empty.nonzero()[0]) + 1
        raise Sam3LoraError(
            f"Exemplar box {number} is empty or outside the image of {width} x {height} pixels",
            "Draw it around an object: [left, top, right, bottom] in pixels",
        )
    normalized = normalize(xyxy_to_cxcywh(inside), size_hw)
    labels = torch.as_tensor(np.asarray(exemplars.positive), dtype=torch.int64)
    return normalized[None].to(device), labels[None].to(device)
