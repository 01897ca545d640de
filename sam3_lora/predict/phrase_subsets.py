"""Detections of some of the phrases, and of several sets of phrases as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from sam3_lora.structures import Detections


def take_phrases(detections: Detections, rows: Sequence[int]) -> Detections:
    """The detections of some phrases, without those of the one-to-many half.

    Args:
        detections: of P phrases.
        rows: of the phrases among them, in the order wanted.
    """
    of = torch.tensor(rows, dtype=torch.int64)  # stays on the host, as the mask head's arguments may
    index = of.to(detections.logits.device)
    head = detections.mask_head
    return Detections(
        logits=detections.logits[:, index],
        boxes=detections.boxes[:, index],
        presence=None if detections.presence is None else detections.presence[:, index],
        masks=None if detections.masks is None else detections.masks[index],
        semantic=None,
        mask_head=None if head is None else lambda phrases, queries: head(of[phrases.cpu()], queries),
    )


def join_phrases(parts: Sequence[Detections]) -> Detections:
    """The phrases of several detections one after the other, without those of the one-to-many half.

    Args:
        parts: at least one; all with masks, or all with a mask head.
    """
    if len(parts) == 1:
        return parts[0]
    presence = [one.presence for one in parts if one.presence is not None]
    masks = [one.masks for one in parts if one.masks is not None]
    return Detections(
        logits=torch.cat([one.logits for one in parts], 1),
        boxes=torch.cat([one.boxes for one in parts], 1),
        presence=torch.cat(presence, 1) if presence else None,
        masks=torch.cat(masks) if masks else None,
        semantic=None,
        mask_head=None if masks else _JoinedMaskHead(parts),
    )


class _JoinedMaskHead:
    """The mask heads of several detections as one: each makes the masks of its own phrases."""

    def __init__(self, parts: Sequence[Detections]) -> None:
        self._parts = parts
        self._ends = tuple(accumulate(one.logits.shape[1] for one in parts))

    def __call__(self, phrase_index: Tensor, query_index: Tensor) -> Tensor:
        """(M, h, w) mask logits, as :attr:`sam3_lora.structures.Detections.mask_head`."""
        phrase_index, query_index = phrase_index.cpu(), query_index.cpu()
        found, places = [], []
        for part, start, end in zip(self._parts, (0, *self._ends), self._ends, strict=False):
            place = ((phrase_index >= start) & (phrase_index < end)).nonzero().squeeze(1)
            if len(place):
                assert part.mask_head is not None, "detections without masks have a mask head"
                found.append(part.mask_head(phrase_index[place] - start, query_index[place]))
                places.append(place)
        return torch.cat(found)[torch.cat(places).argsort()]


def distinct(phrases: Sequence[str]) -> tuple[str, ...]:
    """The phrases without spaces around them, blank ones and repetitions."""
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases if phrase.strip()))
