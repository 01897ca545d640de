"""Draws an image of an evaluation: objects and predictions by what became of them, and the legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import streamlit as st

from sam3_lora.data.images import MAX_PIXELS, load_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import Color, DrawObject, Style, overlay
from sam3_lora.errors import DataError
from sam3_lora.evaluate.precision_recall_f1 import BELOW, CROWD, FN, FP, IGNORED, LOW_IOU
from sam3_lora.evaluate.report import ShownObject, WorstImage
from sam3_lora.ui.components.colors import legend, swatch
from sam3_lora.ui.components.images import THUMBNAIL_SIZE, fit, scaled_object, to_jpeg

MAX_DRAWN = 40  # objects of a panel
_RED, _ORANGE, _GRAY, _WHITE = (214, 48, 49), (230, 126, 34), (140, 140, 140), (255, 255, 255)
# What an outcome is called, its color where that is not its phrase's, and how it is drawn.
_OUTCOMES: dict[str, tuple[str, Color, Style]] = {
    FP: ("FP", _RED, "filled"),
    LOW_IOU: ("low IoU", _ORANGE, "filled"),
    FN: ("missed", _RED, "outline"),
    IGNORED: ("in a crowd", _GRAY, "filled"),
    CROWD: ("crowd", _GRAY, "filled"),
    BELOW: ("", _WHITE, "dashed"),
}


def show_legend(with_below: bool) -> None:
    """Draws what colors and outlines mean; with_below: whether predictions below the threshold are drawn."""
    entries = [
        (swatch(_RED), "false positive"),
        (swatch(_ORANGE), "inexact mask (IoU below 0.5)"),
        (f"border: 2px solid rgb{_RED}", "missed object"),
        ("background: linear-gradient(135deg, #14998c 50%, #d6a13b 50%)", "correct, in its phrase's color"),
    ]
    if with_below:
        dashes = "width: 1.5em; border: 2px dashed #ffffff; background: #5f6b6d"
        entries.append((dashes, "below the threshold, with its score"))
    legend(entries)


def load_pixels(image: WorstImage, enough: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """The image's pixels, gray where it cannot be read any more; the arguments are :func:`load_image`'s."""
    height, width = image.size_hw
    record = ImageRecord(0, image.file_name, Path(image.path), width, height, (), orientation=image.orientation)
    try:
        return load_image(record, enough, max_pixels)
    except DataError:
        return np.full((height, width, 3), 96, dtype=np.uint8)


@st.cache_data(max_entries=600, show_spinner=False, hash_funcs={WorstImage: msgspec.json.encode})  # about 20 MB
def thumbnail(image: WorstImage, colors: Mapping[str, Color], with_below: bool, modified_ns: int | None) -> bytes:
    """A small JPEG of the image with the judged model's predictions and the objects that it missed, cached.

    Args:
        image: of the report.
        colors: of its phrases.
        with_below: whether predictions below the threshold are drawn.
        modified_ns: of the image's file, part of the cache's key; None without one.
    """
    pixels = fit(load_pixels(image, THUMBNAIL_SIZE, MAX_PIXELS), THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    missed = [shape for shape in image.gt if shape.outcome == FN]
    shapes = [*visible(image.judged, with_below), *missed]
    objects = draw_objects(shapes, image.size_hw, pixels.shape[:2], colors)
    return to_jpeg(overlay(pixels, objects, boxes=False, labels=False))


def visible(shapes: Sequence[ShownObject], with_below: bool) -> list[ShownObject]:
    """The predictions to draw; with_below: whether those below the threshold are among them."""
    return [shape for shape in shapes if with_below or shape.outcome != BELOW]


def draw_objects(
    shapes: Sequence[ShownObject], size_hw: tuple[int, int], to_hw: tuple[int, int], colors: Mapping[str, Color]
) -> list[DrawObject]:
    """The objects to draw, named, colored and outlined by what became of them.

    Args:
        shapes: objects or predictions of an image.
        size_hw: of that image.
        to_hw: of the image that they are drawn on.
        colors: of the phrases.
    """
    return [_draw_object(shape, size_hw, to_hw, colors[shape.phrase]) for shape in shapes[:MAX_DRAWN]]


def _draw_object(shape: ShownObject, size_hw: tuple[int, int], to_hw: tuple[int, int], own: Color) -> DrawObject:
    name, color, style = _OUTCOMES.get(shape.outcome, ("", own, "filled"))
    label = f"{shape.phrase}: {name}" if name else shape.phrase
    x, y, w, h = shape.box
    box = (x, y, x + w, y + h)
    return scaled_object(label, color, shape.mask, box, size_hw, to_hw, shape.score, style)
