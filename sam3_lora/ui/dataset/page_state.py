"""What the dataset page shows: view, split, image and filters, kept in the tab's session and in the page's address."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from sam3_lora.data.dataset import Dataset, ImageRecord
from sam3_lora.data.findings.findings import Finding, FindingCollector
from sam3_lora.draw import Color, category_colors
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.dataset.scan_job import ScanJob, ScanSnapshot
from sam3_lora.ui.split_index import SplitIndex, split_index
from sam3_lora.ui.state import keep_valid

if TYPE_CHECKING:
    from sam3_lora.data.doctor import Report

IMAGES, FINDINGS, STATISTICS, PHRASES = "Images", "Findings", "Statistics", "Phrases"
VIEWS = (IMAGES, FINDINGS, STATISTICS, PHRASES)
ANNOTATIONS, MODEL = "Annotations", "What the model sees"
IMAGES_PER_PAGE = 24
CROWDS_HELP = "Annotations with iscrowd or ignore 1, which marks a region of many objects: shown, but not learned"

# Session keys; PATH to SEE are query parameters as well.
PATH, VIEW, SPLIT, IMAGE, SEE = "path", "view", "split", "image", "see"
CATEGORIES, FINDING, TEXT = "categories", "with_finding", "name_contains"
COUNT, SIZE, SORT, PAGE = "object_count", "object_size", "sort", "dataset_page"
HELD_OUT = "held_out_by"  # name of a run
_LINK = (PATH, VIEW, SPLIT, IMAGE, SEE)
_LINK_WRITTEN, _MOVED = "dataset-link-written", "dataset-moved"
_LAG = 1.5  # seconds until the browser's address has followed


@dataclass(frozen=True)
class OpenedDataset:
    """The dataset that the page shows."""

    path: str  # as typed
    state: tuple  # fingerprint of its files
    dataset: Dataset
    scan_job: ScanJob
    scan: ScanSnapshot  # of the job, the same throughout one run of the page

    @property
    def report(self) -> Report | None:
        """The report of the scan; None before one has ended."""
        return self.scan.result

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, worst first: of the scan if it has ended, otherwise of opening the dataset."""
        return self.report.findings if self.report else self.dataset.findings

    def index(self, split: str) -> SplitIndex:
        """The index of a split, by the split's name."""
        return split_index(self.state, split, self.dataset.splits[split])

    @cached_property
    def suggestions(self) -> dict[str, str]:
        """Category -> suggested phrase, for categories whose name is a poor prompt."""
        from sam3_lora.data.doctor import phrase_lints

        return phrase_lints.check(self.dataset.categories, FindingCollector())

    @cached_property
    def split_names(self) -> list[str]:
        """Names of the splits with images."""
        return [name for name, split in self.dataset.splits.items() if len(split.images)]

    @property
    def colors(self) -> dict[str, Color]:
        """The color of each category."""
        return category_colors(self.dataset.categories)


def read_link() -> None:
    """Applies the page's address unless this page wrote it: the first one in a tab, or one that Back leads to."""
    link, written = _current_link(), st.session_state.get(_LINK_WRITTEN)
    # A rerun right after a click or a key may still have the previous address, without Back having been pressed.
    moving = time.monotonic() - st.session_state.get(_MOVED, -_LAG) < _LAG
    if moving or PATH not in link or link == written:
        return
    if link[PATH] != st.session_state.get(PATH):
        _forget()
    for key in _LINK:
        if key in link:
            st.session_state[key] = link[key]
        else:
            st.session_state.pop(key, None)


def keep_to_dataset(opened: OpenedDataset) -> None:
    """Drops choices that this dataset does not have, and sets the defaults."""
    keep_valid(VIEW, VIEWS)
    keep_valid(SPLIT, opened.split_names)
    keep_valid(SEE, (ANNOTATIONS, MODEL))
    st.session_state.setdefault(VIEW, IMAGES)
    st.session_state.setdefault(SEE, ANNOTATIONS)
    if opened.split_names:
        st.session_state.setdefault(SPLIT, opened.split_names[0])
        label = st.session_state.get(IMAGE)
        if label and label not in opened.index(st.session_state[SPLIT]).positions:
            st.session_state[IMAGE] = None


def write_link() -> None:
    """Writes the current view into the page's address, as one step of the browser's history."""
    image = st.session_state.get(IMAGE)
    defaults, omitted = {VIEW: IMAGES, SEE: ANNOTATIONS}, (VIEW,) if image else (IMAGE, SEE)
    values = {key: st.session_state.get(key) for key in _LINK if key not in omitted}
    link = {key: value for key, value in values.items() if value and value != defaults.get(key)}
    if PATH not in link:
        link = {}
    st.session_state[_LINK_WRITTEN] = link
    if _current_link() != link:
        others = {key: value for key, value in st.query_params.to_dict().items() if key not in _LINK}
        st.query_params.from_dict(others | link)


def _current_link() -> dict[str, str]:
    return {key: st.query_params[key] for key in _LINK if key in st.query_params}


def open_image(split: str, label: str) -> None:
    """A callback that opens an image. label: from :attr:`SplitIndex.labels`."""
    _show({SPLIT: split, IMAGE: label})


def open_named(opened: OpenedDataset, split: str, file_name: str) -> None:
    """A callback that opens the image that a finding names, if it could be read.

    Args:
        opened: the dataset.
        split: of the finding; "" for all splits.
        file_name: of the image.
    """
    for name in [split] if split else opened.split_names:
        label = opened.index(name).find(file_name) if name in opened.split_names else None
        if label:
            open_image(name, label)
            return
    st.toast(f"{escape(file_name)} could not be read.", icon=":material/hide_image:")


def close_image(position: int | None) -> None:
    """A callback that goes back to the grid. position: of the image among the filtered ones; None if it is not."""
    _show({IMAGE: None, VIEW: IMAGES} | ({} if position is None else {PAGE: position // IMAGES_PER_PAGE + 1}))


def images_of(opened: OpenedDataset, finding: Finding) -> int:
    """How many images the grid shows for a finding; 0 if all of them are left out of the dataset."""
    splits = [finding.split] if finding.split else opened.split_names
    return sum(opened.index(name).count(finding.image_names) for name in splits if name in opened.split_names)


def objects_of(record: ImageRecord) -> str:
    """For example "2 objects, 1 crowd region"."""
    crowds = sum(item.iscrowd for item in record.annotations)
    objects = plural(len(record.annotations) - crowds, "object")
    return f"{objects}, {plural(crowds, 'crowd region')}" if crowds else objects


def show_images_of(opened: OpenedDataset, split: str, kind: str) -> None:
    """A callback that filters the grid by a finding.

    Args:
        opened: the dataset.
        split: of the finding; "" for all splits: the first split with such an image is shown.
        kind: of the finding.
    """
    clear_filters()
    if not split:
        names = {name for item in opened.findings if item.kind == kind for name in item.image_names}
        split = next((n for n in opened.split_names if opened.index(n).count(names)), opened.split_names[0])
    _show({VIEW: IMAGES, SPLIT: split, FINDING: kind, IMAGE: None})


def show_view(view: str) -> None:
    """A callback that changes the view."""
    _show({VIEW: view, IMAGE: None})


def _show(values: dict[str, object]) -> None:
    st.session_state.update(values | {_MOVED: time.monotonic()})


def clear_filters() -> None:
    """A callback that clears the filters of the grid."""
    st.session_state.update({CATEGORIES: [], FINDING: None, TEXT: "", COUNT: None, SIZE: None, HELD_OUT: None, PAGE: 1})


def reset() -> None:
    """A callback for opening another dataset: clears every choice."""
    _forget()
    _show({})


def _forget() -> None:
    for key in (SPLIT, IMAGE, VIEW, SEE, PAGE):
        st.session_state.pop(key, None)
    clear_filters()


@st.cache_data(max_entries=8, show_spinner=False, hash_funcs={OpenedDataset: lambda one: (one.path, one.state)})
def split_table(opened: OpenedDataset) -> pd.DataFrame:
    """One row per split: images, objects, crowd regions if there are any, categories, images without objects."""
    rows = []
    any_crowds = any(split.num_crowds for split in opened.dataset.splits.values())
    for name, split in opened.dataset.splits.items():
        counts = split.objects_per_category()
        without = int((opened.index(name).num_objects == 0).sum())
        rows.append(
            {
                "Split": name,
                "Images": len(split.images),
                "Objects": sum(counts.values()),
                **({"Crowds": split.num_crowds} if any_crowds else {}),
                "Categories": sum(count > 0 for count in counts.values()),
                "Without objects": without,
            }
        )
    return pd.DataFrame(rows)
