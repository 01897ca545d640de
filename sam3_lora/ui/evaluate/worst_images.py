"""The worst images of an evaluation: a grid, and one of them large: ground truth, base and adapter side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

import streamlit as st

from sam3_lora.data.splits.holdout import whole_split
from sam3_lora.draw import Color, overlay
from sam3_lora.evaluate.precision_recall_f1 import BELOW
from sam3_lora.evaluate.report import Report, ShownObject, WorstImage
from sam3_lora.text import plural, short
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.images import fit
from sam3_lora.ui.components.layout import action_button, arrow_keys, choose_one, escape, one_page, step_buttons
from sam3_lora.ui.evaluate import worst_drawing
from sam3_lora.ui.resources import has_dataset_folder

IMAGES_PER_PAGE = 20
_SIZE, _MIN_SIZE = 760, 480  # pixels of the longer side of an image
_SCALE = 1.5  # of lines and text: three images share a row
# Choice -> the field of WorstImage that counts such errors.
_ERRORS = {"False positives": "fp", "Missed objects": "fn", "Inexact masks": "low_iou"}
_ALL = "All errors"


def show(report: Report, colors: PhraseColors, key: str) -> None:
    """Draws the choice of errors and the grid of such images, or the one that was opened.

    Args:
        report: of the evaluation.
        colors: of its phrases.
        key: of the report, so that another one begins with its grid.
    """
    if not report.worst:
        st.caption("No errors: every object was found, without a false positive.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = choose_one("Errors", [_ALL, *_ERRORS], f"worst-kind-{key}")
        st.space("stretch")
        with_below = st.toggle(
            "Below threshold",
            True,
            key="worst-below",
            persist_state="session",
            help="Also draws what nearly finds a missed object: its best prediction below the score threshold",
        )
    images = report.worst if kind == _ALL else with_error(report.worst, _ERRORS[kind])
    if not images:
        st.caption("No image has such an error.")
        return
    by_phrase = {phrase: colors.of(phrase) for image in images for phrase in image.phrases}
    name = f"{key}-{kind}"
    place = st.session_state.get(_open_key(name))
    if place is None or place >= len(images):
        _show_grid(images, by_phrase, with_below, name)
    else:
        _show_large(report, images, place, by_phrase, with_below, name)


def with_error(images: list[WorstImage], kind: str) -> list[WorstImage]:
    """The images with errors of a kind ("fp", "fn" or "low_iou"), most first."""
    return sorted((one for one in images if getattr(one, kind)), key=lambda one: -getattr(one, kind))


def errors_of(image: WorstImage) -> str:
    """For example "2 missed, 1 false positive"."""
    counts = {
        f"{image.fn} missed": image.fn,
        plural(image.fp, "false positive"): image.fp,
        plural(image.low_iou, "inexact mask"): image.low_iou,
    }
    return ", ".join(text for text, count in counts.items() if count)


def _open_key(name: str) -> str:
    return f"worst-open-{name}"


def _page_key(name: str) -> str:
    return f"worst-page-{name}"


def _open(name: str, place: int | None) -> None:
    """A callback that opens an image, or goes back to the grid."""
    if place is None:
        st.session_state[_page_key(name)] = st.session_state[_open_key(name)] // IMAGES_PER_PAGE + 1
    st.session_state[_open_key(name)] = place


def _show_grid(images: list[WorstImage], colors: Mapping[str, Color], with_below: bool, name: str) -> None:
    with one_page(len(images), IMAGES_PER_PAGE, _page_key(name)) as part, st.grid(5, min_column_width=160):
        for place, image in list(enumerate(images))[part]:
            with st.container(key=f"thumb-worst-{place}", gap=None):
                own = {phrase: colors[phrase] for phrase in image.phrases}
                picture = worst_drawing.thumbnail(image, own, with_below, _modified_ns(image.path))
                st.image(picture, width="stretch", alt=f"{image.file_name}: {errors_of(image)}")
                st.button(
                    errors_of(image),
                    key=f"open-worst-{place}",
                    help=escape(image.file_name),
                    type="tertiary",
                    width="stretch",
                    on_click=_open,
                    args=(name, place),
                )
                scores = [f"{shape.score:.2f}" for shape in image.judged if shape.outcome == BELOW and with_below]
                if scores:
                    st.caption(f"nearly found: {', '.join(scores)}", text_alignment="center")
    worst_drawing.show_legend(with_below)


def _modified_ns(path: str) -> int | None:
    with suppress(OSError, ValueError):
        return os.stat(path).st_mtime_ns
    return None


def _show_large(
    report: Report, images: list[WorstImage], place: int, colors: Mapping[str, Color], with_below: bool, name: str
) -> None:
    image = images[place]

    def step(by: int) -> None:
        _open(name, min(max(place + by, 0), len(images) - 1))

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All images", "worst-close", icon=":material/grid_view:", on_click=_open, args=(name, None))
        step_buttons(place, len(images), step, "worst-")
        st.caption(f"{place + 1:,} of {len(images):,}", width="content")
        st.space("stretch")
        _offer_dataset(report, image)
    st.markdown(f"**{escape(short(image.file_name))}**: {errors_of(image)}")
    panels: list[tuple[str, str, list[ShownObject]]] = [
        ("Ground truth", "object", image.gt),
        ("Base", "prediction", image.base),
    ]
    if image.adapter is not None:
        panels.append(("Adapter", "prediction", image.adapter))
    pixels = fit(worst_drawing.load_pixels(image), _SIZE, _MIN_SIZE)
    for column, (title, noun, shapes) in zip(st.columns(len(panels)), panels, strict=True):
        count = plural(sum(shape.outcome != BELOW for shape in shapes), noun)
        drawn = worst_drawing.visible(shapes, with_below)
        objects = worst_drawing.draw_objects(drawn, image.size_hw, pixels.shape[:2], colors)
        with column, st.container(key=f"worst-panel-{title.split()[0]}", gap="xxsmall"):
            st.markdown(f"**{title}** :gray[{count}]")
            picture = overlay(pixels, objects, scale=_SCALE)
            st.image(picture, width="stretch", output_format="JPEG", alt=f"{title}: {count}")
            if len(drawn) > worst_drawing.MAX_DRAWN:
                st.caption(f"The first {worst_drawing.MAX_DRAWN} are drawn.")
    if _modified_ns(image.path) is None:
        st.caption(f"The image {escape(image.path)} no longer exists: only its objects are shown.")
    worst_drawing.show_legend(with_below)
    arrow_keys("worst-keys", step)


def _offer_dataset(report: Report, image: WorstImage) -> None:
    """Draws the button that opens the image on the dataset page."""
    reason = None if has_dataset_folder(report.dataset) else "The dataset is no longer a folder on this machine"
    meaning = "Opens this image with its annotations"
    if action_button("Open in Dataset", "photo_library", "worst-dataset", reason, meaning):
        query = {"path": report.dataset, "split": whole_split(report.split), "image": image.file_name}
        st.switch_page("pages/dataset.py", query_params=query)
