"""Boxes drawn on the image: examples of what is meant, and of what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from sam3_lora.ui.components.images import fit
from sam3_lora.ui.inference.results import ExemplarBox

LIKE, UNLIKE = "Like this", "Not like this"
_COLORS = {LIKE: "#0f8a7e", UNLIKE: "#d63031"}
_WIDTH, _HEIGHT = 560, 420  # pixels that the picture to draw on takes at most
_MIN_SIDE = 3  # pixels on the screen; less is a click
_KEPT = "example-boxes"  # dict: image name -> its boxes, so that they are there again after other pages
_FIRST = "example-boxes-first"  # dict: canvas key -> the boxes it began with


def switch(disabled: bool) -> bool:
    """Whether boxes are drawn; disabled: there is no image."""
    return st.toggle(
        "Draw example boxes",
        key="draw-examples",
        persist_state="session",
        disabled=disabled,
        help="Show the model on this image what you mean, or what you do not, with the phrases or without any.",
    )


def choose(name: str, image: np.ndarray | None) -> tuple[ExemplarBox, ...]:
    """Draws the picture to draw boxes on; returns the boxes in pixels of the image."""
    if image is None:
        return ()
    picture, told = st.columns([3, 2], gap="large", vertical_alignment="top")
    with told:
        kind = st.segmented_control("The next box is", [LIKE, UNLIKE], default=LIKE, required=True, key="box-kind")
        st.caption(
            "Press the mouse button at one corner of an object and let go at the opposite one. With the pointer over "
            "the picture, tools above it take the last box back, change boxes or remove them all. Boxes go with every "
            "phrase; without a phrase they alone say what is meant."
        )
    with picture, st.container(key="example-canvas"):
        boxes = _canvas(name, image, kind)
    with told:
        if boxes:
            likes = sum(box.positive for box in boxes)
            st.markdown(f"**Drawn:** {likes} like this, {len(boxes) - likes} not like this")
    return boxes


def _canvas(name: str, image: np.ndarray, kind: str) -> tuple[ExemplarBox, ...]:
    # Its module registers a component when it is imported, which only works in a running app.
    from streamlit_drawable_canvas import st_canvas

    height, width = image.shape[:2]
    scale = min(_WIDTH / width, _HEIGHT / height)
    shown_width, shown_height = max(1, round(width * scale)), max(1, round(height * scale))
    key = f"canvas {name} {width} {height}"
    kept: dict[str, tuple[ExemplarBox, ...]] = st.session_state.setdefault(_KEPT, {})
    first: dict[str, dict[str, Any]] = st.session_state.setdefault(_FIRST, {})
    if key not in st.session_state or key not in first:
        # Drawn anew, as after another page: with the boxes it had. Given later, they would wipe what was drawn since.
        first[key] = {"objects": [_drawing(box, scale) for box in kept.get(key, ())]}
    result = st_canvas(
        fill_color="rgba(255, 255, 255, 0.12)",
        stroke_width=2,
        stroke_color=_COLORS[kind],
        background_image=Image.fromarray(fit(image, 2 * max(_WIDTH, _HEIGHT))),
        width=shown_width,
        height=shown_height,
        drawing_mode="labeled_rect",
        label=kind,
        font_size=12,
        initial_drawing=first[key],
        key=key,
    )
    kept[key] = tuple(
        _box(drawn, scale, width, height) for drawn in result.boxes if min(drawn["width"], drawn["height"]) >= _MIN_SIDE
    )
    return tuple(box for box in kept[key] if box.right - box.left >= 1 and box.bottom - box.top >= 1)


def _box(drawn: dict[str, Any], scale: float, width: int, height: int) -> ExemplarBox:
    left, top = drawn["left"] / scale, drawn["top"] / scale
    right, bottom = left + drawn["width"] / scale, top + drawn["height"] / scale
    inside = (
        min(max(left, 0), width),
        min(max(top, 0), height),
        min(max(right, 0), width),
        min(max(bottom, 0), height),
    )
    return ExemplarBox(*(round(side, 1) for side in inside), drawn["label"] != UNLIKE)


def _drawing(box: ExemplarBox, scale: float) -> dict[str, Any]:
    from streamlit_drawable_canvas import boxes_to_drawing

    label = LIKE if box.positive else UNLIKE
    sides = {
        "left": box.left * scale,
        "top": box.top * scale,
        "width": (box.right - box.left) * scale,
        "height": (box.bottom - box.top) * scale,
    }
    (drawn,) = boxes_to_drawing(
        [{"label": label, **sides}], stroke_color=_COLORS[label], stroke_width=2, fill_color="rgba(255, 255, 255, 0.12)"
    )["objects"]
    return drawn
