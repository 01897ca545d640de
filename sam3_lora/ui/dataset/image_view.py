"""One image of the dataset: previous and next, its annotations drawn over it and in a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
import streamlit as st
import torch

from sam3_lora.boxes import normalize, xywh_to_xyxy, xyxy_to_cxcywh
from sam3_lora.data.dataset import ImageRecord
from sam3_lora.data.prompts import phrase_of
from sam3_lora.draw import MASK_OPACITY
from sam3_lora.errors import DataError
from sam3_lora.masks import mask_area
from sam3_lora.text import first_names
from sam3_lora.ui.components import images
from sam3_lora.ui.components.layout import arrow_keys, escape, show_error, step_buttons
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.components.viewer import viewer
from sam3_lora.ui.dataset import gallery, model_input
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.edits import image_edits
from sam3_lora.ui.dataset.page_state import OpenedDataset

_TABLE = "objects-table"
_PICKED = "object-picked"  # tuple[int, str, int | None]: clicks on images so far; the last one's image, and object
_SHARES = ("cx", "cy", "w", "h")  # of a box, relative to the image


def show(opened: OpenedDataset, phrases: Mapping[str, str]) -> None:
    """The current image with its annotations, or as the model sees it.

    Args:
        opened: the dataset.
        phrases: by category, of the next run.
    """
    _show_head(opened)
    index = opened.index(st.session_state[view.SPLIT])
    label = st.session_state[view.IMAGE]
    position = index.positions[label]
    if st.session_state[view.SEE] == view.MODEL:
        model_input.show(opened, index, position, phrases)
    else:
        categories = gallery.current_filter(opened).categories
        _show_annotations(opened, label, index.record(position), categories, phrases)
    arrow_keys("arrow-keys", partial(_step, opened))


def _filtered(opened: OpenedDataset) -> tuple[list[str], int | None]:
    """The labels of the images in the filtered grid, and the place of the current one among them, if it is there."""
    index = opened.index(st.session_state[view.SPLIT])
    labels = [index.labels[position] for position in index.select(gallery.current_filter(opened))]
    label = st.session_state.get(view.IMAGE)
    return labels, labels.index(label) if label in labels else None


def _show_head(opened: OpenedDataset) -> None:
    """Back, previous, next, and the choice between annotations and model input."""
    found, place = _filtered(opened)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All images", icon=":material/grid_view:", key="close", on_click=view.close_image, args=(place,))
        step_buttons(place, len(found), partial(_step, opened))
        if place is not None:
            st.caption(f"{place + 1:,} of {len(found):,}", width="content")
        st.space("stretch")
        st.segmented_control(
            "Show as",
            [view.ANNOTATIONS, view.MODEL],
            required=True,
            key=view.SEE,
            label_visibility="collapsed",
            persist_state="session",
        )


def _step(opened: OpenedDataset, by: int) -> None:
    """A callback that moves by so many images in the filtered grid, at most to the first or last."""
    found, place = _filtered(opened)
    if place is not None:
        view.open_image(st.session_state[view.SPLIT], found[min(max(place + by, 0), len(found) - 1)])


def _leave(opened: OpenedDataset) -> None:
    """Opens the next image of the filtered grid, or the one before the last; the grid where there is no other."""
    found, place = _filtered(opened)
    if place is None or len(found) < 2:
        view.close_image(place)
    else:
        view.open_image(st.session_state[view.SPLIT], found[place + 1 if place + 1 < len(found) else place - 1])


def _show_annotations(
    opened: OpenedDataset, label: str, record: ImageRecord, categories: tuple[str, ...], phrases: Mapping[str, str]
) -> None:
    table = _object_table(record, opened.state, dict(phrases))
    picture, controls = st.columns([5, 2], gap="medium")
    with controls:
        st.markdown(f"**{escape(label)}**")
        split = escape(st.session_state[view.SPLIT])
        st.caption(f"{record.width} × {record.height} pixels, {view.objects_of(record)}, split {split}")
        layers = _choose_layers(categories)
        if categories:
            st.caption(f"Filtered: only {escape(first_names(categories))}.")
        places = [place for place, annotation in enumerate(record.annotations) if layers.shows(annotation)]
        focus = _focus(record, places)
        place = focus[0] if focus else _picked(record, places)
        chosen = None if place is None else record.annotations[place]
        image_edits.show(opened, record, chosen, partial(_leave, opened))
        st.caption(
            "Click an object to select it. Scroll to zoom, drag to pan, double-click to zoom in or out. ← and → change "
            "the image."
        )
    with picture, st.container(key="large-image"):
        try:
            viewer(record, opened.state, layers, opened.colors, _areas(table), focus, place, partial(_pick, record))
        except DataError as error:
            show_error(error)
    _show_objects(table.iloc[places], record)


def _choose_layers(categories: tuple[str, ...]) -> images.Layers:
    return images.Layers(
        masks=st.toggle("Masks", True, key="show_masks", persist_state="session"),
        boxes=st.toggle("Boxes", True, key="show_boxes", persist_state="session"),
        labels=st.toggle("Labels", True, key="show_labels", persist_state="session"),
        opacity=st.slider("Mask opacity", 0.0, 1.0, MASK_OPACITY, 0.05, key="opacity", persist_state="session"),
        categories=categories,
    )


def _focus(record: ImageRecord, places: list[int]) -> tuple[int, str] | None:
    """The object of the selected row, to zoom to: its position and a token; see :func:`viewer`.

    Args:
        record: the image.
        places: positions of the annotations that the table shows, one per row.
    """
    rows = st.session_state.get(_table_key(record), {}).get("selection", {}).get("rows", [])
    if not rows or rows[0] >= len(places):
        return None
    return places[rows[0]], f"{record.path} {places[rows[0]]}"


def _table_key(record: ImageRecord) -> str:
    """Another one after each click on the image, which ends the selection of a row."""
    return f"{_TABLE}-{record.id}-{st.session_state.get(_PICKED, (0,))[0]}"


def _pick(record: ImageRecord, place: int | None) -> None:
    """A callback of a click on an object's place, or beside all objects."""
    clicks = st.session_state.get(_PICKED, (0,))[0]
    st.session_state[_PICKED] = (clicks + 1, record.path, place)


def _picked(record: ImageRecord, places: list[int]) -> int | None:
    """The place of the object that was clicked last, on this image, if it is shown."""
    _, path, place = st.session_state.get(_PICKED, (0, "", None))
    return place if path == record.path and place in places else None


def _areas(table: pd.DataFrame) -> list[int | None]:
    return [] if table.empty else [None if pd.isna(area) else int(area) for area in table["Mask (px)"]]


def _show_objects(table: pd.DataFrame, record: ImageRecord) -> None:
    st.subheader("Objects", anchor=False)
    if table.empty:
        st.caption("No objects to show. Images without objects teach the model what not to detect.")
        return
    show_table(
        table,
        f"Objects of {record.file_name}",
        {
            **dict.fromkeys(_SHARES, "%.4f"),
            "Mask (px)": "localized",
            "Mask (%)": st.column_config.NumberColumn(format="%.2f", help="Share of the image"),
            "Box (px)": st.column_config.TextColumn(help="Left, top, width, height"),
            "Crowd": st.column_config.CheckboxColumn(help="One annotation for a group of objects"),
        },
        key=_table_key(record),
        on_select="rerun",
        selection_mode="single-row",
    )
    st.caption(
        "Select a row to select its object and zoom to it. cx, cy, w, h: the box's center and size as the model gets "
        "them, relative to the image."
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=images.RECORD_KEY)
def _object_table(record: ImageRecord, state: tuple, phrases: dict[str, str]) -> pd.DataFrame:
    """One row per object: category, phrase, normalized cxcywh, pixel box, decoded mask area, crowd."""
    size_hw = (record.height, record.width)
    rows = []
    boxes = torch.tensor([annotation.bbox_xywh for annotation in record.annotations], dtype=torch.float64)
    shares = normalize(xyxy_to_cxcywh(xywh_to_xyxy(boxes.reshape(-1, 4))), size_hw).tolist()
    for annotation, of_image in zip(record.annotations, shares, strict=True):
        area = _mask_area(annotation.segmentation, size_hw)
        rows.append(
            {
                "Category": annotation.category,
                "Phrase": phrase_of(annotation.category, phrases),
                **dict(zip(_SHARES, of_image, strict=True)),
                "Box (px)": ", ".join(f"{value:.0f}" for value in annotation.bbox_xywh),
                "Mask (px)": area,
                "Mask (%)": None if area is None else 100 * area / (size_hw[0] * size_hw[1]),
                "Crowd": annotation.iscrowd,
            }
        )
    return pd.DataFrame(rows)


def _mask_area(segmentation: object, size_hw: tuple[int, int]) -> int | None:
    if segmentation is None:
        return None
    try:
        return mask_area(segmentation, size_hw)
    except DataError:
        return None
