"""The choice of what is prompted: an image of the dataset, an uploaded one, or a folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from sam3_lora.data.dataset import Dataset, load_image
from sam3_lora.data.folders import dataset_folder
from sam3_lora.draw import category_colors
from sam3_lora.errors import DataError
from sam3_lora.files import user_path
from sam3_lora.ui import resources, state
from sam3_lora.ui.components import images
from sam3_lora.ui.components.layout import choose_one, escape, guarded
from sam3_lora.ui.split_index import SplitIndex, split_index
from sam3_lora.ui.state import keep_valid

FROM_DATASET, FROM_FILE, FROM_FOLDER = "From the dataset", "Upload", "A folder"
IMAGE = "on_image"  # key of the choice of an image, and its name in the page's address
_KIND, _FILE = "image_source", "image-file"  # keys
_UPLOADED = "inference-uploaded"  # the file that was uploaded last, until it is removed
_MAX_MB = 200  # of an uploaded image
_EXAMPLES = 4
_SOLVED = tuple(f"pavement_valid_{number:03}.jpg" for number in (9, 6, 1, 21))  # of the demo
_EXAMPLE_WIDTH = 60  # pixels


@dataclass(frozen=True)
class Source:
    """What is prompted: one image, or a folder of images."""

    name: str = ""  # of the image, for people
    pixels: np.ndarray | None = None  # (H, W, 3) uint8; None while there is no image: the reason is on the screen
    in_dataset: bool = False  # whether a link can lead to the image
    is_folder: bool = False
    folder: Path | None = None  # None while its field is empty


def choose() -> Source:
    """Draws the choice."""
    kinds = (FROM_DATASET, FROM_FILE, FROM_FOLDER)
    kind = choose_one("Image", kinds, _KIND, bind="query-params", persist_state="session")
    if kind == FROM_FOLDER:
        return Source(is_folder=True, folder=_choose_folder())
    source = Source()
    with guarded():
        source = _upload() if kind == FROM_FILE else _choose_from_dataset()
    return source


def _upload() -> Source:
    st.file_uploader(
        "Image file",
        key=_FILE,
        label_visibility="collapsed",
        max_upload_size=_MAX_MB,
        on_change=_keep_upload,
    )
    file = st.session_state.get(_UPLOADED)
    if file is None:
        return Source()
    if st.session_state.get(_FILE) is None:  # another page was opened since
        st.caption(f":material/image: {escape(file.name)}")
    return Source(file.name, images.decode(file.getvalue(), file.name))


def _keep_upload() -> None:
    """A callback: keeps the file while other pages are looked at, and prompts it at once, as an example is."""
    st.session_state[_UPLOADED] = file = st.session_state[_FILE]
    st.session_state[state.RUN_NOW] = file is not None


def choose_one_that_is_there() -> None:
    """Makes :func:`choose` take an image of the dataset where no image is chosen, or a folder is."""
    kind = st.session_state.get(_KIND)
    if kind == FROM_FOLDER or (kind == FROM_FILE and st.session_state.get(_UPLOADED) is None):
        st.session_state[_KIND] = FROM_DATASET


def _choose_from_dataset() -> Source:
    path = resources.current_dataset()
    dataset, fingerprint = resources.open_dataset(path), resources.fingerprint(path)
    indexes = {
        name: split_index(fingerprint, name, split) for name, split in dataset.splits.items() if len(split.images)
    }
    options = {f"{name}/{label}": (index, label) for name, index in indexes.items() for label in index.labels}
    if not options:
        raise DataError(f"Expected images in the dataset {path}, but it has none", "Open another on the dataset page")
    if state.CURRENT_IMAGE in st.session_state:
        st.session_state[IMAGE] = st.session_state.pop(state.CURRENT_IMAGE)
    keep_valid(IMAGE, list(options))
    split = "valid" if "valid" in indexes else list(indexes)[-1]
    if IMAGE not in st.session_state and IMAGE not in st.query_params:
        st.session_state[IMAGE] = _first_with_objects(split, indexes[split])
    name = st.selectbox(
        "Image of the dataset", list(options), key=IMAGE, bind="query-params", label_visibility="collapsed"
    )
    _show_examples(split, indexes[split], fingerprint, dataset)
    index, label = options[name]
    return Source(name, load_image(index.record(index.positions[label])), in_dataset=True)


def _first_with_objects(split: str, index: SplitIndex) -> str:
    """The name of the first image with objects; of the first one if none has any."""
    return f"{split}/{index.labels[_examples(index)[0] if (index.num_objects > 0).any() else 0]}"


def _examples(index: SplitIndex) -> list[int]:
    """The places of a few images with objects; of the demo those that its adapter solves."""
    labels = list(index.labels)
    if solved := [labels.index(name) for name in _SOLVED if name in labels]:
        return solved
    positions = np.flatnonzero(index.num_objects > 0)
    return positions[np.unique(np.linspace(0, len(positions) - 1, _EXAMPLES).astype(int))].tolist()


def _show_examples(split: str, index: SplitIndex, fingerprint: tuple, dataset: Dataset) -> None:
    """A few images with objects, usually of a split that was not trained on; a click prompts one at once."""
    if not (index.num_objects > 0).any():
        return
    bare = images.Layers(masks=False, boxes=False, labels=False)
    colors = category_colors(dataset.categories)
    with st.container(key="examples", horizontal=True, gap="small"):
        for place, position in enumerate(_examples(index)):
            with st.container(key=f"thumb-example-{place}", gap=None, width=_EXAMPLE_WIDTH):
                try:
                    thumbnail = images.thumbnail(index.record(position), fingerprint, bare, colors)
                except DataError:
                    continue  # the dataset page names the images that cannot be read
                st.image(thumbnail, width="stretch", alt="")
                st.button(
                    f"Example {place + 1}",
                    key=f"open-example-{place}",
                    type="tertiary",
                    on_click=_prompt_example,
                    args=(f"{split}/{index.labels[position]}",),
                )


def _prompt_example(name: str) -> None:
    st.session_state[IMAGE] = name
    st.session_state[state.RUN_NOW] = True


def _choose_folder() -> Path | None:
    """Draws the field for a folder's path, which proposes the dataset's images; None while it is empty."""
    typed = st.text_input(
        "Folder of images",
        _proposed_folder(),
        key="image_folder",
        bind="query-params",
        persist_state="session",
        placeholder="/data/photos",
        help="On the machine that runs this app. Subfolders are included.",
    )
    path = (typed or "").strip()
    return user_path(path) if path else None


def _proposed_folder() -> str:
    """The images of the last split of the open dataset, as something to try."""
    with guarded():
        path = resources.current_dataset()
        splits = list(resources.open_dataset(path).splits)
        root = dataset_folder(path)
        in_split = root / splits[-1] if splits else root
        return str(in_split if in_split.is_dir() else root)
    return ""
