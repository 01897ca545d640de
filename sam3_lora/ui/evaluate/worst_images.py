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
from sam3_lora.masks import decode_segmentation
from sam3_lora.text import plural
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.images import fit
from sam3_lora.ui.components.layout import escape

_SIZE, _MIN_SIZE = 760, 480  # pixels of the longer side of a picture
_MAX_DRAWN = 40
_KINDS = {"All errors": None, "False positives": "fp", "Misses": "fn", "Low IoU": "low_iou"}
_PLACE, _KIND = "worst-place", "worst-kind"
# What an outcome is called, and its colour where that is not its phrase's.
_OUTCOMES: dict[str, tuple[str, Color | None]] = {
    "tp": ("", None),
    "fp": ("false positive", (214, 48, 49)),
    "low_iou": ("low IoU", (230, 126, 34)),
    "fn": ("missed", (214, 48, 49)),
    "ignored": ("in a crowd", (140, 140, 140)),
    "crowd": ("crowd", (140, 140, 140)),
}


def show(report: Report, colors: PhraseColors, key: str) -> None:
    """The pager and the pictures. key: of the report, so that another one begins at its first image."""
    if not report.worst:
        st.caption("There is no error to show: every object was found, and nothing else.")
        return
    kind = st.segmented_control("Errors", list(_KINDS), default="All errors", required=True, key=f"{_KIND}-{key}")
    images = of_kind(report.worst, _KINDS[kind])
    if not images:
        st.caption(f"There are no {kind.lower()}.")
        return
    place_key = f"{_PLACE}-{key}-{kind}"
    place = min(st.session_state.get(place_key, 0), len(images) - 1)
    _pager(place_key, place, len(images), images[place])
    _pictures(images[place], colors)


def of_kind(images: list[WorstImage], kind: str | None) -> list[WorstImage]:
    """The images with such errors, most first; None: with any."""
    if kind is None:
        return images
    return sorted((one for one in images if getattr(one, kind)), key=lambda one: -getattr(one, kind))


def _pager(key: str, place: int, count: int, image: WorstImage) -> None:
    def go(to: int) -> None:
        st.session_state[key] = to

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous",
            key="worst-previous",
            icon=":material/chevron_left:",
            disabled=place == 0,
            on_click=go,
            args=(place - 1,),
        )
        st.button(
            "Next",
            key="worst-next",
            icon=":material/chevron_right:",
            icon_position="right",
            disabled=place == count - 1,
            on_click=go,
            args=(place + 1,),
        )
        errors = [
            plural(number, name)
            for number, name in (
                (image.fp, "false positive"),
                (image.fn, "missed object"),
                (image.low_iou, "low-IoU mask"),
            )
            if number
        ]
        st.markdown(f"**{place + 1} of {count}**: {escape(image.file_name)}, {', '.join(errors)}", width="content")


def _pictures(image: WorstImage, colors: PhraseColors) -> None:
    pixels = _pixels(image)
    if pixels is None:
        st.caption(f"The image {escape(image.path)} is not there any more; only what was found in it is shown.")
        pixels = np.full((*image.size_hw, 3), 96, dtype=np.uint8)
    shown = fit(pixels, _SIZE, _MIN_SIZE)
    panels = [("Ground truth", image.gt), ("Base", image.base), ("Adapter", image.adapter)]
    panels = [(name, shapes) for name, shapes in panels if shapes is not None]
    for column, (name, shapes) in zip(st.columns(len(panels)), panels, strict=True):
        what = "object" if name == "Ground truth" else "prediction"
        with column, st.container(key=f"worst-{name.split()[0].lower()}", gap="xxsmall"):
            st.markdown(f"**{name}** :gray[{plural(len(shapes), what)}]")
            drawn = overlay(shown, draw_objects(shapes, image.size_hw, shown.shape[:2], colors))
            st.image(drawn, width="stretch", output_format="JPEG")
            if len(shapes) > _MAX_DRAWN:
                st.caption(f"The first {_MAX_DRAWN} are drawn.")


def _pixels(image: WorstImage) -> np.ndarray | None:
    height, width = image.size_hw
    try:
        return load_image(ImageRecord(0, image.file_name, Path(image.path), width, height, ()))
    except DataError:
        return None


def draw_objects(
    shapes: list[ShownObject], size_hw: tuple[int, int], drawn_hw: tuple[int, int], colors: PhraseColors
) -> list[DrawObject]:
    """What is drawn of the shapes, for a picture of another size."""
    rows = np.minimum(np.arange(drawn_hw[0]) * size_hw[0] // drawn_hw[0], size_hw[0] - 1)
    columns = np.minimum(np.arange(drawn_hw[1]) * size_hw[1] // drawn_hw[1], size_hw[1] - 1)
    objects = []
    for shape in shapes[:_MAX_DRAWN]:
        words, color = _OUTCOMES.get(shape.outcome, ("", None))
        mask = decode_segmentation(shape.mask, tuple(size_hw))[np.ix_(rows, columns)]
        x, y, w, h = (value * drawn_hw[1 - index % 2] / size_hw[1 - index % 2] for index, value in enumerate(shape.box))
        label = f"{shape.phrase}: {words}" if words else shape.phrase
        objects.append(DrawObject(label, color or colors.of(shape.phrase), mask, (x, y, x + w, y + h), shape.score))
    return objects
