"""What is asked on the inference page: of which image or folder, in which words; and the link that asks the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.data.dataset import Dataset, load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import category_colors
from sam3_lora.errors import DataError
from sam3_lora.ui import adapters, resources, state
from sam3_lora.ui.components import images
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.layout import guarded
from sam3_lora.ui.dataset_view import keep_valid
from sam3_lora.ui.split_index import SplitIndex, split_index

FROM_DATASET, FROM_FILE, FROM_FOLDER = "From the dataset", "Upload", "A folder"
ENDINGS = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"]
DEFAULT_PHRASES = 8  # at most so many of the dataset's categories are proposed
_EXAMPLES = 4
_EXAMPLE_WIDTH = 60  # pixels
_LINKED_DATASET, _ASK_NOW = "dataset", "ask"  # in the page's address
_ASK = "inference-ask"  # bool: asks as if the button had been pressed


class ChosenImage(NamedTuple):
    """name: for people; pixels (H, W, 3) uint8, None while there is none: the reason is on the screen."""

    name: str
    pixels: np.ndarray | None
    linked: bool  # whether a link can lead to it


def read_link() -> None:
    """Takes the dataset of a link over, once; and whether it wants to be answered at once."""
    linked = st.query_params.get(_LINKED_DATASET)
    if linked and state.dataset_path() is None:
        st.session_state[state.DATASET_PATH] = linked
    if st.query_params.get(_ASK_NOW):
        st.session_state[_ASK] = True
    for name in (_LINKED_DATASET, _ASK_NOW):
        if name in st.query_params:
            del st.query_params[name]


def asks_by_itself() -> bool:
    """Whether an example or a link asks without the button; true once."""
    return bool(st.session_state.pop(_ASK, False))


def choose_source() -> str:
    return st.segmented_control(
        "Image",
        [FROM_DATASET, FROM_FILE, FROM_FOLDER],
        default=FROM_DATASET,
        required=True,
        key="image_source",
        bind="query-params",
        persist_state="session",
    )


def choose_image(source: str) -> ChosenImage:
    """Draws the choice of one image, from the dataset or uploaded, with examples at hand."""
    chosen = ChosenImage("", None, False)
    with guarded():
        if source == FROM_FILE:
            return _uploaded()
        path = resources.current_dataset()
        dataset = resources.open_dataset(path)
        indexes = {name: _index(path, name, dataset) for name, split in dataset.splits.items() if len(split.images)}
        options = [f"{name}/{label}" for name, index in indexes.items() for label in index.labels]
        if not options:
            raise DataError(
                f"Expected images in the dataset {path}, but it has none", "Open another on the dataset page"
            )
        if state.CURRENT_IMAGE in st.session_state:
            st.session_state["on_image"] = st.session_state.pop(state.CURRENT_IMAGE)
        keep_valid("on_image", options)
        name = st.selectbox(
            "Image of the dataset", options, key="on_image", bind="query-params", label_visibility="collapsed"
        )
        _examples(path, dataset, indexes)
        split, _, label = name.partition("/")
        chosen = ChosenImage(name, load_image(_record(indexes[split], label)), True)
    return chosen


def _index(path: str, name: str, dataset: Dataset) -> SplitIndex:
    return split_index(path, resources.fingerprint(path), name, dataset.splits[name])


def _record(index: SplitIndex, label: str) -> ImageRecord:
    return index.record(index.positions[label])


def _uploaded() -> ChosenImage:
    file = st.file_uploader("Image file", ENDINGS, key="image-file", label_visibility="collapsed")
    if file is None:
        return ChosenImage("", None, False)
    return ChosenImage(file.name, images.decode(file.getvalue(), file.name), False)


def _examples(path: str, dataset: Dataset, indexes: dict[str, SplitIndex]) -> None:
    """A few images of the last split, usually one that was not learned from; a click asks of it at once."""
    split = "valid" if "valid" in indexes else list(indexes)[-1]
    index = indexes[split]
    holding = np.flatnonzero(index.num_objects > 0)
    if not len(holding):
        return
    chosen = holding[np.unique(np.linspace(0, len(holding) - 1, _EXAMPLES).astype(int))]
    bare = images.Layers(masks=False, boxes=False, labels=False)
    colors = category_colors(dataset.categories)
    with st.container(key="examples", horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Try an example:", width=110)
        for place, position in enumerate(chosen.tolist()):
            record, label = index.record(position), index.labels[position]
            with st.container(key=f"thumb-example-{place}", gap=None, width=_EXAMPLE_WIDTH):
                try:
                    picture = images.thumbnail(record, resources.fingerprint(path), bare, colors)
                except DataError:
                    continue  # the dataset page tells which images cannot be read
                st.image(picture, width="stretch", alt=f"Example {place + 1}")
                st.button(
                    f"No. {place + 1}",
                    key=f"open-example-{place}",
                    type="tertiary",
                    on_click=_ask_of,
                    args=(f"{split}/{label}",),
                )


def _ask_of(name: str) -> None:
    st.session_state["on_image"] = name
    st.session_state[_ASK] = True


def choose_folder() -> Path | None:
    """Draws the field for a folder's path; the folder of the dataset's images is proposed. None: it is empty."""
    typed = st.text_input(
        "Folder of images",
        _proposed_folder(),
        key="image_folder",
        bind="query-params",
        persist_state="session",
        placeholder="/data/photos",
        help="On the machine that this app runs on; folders below it are looked into, too.",
    )
    path = (typed or "").strip()
    return Path(os.path.expanduser(path)) if path else None


def _proposed_folder() -> str:
    """The images of the last split of the dataset that is open, as something to try."""
    with guarded():
        path = resources.current_dataset()
        splits = list(resources.open_dataset(path).splits.values())
        root = ASSETS / "demo" / "dataset" if path == DEMO else Path(os.path.expanduser(path))
        if splits and (root / splits[-1].name).is_dir():
            return str(root / splits[-1].name)
        return str(root)
    return ""


def choose_phrases(adapter: adapters.Adapter | None) -> str:
    """The phrases as typed; the words of the dataset's categories are proposed, anew for each dataset."""
    path = resources.current_dataset()
    before = st.session_state.get("phrases_of")
    with guarded():
        names = resources.open_dataset(path).categories[:DEFAULT_PHRASES]
        own = adapters.phrases_for(adapter, path)
        proposed = ", ".join(dict.fromkeys(phrase_of(name, own) for name in names))
        untouched = st.session_state.get("phrases") == st.session_state.get("phrases_proposed")
        # A link's phrases stand on the first visit, typed ones until another dataset is opened.
        if untouched if before == path else before or "phrases" not in st.query_params:
            st.session_state["phrases"] = proposed
        st.session_state["phrases_proposed"] = proposed
    st.session_state["phrases_of"] = path
    return st.text_input(
        "Phrases",
        key="phrases",
        bind="query-params",
        placeholder="pothole, crack",
        help="Separated by commas",
    )


def phrase_colors() -> PhraseColors:
    """As the open dataset's categories are coloured on its page; without a dataset each phrase has its own."""
    from sam3_lora.ui.next_run import phrases_of_dataset

    path = resources.current_dataset()
    try:
        categories = resources.open_dataset(path).categories
    except DataError:
        return PhraseColors((), {})
    return PhraseColors(categories, phrases_of_dataset(path))


def link_to(image_name: str, phrases: str, adapter: str) -> str:
    """The address that opens this page with the same adapter, image and phrases, and asks."""
    query = {
        "adapter": adapter,
        "on_image": image_name,
        "phrases": phrases,
        _LINKED_DATASET: resources.current_dataset(),
        _ASK_NOW: "1",
    }
    address = (st.context.url or "").partition("?")[0].rstrip("/")
    return f"{address}?{urlencode(query)}"
