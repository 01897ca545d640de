"""The worst images of an evaluation, one at a time: ground truth, base and adapter side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from sam3_lora.data.images import load_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import Color, DrawObject, overlay
from sam3_lora.errors import DataError
from sam3_lora.evaluate.report import Report, ShownObject, WorstImage
from sam3_lora.text import plural
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.images import fit, scaled_object
from sam3_lora.ui.components.layout import choose_one, escape, step_buttons

_SIZE, _MIN_SIZE = 760, 480  # pixels of the longer side of an image
_MAX_DRAWN = 40
# Choice -> the field of WorstImage that counts such errors, and what one of them is called.
_ERRORS = {
    "False positives": ("fp", "false positive"),
    "Missed objects": ("fn", "missed object"),
    "Low IoU": ("low_iou", "low-IoU mask"),
}
_ALL = "All errors"
_RED, _ORANGE, _GRAY = (214, 48, 49), (230, 126, 34), (140, 140, 140)
# What an outcome is called, and its color where that is not its phrase's.
_OUTCOMES: dict[str, tuple[str, Color]] = {
    "fp": ("FP", _RED),
    "low_iou": ("low IoU", _ORANGE),
    "fn": ("missed", _RED),
    "ignored": ("in a crowd", _GRAY),
    "crowd": ("crowd", _GRAY),
}


def show(report: Report, colors: PhraseColors, key: str) -> None:
    """Draws the choice of an image and the image.

    Args:
        report: of the evaluation.
        colors: of its phrases.
        key: of the report, so that another one begins at its first image.
    """
    if not report.worst:
        st.caption("No errors: every object was found, without a false positive.")
        return
    kind = choose_one("Errors", [_ALL, *_ERRORS], f"worst-kind-{key}")
    images = report.worst if kind == _ALL else with_error(report.worst, _ERRORS[kind][0])
    if not images:
        st.caption("No image has such an error.")
        return
    index_key = f"worst-index-{key}-{kind}"
    index = min(st.session_state.get(index_key, 0), len(images) - 1)
    _show_pager(index_key, index, len(images), images[index])
    _show_image(images[index], colors)


def with_error(images: list[WorstImage], kind: str) -> list[WorstImage]:
    """The images with errors of a kind ("fp", "fn" or "low_iou"), most first."""
    return sorted((one for one in images if getattr(one, kind)), key=lambda one: -getattr(one, kind))


def _show_pager(key: str, index: int, count: int, image: WorstImage) -> None:
    def step(by: int) -> None:
        st.session_state[key] = index + by

    with st.container(horizontal=True, vertical_alignment="center"):
        step_buttons(index, count, step, "worst-")
        errors = [plural(getattr(image, kind), name) for kind, name in _ERRORS.values() if getattr(image, kind)]
        st.markdown(f"**{index + 1} of {count}**: {escape(image.file_name)}, {', '.join(errors)}", width="content")


def _show_image(image: WorstImage, colors: PhraseColors) -> None:
    pixels = _load(image)
    if pixels is None:
        st.caption(f"The image {escape(image.path)} no longer exists: only its objects are shown.")
        pixels = np.full((*image.size_hw, 3), 96, dtype=np.uint8)
    pixels = fit(pixels, _SIZE, _MIN_SIZE)
    panels = [("Ground truth", "gt", "object", image.gt), ("Base", "base", "prediction", image.base)]
    if image.adapter is not None:
        panels.append(("Adapter", "adapter", "prediction", image.adapter))
    for column, (title, key, noun, shapes) in zip(st.columns(len(panels)), panels, strict=True):
        with column, st.container(key=f"worst-{key}", gap="xxsmall"):
            st.markdown(f"**{title}** :gray[{plural(len(shapes), noun)}]")
            drawing = overlay(pixels, draw_objects(shapes, image.size_hw, pixels.shape[:2], colors))
            st.image(drawing, width="stretch", output_format="JPEG")
            if len(shapes) > _MAX_DRAWN:
                st.caption(f"The first {_MAX_DRAWN} are drawn.")


def _load(image: WorstImage) -> np.ndarray | None:
    """The image's pixels; None if it cannot be read any more."""
    height, width = image.size_hw
    try:
        path = Path(image.path)
        return load_image(ImageRecord(0, image.file_name, path, width, height, (), orientation=image.orientation))
    except DataError:
        return None


def draw_objects(
    shapes: list[ShownObject], size_hw: tuple[int, int], to_hw: tuple[int, int], colors: PhraseColors
) -> list[DrawObject]:
    """The objects to draw, named and colored by what became of them.

    Args:
        shapes: objects or predictions of an image.
        size_hw: of that image.
        to_hw: of the image that they are drawn on.
        colors: of the phrases.
    """
    objects = []
    for shape in shapes[:_MAX_DRAWN]:
        label, color = shape.phrase, colors.of(shape.phrase)
        if shape.outcome in _OUTCOMES:
            outcome, color = _OUTCOMES[shape.outcome]
            label = f"{shape.phrase}: {outcome}"
        x, y, w, h = shape.box
        objects.append(scaled_object(label, color, shape.mask, (x, y, x + w, y + h), size_hw, to_hw, shape.score))
    return objects
