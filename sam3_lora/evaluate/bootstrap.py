"""How sure a number is: the same split drawn again and again, images with replacement."""

from __future__ import annotations

import numpy as np

RESAMPLES, MIN_RESAMPLES = 400, 100
_CELLS = 2000 * RESAMPLES  # (phrase, size, image) x resamples, above which fewer are drawn
LEVEL = 0.95


def resamples_for(images: int, phrases: int) -> int:
    """How many times to draw: fewer of large splits, whose intervals are narrow and take long."""
    return int(np.clip(_CELLS // max(4 * images * phrases, 1), MIN_RESAMPLES, RESAMPLES))


def draws(images: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, images) int: numbers of images, each row a split drawn with replacement."""
    return np.random.default_rng(seed).integers(0, images, (count, images))


def weights_of(drawn: np.ndarray) -> np.ndarray:
    """(count, images) float64: how often each image was drawn."""
    return np.stack([np.bincount(row, minlength=drawn.shape[1]) for row in drawn]).astype(np.float64)


def interval(samples: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of a number over the resamples; None if it is not defined in half of them."""
    known = samples[np.isfinite(samples)]
    if len(known) * 2 < len(samples):
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
