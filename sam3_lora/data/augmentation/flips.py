"""Targets in a mirror."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam3_lora.structures import Targets


def flipped_targets(targets: Targets, axes: Sequence[int]) -> Targets:
    """Boxes and masks flipped along these axes of (H, W)."""
    boxes = targets.boxes.clone()
    for axis in axes:
        boxes[:, 1 - axis] = 1 - boxes[:, 1 - axis]  # cxcywh: x belongs to W, the second axis
    masks = None if targets.masks is None else targets.masks.flip([axis - 2 for axis in axes])
    return replace(targets, boxes=boxes, masks=masks)
