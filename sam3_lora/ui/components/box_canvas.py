"""A picture on which boxes are drawn with the mouse."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.ui.components.images import fit

FILL = "rgba(255, 255, 255, 0.12)"
STROKE = 2  # pixels
_MIN_SIDE = 3  # pixels on the screen; less is a click


def scale_of(image: np.ndarray, width: int, height: int) -> float:
    """Screen pixels per image pixel of an image (H, W, 3) that is fitted into so many screen pixels."""
    return min(width / image.shape[1], height / image.shape[0])


def box_canvas(
    key: str,
    image: np.ndarray,
    size: tuple[int, int],
    label: str,
    color: str,
    initial: dict[str, Any] | None = None,
) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Draws the canvas; returns its boxes, each with its label and xyxy in pixels of the image, clipped to it.

    Args:
        key: of the widget.
        image: (H, W, 3) uint8.
        size: width and height on the screen, at most.
        label: of the next box.
        color: of the next box, as CSS has it.
        initial: the drawing that it begins with.
    """
    # Its module registers a component when it is imported, which only works in a running app.
    from streamlit_drawable_canvas import st_canvas

    height, width = image.shape[:2]
    scale = scale_of(image, *size)
    result = st_canvas(
        fill_color=FILL,
        stroke_width=STROKE,
        stroke_color=color,
        background_image=Image.fromarray(fit(image, 2 * max(size))),
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        drawing_mode="labeled_rect",
        label=label,
        font_size=12,
        initial_drawing=initial,
        key=key,
    )
    drawn = [rect for rect in result.boxes if min(rect["width"], rect["height"]) >= _MIN_SIDE]
    return [(rect["label"], _clipped(rect, scale, width, height)) for rect in drawn]


def _clipped(rect: dict[str, Any], scale: float, width: int, height: int) -> tuple[float, float, float, float]:
    left, top = rect["left"] / scale, rect["top"] / scale
    corners = np.array([left, top, left + rect["width"] / scale, top + rect["height"] / scale])
    x0, y0, x1, y1 = corners.clip(0, [width, height, width, height]).round(1).tolist()
    return x0, y0, x1, y1
