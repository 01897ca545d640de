"""Reads the values of a mask; where compression or smoothing has blurred them, each pixel gets the nearest class."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from sam3_lora.data.images import open_image
from sam3_lora.errors import DataError
from sam3_lora.text import first_names

_TOLERANCE = 32  # noise of JPEG compression, in values; at most half the distance between two classes
_MIN_DISTANCE = 16  # between two classes that noise leaves apart
_MAX_GRAY_SPREAD = 32  # between the channels of a gray JPEG
_AREA = np.ones((5, 5), np.uint8)


def read_mask(path: Path, classes: Collection[int], in_colors: bool) -> tuple[np.ndarray, int]:
    """A mask's values: gray or palette, or colors as 0xRRGGBB.

    Args:
        path: of an image file.
        classes: the values that have a class; 0 is background.
        in_colors: whether these are colors.

    Returns:
        int64 (H, W); and how many of its pixels had a value between the classes and were given the nearest one.

    Raises:
        DataError: it has colors, but the classes are values; or its values are so noisy that the classes are not clear.
    """
    with open_image(path) as picture:
        lossy = picture.format in ("JPEG", "MPO")
        if picture.mode in ("LA", "RGBA"):
            varies = np.ptp(np.asarray(picture), axis=(0, 1)) > 0
            if varies[-1] and not varies[:-1].any():
                raise DataError("its mask is in the transparency alone", "Save it as gray values")
        if not in_colors and picture.mode in ("P", "1"):  # neighboring numbers are not similar
            return np.asarray(picture).astype(np.int64), 0
        if in_colors or picture.mode not in ("L", "I", "I;16"):
            values = np.asarray(picture.convert("RGB")).astype(np.int64)
        else:
            values = np.asarray(picture).astype(np.int64)
    if in_colors:
        values = values @ (1 << 16, 1 << 8, 1)
    elif values.ndim == 3:
        if np.ptp(values, axis=-1).max() > (_MAX_GRAY_SPREAD if lossy else 0):
            raise DataError("its mask has colors, but the classes are named by value", "Name the classes by color")
        values = np.median(values, axis=-1).astype(np.int64)
    return _settled(values, np.array([0, *(value for value in classes if value)]), in_colors, lossy)


def _settled(values: np.ndarray, levels: np.ndarray, in_colors: bool, lossy: bool) -> tuple[np.ndarray, int]:
    """The values; in a noisy mask each pixel's nearest level, or the most frequent value of an area without one."""
    different, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(values.shape)
    if np.isin(different, levels).all() or not (lossy or _is_noisy(values, inverse, counts)):
        return values, 0
    channels, of_levels = _channels(different, in_colors), _channels(levels, in_colors)
    between = np.abs(of_levels[:, None] - of_levels).max(-1)
    apart = between[between > 0].min(initial=256)
    if apart < _MIN_DISTANCE:
        frequent = [f"#{value:06x}" if in_colors else str(value) for value in different[np.argsort(-counts)][:4]]
        raise DataError(
            f"its mask is noisy ({len(different)} different values, most often {first_names(frequent)}), so that "
            f"classes only {apart} apart cannot be told from each other",
            "Name the values that fill areas, or save the masks as PNG from the labeling tool",
        )
    distances = np.abs(channels[:, None] - of_levels).max(-1)  # (values, levels)
    unlike = (distances.min(-1) > min(_TOLERANCE, apart / 2))[inverse]
    areas = cv2.morphologyEx(unlike.astype(np.uint8), cv2.MORPH_OPEN, _AREA)
    areas = cv2.dilate(areas, _AREA) & unlike
    if areas.mean() > 0.2 and not _has_few_values(channels, np.bincount(inverse[areas > 0], minlength=len(channels))):
        raise DataError(
            f"its mask has {len(different):,} different values all over, like a photograph or a map of probabilities",
            "Give the folder of the masks, or make masks of a few values first",
        )
    settled = levels[_nearest(distances, inverse)]
    count, labels = cv2.connectedComponents(areas, connectivity=8)
    for area in range(1, count):
        settled[labels == area] = different[np.bincount(inverse[labels == area]).argmax()]
    return settled, int((settled != values).sum())


def _channels(values: np.ndarray, in_colors: bool) -> np.ndarray:
    """(N,) -> (N, 3) of colors, (N, 1) otherwise."""
    return np.stack([values >> 16, values >> 8 & 255, values & 255] if in_colors else [values], axis=-1)


def _is_noisy(values: np.ndarray, inverse: np.ndarray, counts: np.ndarray) -> bool:
    """Whether there are many values whose pixels lie alone, which those of a class do not, not even in a thin line."""
    padded = np.pad(values, 1, constant_values=-1)
    height, width = values.shape
    equal = np.zeros(values.shape, np.uint8)
    for down in range(3):
        for right in range(3):
            equal += padded[down : down + height, right : right + width] == values
    lone = equal <= 2  # itself and one neighbor
    noise = int((np.bincount(inverse[lone], minlength=len(counts)) > counts / 4).sum())
    return noise >= 16 or (noise >= 4 and lone.sum() >= 0.01 * (values.size - counts.max()))


def _has_few_values(channels: np.ndarray, counts: np.ndarray) -> bool:
    """Whether most pixels have one of four values, or nearly so, as those of blurred classes without a name.

    Args:
        channels: (values, channels).
        counts: of pixels, by value.
    """
    left = counts.copy()
    for _ in range(4):
        left[np.abs(channels - channels[left.argmax()]).max(-1) <= 4] = 0
    return bool(left.sum() < 0.25 * counts.sum())


def _nearest(distances: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The index of the nearest level of each pixel.

    At the edge between two levels, blurred values pass a third one that is not there: then the nearest of the levels
    that fill the area around counts.

    Args:
        distances: (values, levels) of each different value.
        inverse: (H, W), the index of each pixel's value.
    """
    nearest: np.ndarray = distances.argmin(-1)[inverse]
    best = np.full(inverse.shape, np.inf)
    around, chosen = np.zeros(inverse.shape, np.uint8), nearest.copy()
    own = np.zeros(inverse.shape, bool)
    for level in np.unique(nearest):
        here = (nearest == level).astype(np.uint8)
        filled = here & (cv2.boxFilter(here, -1, (3, 3), normalize=False, borderType=cv2.BORDER_REPLICATE) >= 5)
        near = cv2.dilate(filled.astype(np.uint8), _AREA) > 0
        around += near
        own |= near & (here > 0)
        closer = near & (distances[:, level][inverse] < best)
        best[closer], chosen[closer] = distances[:, level][inverse][closer], level
    return np.where(~own & (around > 1), chosen, nearest)
