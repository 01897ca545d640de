"""Scales, crops, rotates and recolors a training image, with its masks and boxes, by torchvision's transforms (v2).

Whatever does not fit the model's square image is black and belongs to no object. The image is squashed to a square as
without augmentation, only larger where it is cropped afterwards, so that a crop has the detail of the image itself.

Targets stay exact: the box of an object that is cut or rotated is that of its mask. An object without a mask is never
cut, only left out whole, and its image is not rotated: nobody knows its box afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as F

from sam3_lora.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from sam3_lora.data.prompts import Prompt
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.targets import targets_of
from sam3_lora.structures import Targets
from sam3_lora.tiles import MIN_VISIBLE

if TYPE_CHECKING:
    from sam3_lora.config import AugmentationConfig

_TRIES = 8  # windows drawn for a crop
_MASKS_AT_ONCE = 16  # that are rotated together, as numbers of 32 bits


@dataclass(frozen=True)
class Change:
    """What is done to an image.

    Attributes:
        scale: side of the picture, as a share of the model's image.
        zoom: side of the part that is kept, as a share of the image.
        degrees: of the rotation, clockwise.
        color: (function's name, factor), in the order in which they are applied.
    """

    scale: float = 1.0
    zoom: float = 1.0
    degrees: float = 0.0
    color: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Augmented:
    """A changed image.

    Attributes:
        image: uint8 (S, S, 3).
        asked: the phrases that are left.
        targets: of these, masks (N, S, S).
        change: what was done.
    """

    image: np.ndarray
    asked: tuple[Prompt, ...]
    targets: Targets
    change: Change


@dataclass(frozen=True)
class _Scene:
    """An image with its N objects, which torchvision's functions change alike."""

    image: tv_tensors.Image  # uint8 (3, H, W)
    masks: tv_tensors.Mask  # uint8 (N, H, W), zero where an object has none
    boxes: tv_tensors.BoundingBoxes  # (N, 4) xyxy in pixels
    stale: Tensor  # (N,) bool: the box is no longer that of what is seen
    gone: Tensor  # (N,) bool: the box is outside the picture

    def changed(self, function: Any, *arguments: Any, **options: Any) -> _Scene:
        """The scene with one of torchvision's functions applied to image, masks and boxes."""
        masks = [function(some, *arguments, **options) for some in self._some_masks()]
        return replace(
            self,
            image=function(self.image, *arguments, **options),
            masks=tv_tensors.Mask(torch.cat(masks)),
            boxes=function(self.boxes, *arguments, **options),
        )

    def _some_masks(self) -> list[tv_tensors.Mask]:
        return [tv_tensors.wrap(some, like=self.masks) for some in self.masks.split(_MASKS_AT_ONCE)]


def draw_change(settings: AugmentationConfig, rng: np.random.Generator) -> Change:
    """What is done to an image, drawn from the settings."""
    factors = [(name, rng.uniform(1 - settings.color_jitter, 1 + settings.color_jitter)) for name in _FACTORS]
    factors = [factors[place] for place in rng.permutation(len(factors))] if settings.color_jitter else []
    hue = [("adjust_hue", rng.uniform(-settings.hue, settings.hue))] if settings.hue else []
    return Change(
        scale=rng.uniform(settings.scale_min, 1),
        zoom=rng.uniform(settings.crop_min, 1),
        degrees=rng.uniform(-settings.rotation, settings.rotation),
        color=(*factors, *hue),
    )


_FACTORS = ("adjust_brightness", "adjust_contrast", "adjust_saturation")


def augment(
    image: np.ndarray,
    record: ImageRecord,
    asked: Sequence[Prompt],
    image_processor: Any,
    settings: AugmentationConfig,
    rng: np.random.Generator,
) -> Augmented:
    """A training image as it is changed this time, and the targets of it.

    A phrase without any object left is no longer asked: it is not positive, and no proof that it is absent. Where less
    than MIN_VISIBLE of an object is left, it is no target, and its phrase no longer exhaustive. If nothing would be
    left to ask, the image is only scaled and recolored.

    Args:
        image: uint8 (H, W, 3).
        record: of it.
        asked: its phrases.
        image_processor: of the base model.
        settings: what is changed, and how far.
        rng: draws.
    """
    change = draw_change(settings, rng)
    found = _apply(image, record, asked, image_processor, change, rng)
    if found is None:
        found = _apply(image, record, asked, image_processor, replace(change, zoom=1, degrees=0), rng)
    assert found is not None, "an image that is neither cropped nor rotated keeps its objects"
    return found


def _apply(
    image: np.ndarray,
    record: ImageRecord,
    asked: Sequence[Prompt],
    image_processor: Any,
    change: Change,
    rng: np.random.Generator,
) -> Augmented | None:
    """The changed image; None if no crop was found, or no object is left of those that there were."""
    size = image_processor.size["height"]
    side = round(change.scale * size)
    canvas = max(side, round(side / change.zoom))
    targets = targets_of(record, asked, (canvas, canvas))
    if not targets.mask_valid.all():
        change = replace(change, degrees=0.0)
    scene = _scene(image, targets, image_processor, canvas)
    areas = scene.masks.count_nonzero((1, 2))
    for name, factor in change.color:
        scene = replace(scene, image=getattr(F, name)(scene.image, factor))
    if change.degrees:
        scene = _rotated(scene, change.degrees, (image.shape[0], image.shape[1]))
    if canvas > side:
        window = _window(scene.boxes.numpy(), targets.mask_valid.numpy(), canvas, side, rng)
        if window is None:
            return None
        scene = _cropped(scene, *window, side)
    left, top = rng.integers(size - side + 1, size=2).tolist()
    scene = scene.changed(F.pad, [left, top, size - side - left, size - side - top])
    visible = torch.where(targets.mask_valid, scene.masks.count_nonzero((1, 2)) / areas, (~scene.gone).float())
    kept = _kept(targets, visible)
    if len(targets.boxes) and not len(kept.objects):
        return None
    return Augmented(
        image=scene.image.permute(1, 2, 0).contiguous().numpy(),
        asked=tuple(asked[place] for place in kept.phrases.tolist()),
        targets=_targets(scene, targets.mask_valid, kept),
        change=change,
    )


def _scene(image: np.ndarray, targets: Targets, image_processor: Any, canvas: int) -> _Scene:
    """The image squashed to a square of `canvas` pixels, as the processor does it, with its objects."""
    from transformers.image_utils import SizeDict

    pixels = torch.from_numpy(image).permute(2, 0, 1)
    squashed = image_processor.resize(pixels, SizeDict(height=canvas, width=canvas), image_processor.resample)
    count = len(targets.boxes)
    masks = torch.zeros((count, canvas, canvas), dtype=torch.uint8) if targets.masks is None else targets.masks
    boxes = tv_tensors.BoundingBoxes(
        cxcywh_to_xyxy(targets.boxes) * canvas, format="XYXY", canvas_size=(canvas, canvas)
    )
    nothing = torch.zeros(count, dtype=torch.bool)
    return _Scene(tv_tensors.Image(squashed), tv_tensors.Mask(masks.to(torch.uint8)), boxes, nothing, nothing)


def _rotated(scene: _Scene, degrees: float, size_hw: tuple[int, int]) -> _Scene:
    """The scene rotated about its center: as the image is, of which it is squashed; size_hw: of that one."""
    canvas, (height, width) = scene.image.shape[-1], size_hw
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    from_center = [((x - 0.5) * width, (y - 0.5) * height) for x, y in corners]
    ends = [((cos * x - sin * y) / width + 0.5, (sin * x + cos * y) / height + 0.5) for x, y in from_center]
    startpoints, endpoints = ([[x * canvas, y * canvas] for x, y in points] for points in (corners, ends))
    scene = scene.changed(F.perspective, startpoints, endpoints)
    return replace(scene, stale=torch.ones_like(scene.stale))


def _window(
    boxes_xyxy: np.ndarray, has_mask: np.ndarray, canvas: int, side: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a window of `side` pixels around an object drawn at random, which cuts none without a mask.

    None if none was found; where there is no object, anywhere.
    """
    room = canvas - side
    if not len(boxes_xyxy):
        left, top = rng.integers(room + 1, size=2).tolist()
        return left, top
    starts, ends = boxes_xyxy[~has_mask, :2], boxes_xyxy[~has_mask, 2:]
    for _ in range(_TRIES):
        box = boxes_xyxy[rng.integers(len(boxes_xyxy))]
        offsets = np.array([_offset(box[axis], box[axis + 2], side, room, rng) for axis in (0, 1)])
        inside = np.all((starts > offsets - 0.5) & (ends < offsets + side + 0.5), axis=1)
        if (inside | _is_outside(starts, ends, offsets, side)).all():
            return int(offsets[0]), int(offsets[1])
    return None


def _offset(start: float, end: float, side: int, room: int, rng: np.random.Generator) -> int:
    """Where a window begins along an axis that has an object from `start` to `end` inside, or is inside the object."""
    low, high = np.clip(sorted((end - side, start)), 0, room)
    first = math.ceil(low)
    return int(rng.integers(first, max(first, math.floor(high)) + 1))


def _is_outside(starts: np.ndarray, ends: np.ndarray, offsets: np.ndarray, side: int) -> np.ndarray:
    """Whether boxes (N, 2) to (N, 2) have less than half a pixel in a window."""
    outside: np.ndarray = np.any((ends < offsets + 0.5) | (starts > offsets + side - 0.5), axis=1)
    return outside


def _cropped(scene: _Scene, left: int, top: int, side: int) -> _Scene:
    boxes, offsets = scene.boxes.numpy(), np.array([left, top])
    starts, ends = boxes[:, :2], boxes[:, 2:]
    gone = torch.from_numpy(_is_outside(starts, ends, offsets, side))
    cut = torch.from_numpy(((starts < offsets) | (ends > offsets + side)).any(1))
    return replace(scene.changed(F.crop, top, left, side, side), stale=scene.stale | cut, gone=gone)


@dataclass(frozen=True)
class _Kept:
    """What is left of phrases and objects."""

    phrases: Tensor  # int64, which of the phrases
    objects: Tensor  # int64, which of the objects
    counts: Tensor  # of these phrases
    exhaustive: Tensor  # of these phrases


def _kept(targets: Targets, visible: Tensor) -> _Kept:
    """What is left where a share of each object (N,) is visible."""
    is_target = visible >= MIN_VISIBLE
    zeros = torch.zeros_like(targets.counts)
    counts = zeros.index_add(0, targets.phrase_index, is_target.long())
    remains = zeros.index_add(0, targets.phrase_index, ((visible > 0) & ~is_target).long())
    phrases = ((counts > 0) | (targets.counts == 0)).nonzero().flatten()
    exhaustive = targets.exhaustive & (remains == 0)
    return _Kept(phrases, is_target.nonzero().flatten(), counts[phrases], exhaustive[phrases])


def _targets(scene: _Scene, mask_valid: Tensor, kept: _Kept) -> Targets:
    """Of what is left."""
    size, valid = scene.image.shape[-1], mask_valid[kept.objects]
    masks = scene.masks.as_subclass(Tensor)[kept.objects].bool()
    boxes = scene.boxes.as_subclass(Tensor)[kept.objects]
    stale = scene.stale[kept.objects] & valid
    if stale.any():
        boxes[stale] = masks_to_boxes(masks[stale]) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return Targets(
        boxes=xyxy_to_cxcywh((boxes / size).clamp(0, 1)),
        counts=kept.counts,
        masks=masks if valid.any() else None,
        mask_valid=valid,
        exhaustive=kept.exhaustive,
    )
