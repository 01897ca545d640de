"""The views of the dataset page: its splits in numbers, the grid of thumbnails, one image with its objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st
import torch

from sam3_lora.boxes import normalize, xywh_to_xyxy, xyxy_to_cxcywh
from sam3_lora.data.coco import Dataset, ImageRecord, Split
from sam3_lora.data.health import plural
from sam3_lora.data.prompts import phrase_of
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation
from sam3_lora.ui import images
from sam3_lora.ui.layout import escape, show_error

IMAGES_PER_PAGE = 24
NO_OBJECTS = "(no objects)"  # stands beside the categories in the filter

# Keys of the widgets; those of bound ones are the names in the page's address.
PATH, SPLIT, IMAGE, CATEGORIES, PAGE = "path", "split", "image", "categories", "dataset_page"


def open_image(split: str, label: str) -> None:
    """A callback that shows one image large; label as in :func:`labelled`."""
    st.session_state[SPLIT] = split
    st.session_state[IMAGE] = label


def open_named(dataset: Dataset, split: str, file_name: str) -> None:
    """A callback that shows the image that a finding names, if it is among those that could be read."""
    named = labelled(dataset.splits[split]) if split in dataset.splits else {}
    label = next((label for label, image in named.items() if image.file_name == file_name), None)
    if label:
        open_image(split, label)
    else:
        st.toast(f"{escape(file_name)} is not among the images that could be read.", icon=":material/hide_image:")


def close_image() -> None:
    """A callback that goes back to the grid."""
    st.session_state[IMAGE] = None


def reset() -> None:
    """A callback for when another dataset is opened: nothing of the last one stays chosen."""
    for key in (SPLIT, IMAGE, CATEGORIES, PAGE):
        st.session_state.pop(key, None)


def keep_valid(key: str, options: Sequence[str]) -> None:
    """Takes out of a widget's state, before it is drawn, what is no longer among its options."""
    value = st.session_state.get(key)
    if isinstance(value, list):
        st.session_state[key] = [item for item in value if item in options]
    elif value is not None and value not in options:
        del st.session_state[key]


def labelled(split: Split) -> dict[str, ImageRecord]:
    """The split's images by what they are called on the screen: the file name, with the id where it is not unique."""
    often = Counter(image.file_name for image in split.images)
    return {
        image.file_name if often[image.file_name] == 1 else f"{image.file_name} (id {image.id!r})": image
        for image in split.images
    }


def split_table(dataset: Dataset) -> pd.DataFrame:
    """One row per split: images, objects, categories, images without objects."""
    rows = [
        {
            "Split": split.name,
            "Images": len(split.images),
            "Objects": split.num_objects,
            "Categories": len({a.category for image in split.images for a in image.annotations}),
            "Without objects": sum(not image.annotations for image in split.images),
        }
        for split in dataset.splits.values()
    ]
    return pd.DataFrame(rows)


def matching(named: dict[str, ImageRecord], categories: Iterable[str]) -> dict[str, ImageRecord]:
    """Those images that hold one of the categories (or none at all, for NO_OBJECTS); all without a filter."""
    wanted = set(categories)
    if not wanted:
        return named
    return {
        label: image
        for label, image in named.items()
        if wanted & ({annotation.category for annotation in image.annotations} or {NO_OBJECTS})
    }


def show_grid(named: dict[str, ImageRecord], split: str, state: tuple, categories: tuple[str, ...]) -> None:
    """Thumbnails with their overlays, IMAGES_PER_PAGE at a time; a click opens one."""
    pages = -(-len(named) // IMAGES_PER_PAGE)
    if st.session_state.get(PAGE, 1) > pages:
        st.session_state[PAGE] = 1
    start = (st.session_state.get(PAGE, 1) - 1) * IMAGES_PER_PAGE
    layers = images.Layers(labels=False, categories=categories)
    with st.grid(6, min_column_width=130):
        for place, (label, record) in enumerate(list(named.items())[start : start + IMAGES_PER_PAGE]):
            with st.container(key=f"thumb-{place}", gap="xxsmall"):
                _show_thumbnail(record, state, layers)
                st.button(
                    escape(label),
                    key=f"open-{place}",
                    help=f"{escape(label)}: {_count(record)}",
                    type="tertiary",
                    width="stretch",
                    wrap=False,
                    on_click=open_image,
                    args=(split, label),
                )
    if pages > 1:
        with st.container(horizontal_alignment="center"):
            st.pagination(pages, key=PAGE)


def _show_thumbnail(record: ImageRecord, state: tuple, layers: images.Layers) -> None:
    try:
        picture = images.annotated(record, state, images.THUMBNAIL_SIZE, layers)
    except DataError:
        with st.container(height=150, border=True, horizontal_alignment="center", vertical_alignment="center"):
            st.markdown(":red[:material/broken_image:]", text_alignment="center")
    else:
        st.image(picture, width="stretch", alt=f"{record.file_name}, {_count(record)}")


def show_image(
    label: str, named: dict[str, ImageRecord], split: Split, state: tuple, categories: tuple[str, ...]
) -> None:
    """One image large, with its layers' switches, the way to its neighbours and the table of its objects.

    Args:
        label: of the image.
        named: the images to step through, those that match the filter.
        split: that all of them are in.
        state: the dataset's fingerprint.
        categories: the filter; empty for all.
    """
    record = labelled(split)[label]
    _show_neighbours(label, list(named), split.name)
    picture, controls = st.columns([5, 3], gap="medium")
    with controls:
        st.markdown(f"**{escape(label)}**")
        st.caption(f"{record.width} × {record.height} pixels, {_count(record)}")
        layers = images.Layers(
            masks=st.toggle("Masks", True, key="show_masks", persist_state="session"),
            boxes=st.toggle("Boxes", True, key="show_boxes", persist_state="session"),
            labels=st.toggle("Labels", True, key="show_labels", persist_state="session"),
            opacity=st.slider("Mask opacity", 0.0, 1.0, 0.45, 0.05, key="opacity", persist_state="session"),
            categories=categories,
        )
    with picture, st.container(key="large-image"):
        try:
            st.image(images.annotated(record, state, images.LARGE_SIZE, layers), width="stretch", alt=f"{label}, large")
        except DataError as error:
            show_error(error)
    _show_objects(record, state, categories)


def _show_neighbours(label: str, labels: list[str], split: str) -> None:
    place = labels.index(label) if label in labels else None
    before = labels[place - 1] if place else None
    after = labels[place + 1] if place is not None and place + 1 < len(labels) else None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("All images", icon=":material/grid_view:", key="close", on_click=close_image)
        for text, icon, shortcut, target in (
            ("Previous", ":material/chevron_left:", "Left", before),
            ("Next", ":material/chevron_right:", "Right", after),
        ):
            st.button(
                text,
                icon=icon,
                shortcut=shortcut,
                key=text.lower(),
                disabled=target is None,
                on_click=open_image,
                args=(split, target),
            )
        if place is not None:
            st.caption(f"{place + 1} of {len(labels)}", width="content")


def _show_objects(record: ImageRecord, state: tuple, categories: tuple[str, ...]) -> None:
    st.subheader("Objects", anchor=False)
    table = object_table(str(record.path), record.id, state, record)
    if categories and not table.empty:
        table = table[table["Category"].isin(categories)]
    if table.empty:
        st.caption("No objects to show: an image without any teaches the model what to leave alone.")
        return
    four = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(
        table,
        hide_index=True,
        alt=f"Objects of {record.file_name}",
        column_config={
            **dict.fromkeys(("cx", "cy", "w", "h"), four),
            "Mask (px)": st.column_config.NumberColumn(format="localized"),
            "Mask (%)": st.column_config.NumberColumn(format="%.2f", help="Share of the image"),
            "Box (px)": st.column_config.TextColumn(help="Left, top, width, height"),
            "Crowd": st.column_config.CheckboxColumn(help="One annotation for a whole group of objects"),
        },
    )
    st.caption("cx, cy, w, h: the box's centre and size as the model is given them, in shares of the image.")


@st.cache_data(max_entries=64, show_spinner=False)
def object_table(path: str, image_id: object, state: tuple, _record: ImageRecord) -> pd.DataFrame:
    """One row per object: category, phrase, normalised cxcywh, pixel box, decoded mask area, crowd."""
    size_hw = (_record.height, _record.width)
    rows = []
    for annotation in _record.annotations:
        box = xyxy_to_cxcywh(xywh_to_xyxy(torch.tensor(annotation.bbox_xywh, dtype=torch.float64)))
        cx, cy, w, h = normalize(box, size_hw).tolist()
        area = _mask_area(annotation.segmentation, size_hw)
        rows.append(
            {
                "Category": annotation.category,
                "Phrase": phrase_of(annotation.category),
                **{"cx": cx, "cy": cy, "w": w, "h": h},
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
        return int(decode_segmentation(segmentation, size_hw).sum())
    except DataError:
        return None


def _count(record: ImageRecord) -> str:
    return plural(len(record.annotations), "object")
