"""The grid of thumbnails: the filters above it, and its pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
import streamlit as st

from sam3_lora.data.dataset import ImageRecord
from sam3_lora.draw import Color
from sam3_lora.errors import DataError
from sam3_lora.text import plural
from sam3_lora.ui.components import images
from sam3_lora.ui.components.layout import empty_state, escape
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.findings import title_of
from sam3_lora.ui.dataset.page_state import IMAGES_PER_PAGE, Opened
from sam3_lora.ui.split_index import AS_IN_FILE, COUNTS, SIZES, SORTS, SplitIndex, Wanted
from sam3_lora.ui.state import keep_valid

_SPLITS_IN_A_ROW = 16  # letters of all names: more are a list to choose from
_COLORS_TOLD = 12  # in the line above the images; more are not told apart at a glance


def show(opened: Opened) -> None:
    """The filters and one page of the images that pass them."""
    index = _choose_split_and_filters(opened)
    wanted = wanted_now(opened)
    found = index.select(wanted)
    if wanted.filters:
        with st.container(horizontal=True, vertical_alignment="center", height=32, border=False):
            st.caption(f"{len(found):,} of {plural(len(index), 'image')}", width="content")
            st.button("Clear the filters", key="clear-filters", type="tertiary", on_click=view.clear_filters)
    if len(found):
        used = index.used_categories
        _tell_colors([name for name in used if name in wanted.categories] or used, opened.colors)
        _show_page(opened, index, found, wanted)
    else:
        empty_state("filter_alt_off", "No image of this split matches", "Clear the filters, or choose another split.")


def wanted_now(opened: Opened) -> Wanted:
    """What the filters ask for, also while they are not on the screen."""
    chosen = st.session_state
    split, kind = chosen[view.SPLIT], chosen.get(view.FINDING)
    names = None
    if kind:
        concerned = [finding for finding in opened.findings if finding.kind == kind and finding.split in (split, "")]
        names = frozenset(name for finding in concerned for name in finding.image_names)
    return Wanted(
        categories=tuple(chosen.get(view.CATEGORIES) or ()),
        images=names,
        text=(chosen.get(view.TEXT) or "").strip(),
        count=chosen.get(view.COUNT),
        size=chosen.get(view.SIZE),
        sort=chosen.get(view.SORT) or AS_IN_FILE,
    )


def _choose_split_and_filters(opened: Opened) -> SplitIndex:
    by_split, by_category, by_finding, by_name, more = st.columns([4, 4, 4, 3, 2], vertical_alignment="bottom")
    with by_split:
        _choose_split(opened.split_names)
    index = opened.index(st.session_state[view.SPLIT])
    kinds = _finding_counts(opened, index.split.name)
    keep_valid(view.CATEGORIES, index.categories)
    keep_valid(view.FINDING, list(kinds))
    with by_category:
        st.multiselect("Categories", index.categories, key=view.CATEGORIES, placeholder="All", persist_state="session")
    with by_finding:
        st.selectbox(
            "Finding",
            list(kinds),
            None,
            format_func=lambda kind: f"{title_of(kind)} ({kinds.get(kind, 0):,})",
            key=view.FINDING,
            placeholder="Any or none",
            persist_state="session",
            help="Only images that this was found in",
        )
    with by_name:
        st.text_input(
            "File name",
            key=view.TEXT,
            placeholder="Contains",
            live="300ms",
            persist_state="session",
            icon=":material/search:",
        )
    with more:
        _choose_more()
    return index


def _choose_split(names: list[str]) -> None:
    if sum(map(len, names)) <= _SPLITS_IN_A_ROW:
        st.segmented_control("Split", names, required=True, key=view.SPLIT, persist_state="session")
    else:
        st.selectbox("Split", names, key=view.SPLIT, persist_state="session")


def _choose_more() -> None:
    chosen = sum(bool(st.session_state.get(key)) for key in (view.COUNT, view.SIZE))
    chosen += st.session_state.get(view.SORT, AS_IN_FILE) != AS_IN_FILE
    label = f"More ({chosen})" if chosen else "More"
    with st.popover(label, icon=":material/tune:", width="stretch", key="more-filters"):
        st.selectbox(
            "Objects in the image",
            list(COUNTS),
            None,
            key=view.COUNT,
            placeholder="Any number",
            persist_state="session",
        )
        st.selectbox(
            "Size of an object",
            list(SIZES),
            None,
            key=view.SIZE,
            placeholder="Any size",
            persist_state="session",
            help="Images that hold at least one such object, of the chosen categories if any are",
        )
        st.selectbox("Order", list(SORTS), key=view.SORT, persist_state="session")


def _finding_counts(opened: Opened, split: str) -> dict[str, int]:
    """Kind -> images concerned, of the findings that name images of a split."""
    counts: dict[str, int] = {}
    for finding in opened.findings:
        if finding.split in (split, "") and finding.image_names:
            counts[finding.kind] = counts.get(finding.kind, 0) + len(finding.image_names)
    return counts


def _tell_colors(categories: Sequence[str], colors: Mapping[str, Color]) -> None:
    """One line: the colour of each category that is drawn."""
    square = "display: inline-block; width: 0.75em; height: 0.75em; border-radius: 2px"
    told = [
        f'<span style="white-space: nowrap; margin-right: 1.25em">'
        f'<span style="{square}; background: rgb{colors[name]}"></span> {escape(html.escape(name, quote=False))}</span>'
        for name in categories[:_COLORS_TOLD]
    ]
    if len(categories) > _COLORS_TOLD:
        told.append(f"and {len(categories) - _COLORS_TOLD:,} more")
    if told:  # no caption: it would fade the colours
        st.markdown(f"<small>{' '.join(told)}</small>", unsafe_allow_html=True)


def _show_page(opened: Opened, index: SplitIndex, found: np.ndarray, wanted: Wanted) -> None:
    pages = -(-len(found) // IMAGES_PER_PAGE)
    if st.session_state.get(view.PAGE, 1) > pages:
        st.session_state[view.PAGE] = 1
    start = (st.session_state.get(view.PAGE, 1) - 1) * IMAGES_PER_PAGE
    layers = images.Layers(labels=False, categories=wanted.categories)
    with st.grid(6, min_column_width=130):
        for place, position in enumerate(found[start : start + IMAGES_PER_PAGE].tolist()):
            label, record = index.labels[position], index.record(position)
            with st.container(key=f"thumb-{place}", gap="xxsmall"):
                _show_thumbnail(opened, record, layers)
                st.button(
                    escape(label),
                    key=f"open-{place}",
                    help=f"{escape(label)}: {plural(len(record.annotations), 'object')}",
                    type="tertiary",
                    width="stretch",
                    wrap=False,
                    on_click=view.open_image,
                    args=(index.split.name, label),
                )
    if pages > 1:
        with st.container(horizontal_alignment="center"):
            st.pagination(pages, key=view.PAGE, persist_state="session")


def _show_thumbnail(opened: Opened, record: ImageRecord, layers: images.Layers) -> None:
    try:
        picture = images.thumbnail(record, opened.state, layers, opened.colors)
    except DataError:
        with st.container(height=150, border=True, horizontal_alignment="center", vertical_alignment="center"):
            st.markdown(":red[:material/broken_image:]", text_alignment="center")
    else:
        st.image(picture, width="stretch", alt=f"{record.file_name}, {plural(len(record.annotations), 'object')}")
