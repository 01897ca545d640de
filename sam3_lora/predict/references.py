"""Reference images: objects on other images that show by example what to find."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sam3_lora.errors import Sam3LoraError
from sam3_lora.predict.exemplars import Exemplars, exemplar_tensors
from sam3_lora.predict.feature_cache import FeatureCache, num_bytes

if TYPE_CHECKING:
    from sam3_lora.predict.predictor import Predictor

MAX_BOXES = 64  # of all references together: each is a token of the prompt


@dataclass(frozen=True, eq=False)
class Reference:
    """An image with boxes on it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        exemplars: boxes in pixels of it: find objects like these, or none like these.
    """

    image: np.ndarray
    exemplars: Exemplars

    @cached_property
    def key(self) -> bytes:
        """Tells its pixels and boxes from those of others."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.image).data, digest_size=16)
        for part in (np.asarray(self.exemplars.boxes_xyxy, np.float32), np.asarray(self.exemplars.positive, bool)):
            digest.update(part.tobytes())
        return digest.digest() + repr(self.image.shape).encode()


def check_references(references: Sequence[Reference]) -> None:
    """Raises Sam3LoraError where there is no positive box, or too many."""
    boxes = sum(len(one.exemplars.boxes_xyxy) for one in references)
    if boxes > MAX_BOXES:
        raise Sam3LoraError(f"Expected at most {MAX_BOXES} boxes on reference images, got {boxes}", "Leave some out")
    if not any(np.any(one.exemplars.positive) for one in references):
        raise Sam3LoraError("Expected a box on a reference image around an object to find", "Draw one")


def reference_tokens(
    predictor: Predictor,
    references: Sequence[Reference],
    cache: FeatureCache[tuple[Tensor, Tensor]],
    weights: Hashable,
) -> tuple[Tensor, Tensor]:
    """The prompt tokens of boxes, each made of its own image's features, so that they can be asked of any image.

    A reference to the image itself gives the tokens that exemplar boxes on it give.

    Args:
        predictor: with the model.
        references: at least one, see :func:`check_references`.
        cache: by reference, so that a folder pays once for it.
        weights: names the weights as they are now.

    Returns:
        (1, T, C), and which of them are real, (1, T) bool.

    Raises:
        Sam3LoraError: a box is empty or outside its image.
    """
    parts = []
    for one in references:
        known = cache.get((one.key, weights))
        if known is None:
            with predictor.showing(one.image):
                vision = predictor.vision_features()
            boxes = exemplar_tensors(one.exemplars, (one.image.shape[0], one.image.shape[1]), predictor.device)
            known = predictor.detector.geometry(vision, *(boxes or (None, None)))
            cache.put((one.key, weights), known, num_bytes(known))
        parts.append(known)
    states, masks = zip(*parts, strict=True)
    return torch.cat(states, dim=1), torch.cat(masks, dim=1)
