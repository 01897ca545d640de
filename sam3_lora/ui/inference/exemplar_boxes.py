"""Exemplar boxes drawn on the image: objects like these (positive), and objects not like these (negative)."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from sam3_lora.text import first_names, plural
from sam3_lora.ui.components.images import fit
from sam3_lora.ui.components.layout import choose_one
from sam3_lora.ui.inference.results import BoxedImage, ExemplarBox

POSITIVE, NEGATIVE = "Positive", "Negative"
_COLORS = {POSITIVE: "#0f8a7e", NEGATIVE: "#d63031"}
_FILL = "rgba(255, 255, 255, 0.12)"
_STROKE = 2  # pixels
_MIN_SIDE = 3  # pixels on the screen; less is a click
_MAX_IMAGES = 10  # whose boxes and pixels are kept for prompts on others
_SIZE = 560, 420  # width and height of the canvas in pixels, at most
_KEPT = "exemplar-boxes"  # dict: canvas key -> its boxes, so that they are there again after other pages
_IMAGES = "exemplar-boxes-images"  # dict: canvas key -> the image's name and pixels; of the last that have boxes
_INITIAL = "exemplar-boxes-initial"  # dict: canvas key -> the drawing it began with


def toggle(disabled: bool) -> bool:
    """Draws the toggle that shows the canvas; disabled: there is no image."""
    return st.toggle(
        "Draw exemplar boxes",
        key="draw-exemplars",
        persist_state="session",
        disabled=disabled,
        help="Mark objects on this image that are like those you want, or unlike them, with phrases or without.",
    )


def draw(name: str, image: np.ndarray | None) -> tuple[ExemplarBox, ...]:
    """Draws the canvas and returns its boxes.

    Args:
        name: of the image; boxes are kept for each.
        image: (H, W, 3) uint8, or None where there is none.
    """
    if image is None:
        return ()
    canvas, controls = st.columns([3, 2], gap="large", vertical_alignment="top")
    with controls:
        kind = choose_one("Next box", (POSITIVE, NEGATIVE), "exemplar-kind")
        st.caption(
            "Drag from one corner of an object to the opposite one. Hover over the image for tools to undo, edit or "
            "clear boxes. Exemplars apply to every phrase; without a phrase they are the whole prompt."
        )
    with canvas, st.container(key="exemplar-canvas"):
        boxes = _canvas(name, image, kind)
    if boxes:
        positive = sum(box.positive for box in boxes)
        controls.markdown(f"**Drawn:** {positive} positive, {len(boxes) - positive} negative")
    return boxes


def _canvas(name: str, image: np.ndarray, kind: str) -> tuple[ExemplarBox, ...]:
    height, width = image.shape[:2]
    key = f"canvas {name} {width} {height}"
    kept: dict[str, tuple[ExemplarBox, ...]] = st.session_state.setdefault(_KEPT, {})
    initial: dict[str, dict[str, Any]] = st.session_state.setdefault(_INITIAL, {})
    if key not in st.session_state or key not in initial:
        # Drawn anew, as after another page: with the boxes it had. Given later, they would wipe what was drawn since.
        initial[key] = {"objects": [_drawing(box, _scale_of(image, *_SIZE)) for box in kept.get(key, ())]}
    drawn = _box_canvas(key, image, _SIZE, kind, _COLORS[kind], initial[key])
    kept[key] = tuple(ExemplarBox(box, label != NEGATIVE) for label, box in drawn)
    boxed: dict[str, tuple[str, np.ndarray]] = st.session_state.setdefault(_IMAGES, {})
    boxed.pop(key, None)
    if drawn:
        boxed[key] = name, image
        for oldest in list(boxed)[:-_MAX_IMAGES]:
            del boxed[oldest]
    return tuple(box for box in kept[key] if _is_inside(box))


def boxed_images() -> tuple[BoxedImage, ...]:
    """The images with boxes in this tab, at most the last ten, also those that were uploaded."""
    kept: dict[str, tuple[ExemplarBox, ...]] = st.session_state.get(_KEPT, {})
    images: dict[str, tuple[str, np.ndarray]] = st.session_state.get(_IMAGES, {})
    found = ((name, tuple(filter(_is_inside, kept[key])), image) for key, (name, image) in images.items())
    return tuple(BoxedImage(*one) for one in found if one[1])


def choose_references(current: str) -> tuple[BoxedImage, ...]:
    """Draws the toggle that prompts with boxes on other images, where there are some.

    Args:
        current: name of the image that is open; "" for a folder.
    """
    others = tuple(one for one in boxed_images() if one.name != current)
    if not any(box.positive for one in others for box in one.boxes):
        return ()
    wanted = st.toggle(
        f"Find the like of boxes on {plural(len(others), 'other image')}",
        key="use-references",
        persist_state="session",
        help=f"Objects marked on {first_names([one.name for one in others])} show what to find here, with phrases or "
        "without.",
    )
    return others if wanted else ()


def _is_inside(box: ExemplarBox) -> bool:
    left, top, right, bottom = box.box_xyxy
    return right - left >= 1 and bottom - top >= 1


def _drawing(box: ExemplarBox, scale: float) -> dict[str, Any]:
    """The rectangle of the canvas for a box."""
    from streamlit_drawable_canvas import boxes_to_drawing

    label = POSITIVE if box.positive else NEGATIVE
    left, top, right, bottom = (side * scale for side in box.box_xyxy)
    rect = {"label": label, "left": left, "top": top, "width": right - left, "height": bottom - top}
    drawing = boxes_to_drawing([rect], stroke_color=_COLORS[label], stroke_width=_STROKE, fill_color=_FILL)
    return drawing["objects"][0]


def _scale_of(image: np.ndarray, width: int, height: int) -> float:
    """Screen pixels per image pixel of an image (H, W, 3) that is fitted into so many screen pixels."""
    return min(width / image.shape[1], height / image.shape[0])


def _box_canvas(
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
    scale = _scale_of(image, *size)
    result = st_canvas(
        fill_color=_FILL,
        stroke_width=_STROKE,
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
