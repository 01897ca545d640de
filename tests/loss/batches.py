"""Detections and targets made of random numbers, shared by the loss's own tests and by its parity tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sam3_lora.structures import Detections, Targets


def random_targets(counts: Sequence[int], size_hw: tuple[int, int] = (30, 40), seed: int = 0) -> Targets:
    """Objects with boxes inside the image and blob-like masks."""
    generator = torch.Generator().manual_seed(seed)
    num_objects = sum(counts)
    size = 0.1 + 0.4 * torch.rand(num_objects, 2, generator=generator)
    center = size / 2 + (1 - size) * torch.rand(num_objects, 2, generator=generator)
    coarse = torch.randn(num_objects, 1, 4, 4, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, size_hw, mode="bilinear")[:, 0] > 0
    return Targets(
        boxes=torch.cat((center, size), dim=-1),
        counts=torch.tensor(counts, dtype=torch.int64),
        masks=masks,
        mask_valid=torch.ones(num_objects, dtype=torch.bool),
        exhaustive=torch.ones(len(counts), dtype=torch.bool),
    )


def random_detections(
    targets: Targets,
    queries: int = 20,
    layers: int = 3,
    mask_hw: tuple[int, int] = (9, 12),
    one_to_many: bool = True,
    seed: int = 0,
) -> Detections:
    """Detections whose tensors are leaves with gradients; some boxes lie close to the phrase's objects."""
    generator = torch.Generator().manual_seed(seed)
    phrases = len(targets.counts)

    def half(is_main: bool) -> Detections:
        boxes = 0.2 + 0.6 * torch.rand(layers, phrases, queries, 4, generator=generator)
        for phrase, objects in enumerate(targets.boxes.split(targets.counts.tolist())):
            near = objects.repeat(3, 1)[: queries // 2]
            noise = 0.05 * torch.randn(layers, len(near), 4, generator=generator)
            boxes[:, phrase, : len(near)] = (near + noise).clamp(0.02, 0.98)
        logits = 3 * torch.randn(layers, phrases, queries, generator=generator)
        presence = torch.randn(layers, phrases, generator=generator) if is_main else None
        masks = 3 * torch.randn(phrases, queries, *mask_hw, generator=generator)
        return Detections(logits, boxes, presence, masks, semantic=None)

    main, other = half(True), half(False) if one_to_many else None
    detections = Detections(main.logits, main.boxes, main.presence, main.masks, None, other)
    for tensor in leaves(detections).values():
        tensor.requires_grad_()
    return detections


def random_batch(counts: Sequence[int], seed: int = 0, **options) -> tuple[Detections, Targets]:
    targets = random_targets(counts, seed=seed)
    return random_detections(targets, seed=seed, **options), targets


def leaves(detections: Detections) -> dict[str, Tensor]:
    """The tensors that the loss depends on, by name."""
    names = ("logits", "boxes", "presence", "masks")
    found = {name: getattr(detections, name) for name in names if getattr(detections, name) is not None}
    if detections.one_to_many is not None:
        found |= {f"{name} (one-to-many)": tensor for name, tensor in leaves(detections.one_to_many).items()}
    return found


def gradients(total: Tensor, detections: Detections) -> dict[str, Tensor]:
    """The gradient of `total` for each of the detections' tensors; zeros where it does not depend on one."""
    tensors = leaves(detections)
    found = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    pairs = zip(tensors.items(), found, strict=True)
    return {name: torch.zeros_like(tensor) if grad is None else grad for (name, tensor), grad in pairs}
