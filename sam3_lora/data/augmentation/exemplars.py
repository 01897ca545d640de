"""Exemplar boxes of training prompts, beside the word or instead of it.

Source: ``sam3/train/transforms/filter_query_transforms.py`` (TextQueryToVisual: a random object of the phrase) and
``point_sampling.py`` (noise_box), facebookresearch/sam3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from sam3_lora.structures import PADDING_LABEL, VISUAL, Targets

_NOISE = 0.1  # standard deviation of a box's edges, as a share of its side
_MAX_NOISE = 20 / 1008  # the same at most, as a share of the image's side: 20 pixels of SAM 3's


@dataclass(frozen=True)
class ExemplarPrompts:
    """The prompts of one image, some of them with a box.

    Attributes:
        phrases: P of them, "visual" where a box is asked for by itself.
        boxes: (P, 1, 4) cxcywh in [0, 1], zero where there is none.
        labels: int64 (P, 1): 1, or PADDING_LABEL where there is none.
    """

    phrases: tuple[str, ...]
    boxes: Tensor
    labels: Tensor


def with_exemplars(
    phrases: Sequence[str], targets: Targets, boxes_added: float, word_dropped: float, rng: np.random.Generator
) -> ExemplarPrompts | None:
    """Adds a box to some phrases that have objects: of one of them, drawn at random, not quite exact.

    Args:
        phrases: P of them.
        targets: their objects.
        boxes_added: probability that a phrase gets a box and keeps its word.
        word_dropped: probability that a phrase gets a box and loses its word.
        rng: draws.

    Returns:
        None if no phrase gets one.
    """
    asked, boxes = list(phrases), torch.zeros((len(phrases), 1, 4))
    labels = torch.full((len(phrases), 1), PADDING_LABEL)
    first = 0
    for place, count in enumerate(targets.counts.tolist()):
        chance = rng.random() if count else 1.0
        if chance < word_dropped + boxes_added:
            boxes[place, 0] = _noisy(targets.boxes[first + int(rng.integers(count))], rng)
            labels[place] = 1
            asked[place] = VISUAL if chance < word_dropped else asked[place]
        first += count
    return ExemplarPrompts(tuple(asked), boxes, labels) if (labels == 1).any() else None


def pack_boxes(samples: Sequence[tuple[int, Tensor | None, Tensor | None]]) -> tuple[Tensor | None, Tensor | None]:
    """The boxes (P, K, 4) and labels (P, K) of the phrases of several images, padded; None if there are no boxes.

    Args:
        samples: of each image the number of its phrases, their boxes and their labels, both None without any box.
    """
    most = max((boxes.shape[1] for _, boxes, _ in samples if boxes is not None), default=0)
    if not most:
        return None, None
    phrases = sum(count for count, _, _ in samples)
    packed, packed_labels, first = torch.zeros((phrases, most, 4)), torch.full((phrases, most), PADDING_LABEL), 0
    for count, boxes, labels in samples:
        if boxes is not None and labels is not None:
            packed[first : first + count, : boxes.shape[1]] = boxes
            packed_labels[first : first + count, : boxes.shape[1]] = labels
        first += count
    return packed, packed_labels


def _noisy(box_cxcywh: Tensor, rng: np.random.Generator) -> Tensor:
    """A box (4,) with other edges, inside the image; itself if nothing would be left of it."""
    noise = torch.from_numpy(rng.standard_normal(4)).float() * _NOISE * box_cxcywh[2:].repeat(2)
    box = (cxcywh_to_xyxy(box_cxcywh) + noise.clamp(-_MAX_NOISE, _MAX_NOISE)).clamp(0, 1)
    return xyxy_to_cxcywh(box) if (box[2:] > box[:2]).all() else box_cxcywh
