"""Example boxes for the demo model, and its outputs as one number or by name."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from sam3_lora.model.detector import PADDING_LABEL, Detections, Sam3Detector


def tensors(detections: Detections) -> dict[str, Tensor]:
    named = {field.name: getattr(detections, field.name) for field in fields(detections)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def some_boxes(phrases: int) -> tuple[Tensor, Tensor]:
    """Two example boxes per phrase: a positive one and, by turns, a negative one and padding."""
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.7, 0.6, 0.3, 0.2]]).repeat(phrases, 1, 1)
    labels = torch.tensor([[1, 0], [1, PADDING_LABEL]]).repeat(phrases, 1)[:phrases]
    return boxes, labels


def scalar(detections: Detections) -> Tensor:
    """Depends on every output, so that a gradient of it passes every part."""
    total = sum(value.float().square().mean() for value in tensors(detections).values())
    return total if detections.one_to_many is None else total + scalar(detections.one_to_many)


def detect(detector: Sam3Detector, inputs, *boxes: Tensor) -> Detections:
    """As the forward pass, with exemplar boxes and their labels."""
    vision = detector.encode_images(inputs.pixel_values)
    return detector.detect(
        vision, detector.encode_text(inputs.input_ids, inputs.attention_mask), inputs.image_index, *boxes
    )
