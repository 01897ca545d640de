"""The image that a predictor is asked about."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class CurrentImage:
    """An image, as it was set.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        size_hw: that results and exemplars refer to.
        backbone: (1, H*W, C), what the vision backbone makes of it, if it is known.
        key: tells its pixels from those of others.
    """

    pixels: np.ndarray
    size_hw: tuple[int, int]
    backbone: Tensor | None
    key: bytes

    @classmethod
    def of(cls, pixels: np.ndarray, size_hw: tuple[int, int] | None, backbone: Tensor | None) -> CurrentImage:
        """size_hw: None for the image's own."""
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
        size_hw = size_hw or (pixels.shape[0], pixels.shape[1])
        return cls(pixels, size_hw, backbone, digest + repr(pixels.shape).encode())
