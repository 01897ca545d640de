"""How large objects are in the square image that the model sees."""

from __future__ import annotations

import numpy as np

from sam3_lora.data.records import ImageTable

SMALL_PIXELS = 8  # below it, an object covers half a patch of SAM 3's vision encoder, or less


def small_share(images: ImageTable, side: int) -> float | None:
    """The share of objects of which width or height is less than 8 pixels in the model's image; None without objects.

    Args:
        images: with their objects; crowd regions do not count.
        side: of the square that images are squashed to, in pixels.
    """
    objects = ~images.iscrowd
    if not objects.any():
        return None
    shares = images.boxes_xywh[objects, 2:] / images.sizes_wh[images.image_index[objects]]
    return float(np.mean((shares * side).min(axis=1) < SMALL_PIXELS))
