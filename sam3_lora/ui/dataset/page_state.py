"""What the dataset page shows at the moment: which view, split and image, kept in the tab and in the page's address."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.data.findings.findings import Finding, FindingCollector
from sam3_lora.draw import Color, category_colors
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.split_index import SplitIndex, split_index
from sam3_lora.ui.state import keep_valid

IMAGES, FINDINGS, STATISTICS, PHRASES = "Images", "Findings", "Statistics", "Phrases"
VIEWS = (IMAGES, FINDINGS, STATISTICS, PHRASES)
ANNOTATIONS, MODEL = "Annotations", "What the model sees"
IMAGES_PER_PAGE = 24

# Keys of the tab's session; PATH to SEE are the names in the page's address.
PATH, VIEW, SPLIT, IMAGE, SEE = "path", "view", "split", "image", "see"
CATEGORIES, FINDING, TEXT, COUNT, SIZE, SORT, PAGE = (
    "categories",
    "with_finding",
    "name_contains",
    "object_count",
    "object_size",
    "sort",
    "dataset_page",
)
_LINK = (PATH, VIEW, SPLIT, IMAGE, SEE)
_LINK_WRITTEN, _MOVED = "dataset-link-written", "dataset-moved"
_LAG = 1.5  # seconds within which the browser's address has followed


@dataclass(frozen=True)
class Opened:
    """The dataset that the page shows. path: as typed; state: its fingerprint; findings: all, worst first."""

    path: str
    state: tuple
    dataset: Dataset
    findings: tuple[Finding, ...]

    def index(self, split: str) -> SplitIndex:
        return split_index(self.path, self.state, split, self.dataset.splits[split])

    @cached_property
    def suggestions(self) -> dict[str, str]:
        """Category -> a phrase that SAM 3 understands better, where its name is no good one."""
        from sam3_lora.data.doctor import phrase_lints

        return phrase_lints.check(self.dataset.categories, FindingCollector())

    @cached_property
    def split_names(self) -> list[str]:
        """The splits that have an image to show."""
        return [name for name, split in self.dataset.splits.items() if len(split.images)]

    @property
    def colors(self) -> dict[str, Color]:
        return category_colors(self.dataset.categories)


def read_link() -> None:
    """Takes over what the page's address asks for, if it is another than this page wrote: the tab's first one, or one
    that the browser's Back leads to."""
    asked, written = _asked(), st.session_state.get(_LINK_WRITTEN)
    # What comes right after a click or a key may still have the address before it: that is no wish to go back.
    moving = time.monotonic() - st.session_state.get(_MOVED, -_LAG) < _LAG
    if moving or PATH not in asked or asked == written:
        return
    if asked[PATH] != st.session_state.get(PATH):
        _forget()
    for key in _LINK:
        if key in asked:
            st.session_state[key] = asked[key]
        else:
            st.session_state.pop(key, None)


def keep_to_dataset(opened: Opened) -> None:
    """Puts right what was asked for and is not there, and chooses where nothing was."""
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
    """Writes into the page's address what leads back to this very view, as one step of the browser's history."""
    large = st.session_state.get(IMAGE)
    usual, left_out = {VIEW: IMAGES, SEE: ANNOTATIONS}, (VIEW,) if large else (IMAGE, SEE)
    values = {key: st.session_state.get(key) for key in _LINK if key not in left_out}
    link = {key: value for key, value in values.items() if value and value != usual.get(key)}
    if PATH not in link:
        link = {}
    st.session_state[_LINK_WRITTEN] = link
    if _asked() != link:
        others = {key: value for key, value in st.query_params.to_dict().items() if key not in _LINK}
        st.query_params.from_dict(others | link)


def _asked() -> dict[str, str]:
    return {key: st.query_params[key] for key in _LINK if key in st.query_params}


def open_image(split: str, label: str) -> None:
    """A callback that shows one image large; label as in :attr:`SplitIndex.labels`."""
    _go({SPLIT: split, IMAGE: label})


def open_named(opened: Opened, split: str, file_name: str) -> None:
    """A callback that shows the image that a finding names, if it is among those that could be read."""
    for name in [split] if split else opened.split_names:
        label = opened.index(name).find(file_name) if name in opened.split_names else None
        if label:
            open_image(name, label)
            return
    st.toast(f"{escape(file_name)} is not among the images that could be read.", icon=":material/hide_image:")


def close_image(position: int | None) -> None:
    """A callback that goes back to the grid, to the page that holds the image at this place of it."""
    _go({IMAGE: None, VIEW: IMAGES} | ({} if position is None else {PAGE: position // IMAGES_PER_PAGE + 1}))


def show_images_of(opened: Opened, split: str, kind: str) -> None:
    """A callback that filters the grid by a finding; one of the whole dataset begins with the first split it is in."""
    clear_filters()
    if not split:
        names = {name for item in opened.findings if item.kind == kind for name in item.image_names}
        holding = (n for n in opened.split_names if any(opened.index(n).find(name) for name in names))
        split = next(holding, opened.split_names[0])
    _go({VIEW: IMAGES, SPLIT: split, FINDING: kind, IMAGE: None})


def show_view(view: str) -> None:
    """A callback that changes to another view."""
    _go({VIEW: view, IMAGE: None})


def _go(values: dict[str, object]) -> None:
    st.session_state.update(values | {_MOVED: time.monotonic()})


def clear_filters() -> None:
    """A callback that shows all images of the split again."""
    st.session_state.update({CATEGORIES: [], FINDING: None, TEXT: "", COUNT: None, SIZE: None, PAGE: 1})


def reset() -> None:
    """A callback for when another dataset is opened: nothing of the last one stays chosen."""
    _forget()
    _go({})


def _forget() -> None:
    for key in (SPLIT, IMAGE, VIEW, SEE, PAGE):
        st.session_state.pop(key, None)
    clear_filters()


@st.cache_data(max_entries=8, show_spinner=False)
def split_table(path: str, state: tuple, _opened: Opened) -> pd.DataFrame:
    """One row per split: images, objects, categories with objects, images without objects."""
    rows = []
    for name, split in _opened.dataset.splits.items():
        counts = split.objects_per_category()
        without = int((_opened.index(name).num_objects == 0).sum())
        rows.append(
            {
                "Split": name,
                "Images": len(split.images),
                "Objects": sum(counts.values()),
                "Categories": sum(count > 0 for count in counts.values()),
                "Without objects": without,
            }
        )
    return pd.DataFrame(rows)
