"""An image viewer in the browser: zoom, pan and details of the object under the pointer.

Objects are sent as outlines, not as pixels, so that they stay sharp at any zoom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import streamlit as st

from sam3_lora.data.dataset import Annotation, ImageRecord, load_image
from sam3_lora.data.images import MAX_PIXELS
from sam3_lora.draw import Color, ink
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_columns
from sam3_lora.text import short
from sam3_lora.ui.components.images import RECORD_KEY, Layers, data_url, fitted_hw
from sam3_lora.ui.components.javascript import component

LONGEST = 2000  # pixels of the picture that is sent; more would only be seen at the highest zoom
VIEW_HEIGHT = 520  # pixels on the screen, at most where the window is no larger
VIEW_SHARE = 0.62  # of the height of a larger window

_VIEWER = component("viewer", html='<div class="sam3-viewer" role="group" tabindex="0"></div>', uses="image_stage")


def viewer(
    record: ImageRecord,
    state: tuple,
    layers: Layers,
    colors: Mapping[str, Color],
    areas: Sequence[int | None],
    focus: tuple[int, str] | None = None,
    chosen: int | None = None,
    pick: Callable[[int | None], None] | None = None,
) -> None:
    """Draws the image with its objects.

    Args:
        record: the image.
        state: the dataset's fingerprint.
        layers: what is drawn over it.
        colors: of the dataset's categories.
        areas: pixels of each object's mask, in the order of the record's annotations; None without one.
        focus: an object's place in the record's annotations to zoom to, and a token: it is done once per token.
        chosen: the place of the object that is drawn as selected.
        pick: called with the place of an object that was clicked, None after a click beside all.

    Raises:
        DataError: the image file is missing or broken.
    """
    picture, outlines = _prepared(record, state)
    places = [place for place, annotation in enumerate(record.annotations) if layers.shows(annotation)]
    objects = [
        _annotated(record.annotations[place], outlines[place], areas[place], record, colors)
        | {"emphasis": "is-chosen" if place == chosen else ""}
        for place in places
    ]
    data = {
        "image": picture,
        "imageKey": f"{record.path} {hash(state)}",
        "width": record.width,
        "height": record.height,
        "viewHeight": VIEW_HEIGHT,
        "viewShare": VIEW_SHARE,
        "label": f"{record.file_name}, large",
        "objects": objects,
        "show": {"masks": layers.masks, "boxes": layers.boxes, "labels": layers.labels, "opacity": layers.opacity},
        "focus": focus and {"box": record.annotations[focus[0]].bbox_xywh, "token": focus[1]},
        "pickable": pick is not None,
    }

    def picked() -> None:
        index = st.session_state["viewer"]["picked"]
        if pick is not None and index is not None:
            pick(places[index] if 0 <= index < len(places) else None)

    mount("viewer", data, picked)


def mount(key: str, data: dict[str, Any], picked: Callable[[], None] = lambda: None) -> None:
    """Draws or updates the viewer of this key; data as image_stage.js takes it.

    Viewers with the same text under "group" show the same part of their images. picked: called after a click, whose
    object's place among data's is in the session.
    """
    _VIEWER(key=key, data=data, height="content", on_picked_change=picked)


@st.cache_data(max_entries=16, show_spinner=False, hash_funcs=RECORD_KEY)
def _prepared(record: ImageRecord, state: tuple) -> tuple[str, list[str]]:
    """The picture as a data URL, and the outline of each object as an SVG path in pixels of the record."""
    picture = data_url(load_image(record, LONGEST, MAX_PIXELS), LONGEST)
    return picture, [_outline(annotation, record) for annotation in record.annotations]


def _outline(annotation: Annotation, record: ImageRecord) -> str:
    if annotation.segmentation is None:
        return ""
    if isinstance(annotation.segmentation, list):
        return " ".join(_path(np.asarray(part, float).reshape(-1, 2)) for part in annotation.segmentation)
    size_hw = fitted_hw((record.height, record.width), LONGEST)
    try:
        columns, first = decode_columns(annotation.segmentation, (record.height, record.width), size_hw)
    except DataError:  # a finding says so
        return ""
    left, top, width, height = cv2.boundingRect(columns.astype(np.uint8))
    inside = columns[top : top + height, left : left + width]
    return outline_of(inside, (first + left, top), (record.width / size_hw[1], record.height / size_hw[0]))


def outline_of(inside: np.ndarray, corner_xy: tuple[int, int], scale_xy: tuple[float, float]) -> str:
    """A bitmap bool (h, w) as an SVG path; its first pixel lies at the corner, and all is scaled after that."""
    # A contour runs through the centers of pixels; of doubled ones that is near the edges of the whole ones.
    doubled = inside.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return " ".join(
        _path(((contour.reshape(-1, 2) + 0.5) / 2 + corner_xy) * np.array(scale_xy)) for contour in contours
    )


def _path(points_xy: np.ndarray) -> str:
    """A closed SVG path through (N, 2) points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points_xy) + "Z"


def viewer_object(
    name: str, color: Color, box_xywh: Sequence[float], outline: str, area: int | None, size_hw: tuple[int, int]
) -> dict[str, Any]:
    """An object as image_stage.js takes it.

    Args:
        name: on its label.
        color: of its outline, box and label.
        box_xywh: in pixels of the image.
        outline: of its mask, see :func:`outline_of`; empty without one.
        area: pixels of its mask; None without one.
        size_hw: of the image.
    """
    x, y, w, h = map(float, box_xywh)
    mask = "No mask"
    if area is not None:
        mask = f"Mask {area:,} px, {100 * area / (size_hw[0] * size_hw[1]):.2f} % of the image"
    return {
        "name": short(name),
        "color": "#{:02x}{:02x}{:02x}".format(*color),
        "ink": "#{:02x}{:02x}{:02x}".format(*ink(color)),
        "box": [x, y, w, h],
        "outline": outline,
        "crowd": False,
        "lines": [f"Box {x:.0f}, {y:.0f}, {w:.0f} × {h:.0f} px", mask],
    }


def _annotated(
    annotation: Annotation, outline: str, area: int | None, record: ImageRecord, colors: Mapping[str, Color]
) -> dict[str, Any]:
    size_hw = (record.height, record.width)
    name = annotation.category + (" (crowd)" if annotation.iscrowd else "")
    shown = viewer_object(name, colors[annotation.category], annotation.bbox_xywh, outline, area, size_hw)
    crowd = ["A crowd: shown, never learned"] if annotation.iscrowd else []
    return shown | {"crowd": annotation.iscrowd, "lines": [f"Annotation {annotation.id}", *shown["lines"], *crowd]}
