"""The edits of the open dataset: read, changed, undone. They are kept beside the app's data, never in the dataset."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.data.edits.file import read_edits, write_edits
from sam3_lora.data.edits.kinds import AnyEdit, EditList
from sam3_lora.ui import state
from sam3_lora.ui.next_run import read_dataset_as
from sam3_lora.ui.preferences import edits_file, kept_edits

_PREVIEWS = 8  # datasets opened with edits that were not made


def current(path: str) -> EditList:
    """The edits that a dataset is opened with. Raises DataError if their file cannot be read."""
    file = state.dataset_settings(path).edits
    return read_edits(file) if file else EditList()


def add(path: str, edits: Iterable[AnyEdit]) -> None:
    """Makes edits: the dataset is opened with them from now on, and trained on.

    Earlier ones that are not in use are taken up again: they share the file, and none is lost.
    """
    before = current(path)
    if not before and (earlier := kept_edits(path)):
        before = read_edits(earlier)
    replace(path, before.plus(edits))


def undo(path: str, place: int) -> None:
    """Takes an edit back. place: in the list, from 0; -1 is the last one."""
    replace(path, current(path).without(place))


def replace(path: str, edits: EditList) -> None:
    """Opens a dataset with other edits from now on. Raises DataError if they cannot be written."""
    file = edits_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_edits(file, edits)
    use(path, str(file) if edits else "")


def use(path: str, file: str) -> None:
    """Opens a dataset with the edits of a file from now on; "" for none."""
    read_dataset_as(state.dataset_settings(path).model_copy(update={"path": path, "edits": file}))


def opened_with(path: str, version: tuple, edits: EditList) -> Dataset:
    """The dataset as it would be with other edits, which are not made.

    Args:
        path: of the dataset.
        version: the fingerprint of its files.
        edits: to open it with.
    """
    return _preview(path, version, edits.digest, edits)


@st.cache_resource(max_entries=_PREVIEWS, show_spinner=False)
def _preview(path: str, version: tuple, digest: str, _edits: EditList) -> Dataset:
    from sam3_lora.data.dataset import open_dataset

    return open_dataset(**{**state.reading(path), "edits": _edits})
