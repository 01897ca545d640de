"""The image grid: filters, thumbnails and pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import streamlit as st

from sam3_lora.data.dataset import ImageRecord, Split
from sam3_lora.data.findings.titles import title_of
from sam3_lora.data.splits.holdout import annotations_of
from sam3_lora.draw import Color
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.text import plural, short
from sam3_lora.ui.components import images
from sam3_lora.ui.components.colors import legend, swatch
from sam3_lora.ui.components.layout import empty_state, escape, one_page
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.page_state import IMAGES_PER_PAGE, OpenedDataset
from sam3_lora.ui.runs import all_runs, run_title
from sam3_lora.ui.split_index import AS_IN_FILE, COUNTS, SIZES, SORTS, ImageFilter, SplitIndex
from sam3_lora.ui.state import keep_valid

_MAX_SEGMENT_LETTERS = 16  # of all split names together; above that they are a list
_MAX_CAPTION = 20  # letters under a thumbnail with their folders
_MAX_LEGEND = 12  # categories in the legend; more colors are hard to tell apart


def show(opened: OpenedDataset) -> None:
    """The filters and one page of the matching images."""
    index = _choose_split_and_filters(opened)
    image_filter = current_filter(opened)
    found = index.select(image_filter)
    if image_filter.filters:
        with st.container(horizontal=True, vertical_alignment="center", height=32, border=False):
            st.caption(f"{len(found):,} of {plural(len(index), 'image')}", width="content")
            st.button("Clear filters", key="clear-filters", type="tertiary", on_click=view.clear_filters)
    if len(found):
        used = index.used_categories
        _show_legend([name for name in used if name in image_filter.categories] or used, opened.colors)
        _show_page(opened, index, found, image_filter)
    else:
        empty_state("filter_alt_off", "No image of this split matches", "Clear the filters or choose another split.")


def current_filter(opened: OpenedDataset) -> ImageFilter:
    """The filter that the widgets set, also while they are not on the screen."""
    chosen = st.session_state
    split, kind = chosen[view.SPLIT], chosen.get(view.FINDING)
    names = None
    if kind:
        matching = [finding for finding in opened.findings if finding.kind == kind and finding.split in (split, "")]
        names = frozenset(name for finding in matching for name in finding.image_names)
    if run := chosen.get(view.HELD_OUT):
        held_out = _held_out_by_run(opened.dataset.splits[split]).get(run, frozenset())
        names = held_out if names is None else names & held_out
    return ImageFilter(
        categories=tuple(chosen.get(view.CATEGORIES) or ()),
        images=names,
        text=(chosen.get(view.TEXT) or "").strip(),
        count=chosen.get(view.COUNT),
        size=chosen.get(view.SIZE),
        sort=chosen.get(view.SORT) or AS_IN_FILE,
    )


def _choose_split_and_filters(opened: OpenedDataset) -> SplitIndex:
    by_split, by_category, by_finding, by_name, more = st.columns([4, 4, 4, 3, 3], vertical_alignment="bottom")
    with by_split:
        _choose_split(opened.split_names)
    index = opened.index(st.session_state[view.SPLIT])
    kinds = _finding_counts(opened, index)
    keep_valid(view.CATEGORIES, index.categories)
    keep_valid(view.FINDING, list(kinds))
    by_category.multiselect(
        "Categories", index.categories, key=view.CATEGORIES, placeholder="All", persist_state="session"
    )
    by_finding.selectbox(
        "Finding",
        list(kinds),
        None,
        format_func=lambda kind: f"{title_of(kind)} ({kinds[kind]:,})",
        key=view.FINDING,
        placeholder="Any or none",
        persist_state="session",
        help="Only images with this finding",
    )
    by_name.text_input(
        "File name",
        key=view.TEXT,
        placeholder="Contains",
        live="300ms",
        persist_state="session",
        icon=":material/search:",
    )
    with more:
        _choose_more(list(_held_out_by_run(index.split)))
    return index


def _choose_split(names: list[str]) -> None:
    if sum(map(len, names)) <= _MAX_SEGMENT_LETTERS:
        st.segmented_control("Split", names, format_func=escape, required=True, key=view.SPLIT, persist_state="session")
    else:
        st.selectbox("Split", names, key=view.SPLIT, persist_state="session")


def _held_out_by_run(split: Split) -> dict[str, frozenset[str]]:
    """Name of a run -> file names of the images that it holds out of a split, newest run first."""
    found: dict[str, frozenset[str]] = {}
    place = (split.name, annotations_of(split))
    for run in all_runs():
        with suppress(Sam3LoraError):
            held_out = run.held_out()
            if held_out is not None and held_out.images and (held_out.split, held_out.annotations) == place:
                found[run.name] = frozenset(held_out.images)
    return found


def _choose_more(runs: list[str]) -> None:
    keep_valid(view.HELD_OUT, runs)
    chosen = sum(bool(st.session_state.get(key)) for key in (view.COUNT, view.SIZE, view.HELD_OUT))
    chosen += st.session_state.get(view.SORT, AS_IN_FILE) != AS_IN_FILE
    label = f"More ({chosen})" if chosen else "More"
    with st.popover(label, icon=":material/tune:", width="stretch", key="more-filters"):
        size_help = "Images with at least one such object, of the chosen categories if any"
        for label, options, key, placeholder, meaning in (
            ("Number of objects", COUNTS, view.COUNT, "Any number", None),
            ("Object size", SIZES, view.SIZE, "Any size", size_help),
        ):
            st.selectbox(
                label, list(options), None, key=key, placeholder=placeholder, persist_state="session", help=meaning
            )
        if runs:
            st.selectbox(
                "Held out by a run",
                runs,
                None,
                format_func=run_title,
                key=view.HELD_OUT,
                placeholder="Any image",
                persist_state="session",
                help="Images that the run does not train on: it is validated on them",
            )
        st.selectbox("Order", list(SORTS), key=view.SORT, persist_state="session")


def _finding_counts(opened: OpenedDataset, index: SplitIndex) -> Counter[str]:
    """Kind of finding -> number of images in a split that it names."""
    counts: Counter[str] = Counter()
    for finding in opened.findings:
        if finding.split in (index.split.name, ""):
            counts[finding.kind] += index.count(finding.image_names)
    return +counts


def _show_legend(categories: Sequence[str], colors: Mapping[str, Color]) -> None:
    """One line with the color of each category."""
    rest = len(categories) - _MAX_LEGEND
    shown = [(swatch(colors[name]), short(name)) for name in categories[:_MAX_LEGEND]]
    legend(shown, f"and {rest:,} more" if rest > 0 else "")


def _show_page(opened: OpenedDataset, index: SplitIndex, found: np.ndarray, image_filter: ImageFilter) -> None:
    layers = images.Layers(labels=False, categories=image_filter.categories)
    with one_page(len(found), IMAGES_PER_PAGE, view.PAGE) as part, st.grid(6, min_column_width=130):
        for place, position in enumerate(found[part].tolist()):
            label, record = index.labels[position], index.record(position)
            with st.container(key=f"thumb-{place}", gap="xxsmall"):
                _show_thumbnail(opened, record, layers)
                st.button(
                    escape(_caption(label)),
                    key=f"open-{place}",
                    help=f"{escape(label)}: {view.objects_of(record)}",
                    type="tertiary",
                    width="stretch",
                    wrap=False,
                    on_click=view.open_image,
                    args=(index.split.name, label),
                )


def _caption(label: str) -> str:
    """A long name without its folders, which would fill the line so that all images had the same."""
    name = re.split(r"[/\\]", label)[-1]
    return short(label if len(label) <= _MAX_CAPTION or name == label else f"…/{name}")


def _show_thumbnail(opened: OpenedDataset, record: ImageRecord, layers: images.Layers) -> None:
    try:
        picture = images.thumbnail(record, opened.state, layers, opened.colors)
    except DataError:
        with st.container(height=150, border=True, horizontal_alignment="center", vertical_alignment="center"):
            st.markdown(":red[:material/broken_image:]", text_alignment="center")
    else:
        st.image(picture, width="stretch", alt=f"{record.file_name}, {view.objects_of(record)}")
