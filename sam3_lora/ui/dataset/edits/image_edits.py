"""Edits of the image that is shown large: exclude it, exclude one of its objects, move it to another split."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from sam3_lora.data.edits import kinds
from sam3_lora.data.edits.kinds import AnyEdit
from sam3_lora.data.edits.messages import describe_edit
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.ui.components.layout import action_button, escape, kept_error, show_kept_error
from sam3_lora.ui.dataset import page_state as view
from sam3_lora.ui.dataset.edits import edit_list
from sam3_lora.ui.dataset.page_state import OpenedDataset

_PROBLEM = "image-edit-problem"  # Sam3LoraError: why the last edit could not be made


def show(opened: OpenedDataset, record: ImageRecord, chosen: Annotation | None, leave: Callable[[], None]) -> None:
    """Draws the buttons.

    Args:
        opened: the dataset.
        record: of the image that is shown.
        chosen: its object that is selected.
        leave: opens the image after this one, in the list of images as it is before the edit.
    """
    split = st.session_state[view.SPLIT]

    def make(edit: AnyEdit) -> None:
        with kept_error(_PROBLEM):
            if not isinstance(edit, kinds.ObjectEdit):
                leave()
            edit_list.add(opened.path, [edit])
            st.toast(f"{escape(describe_edit(edit))}. To undo it, open Findings.", icon=":material/edit_note:")

    with st.container(gap="xxsmall", key="image-edits"):
        exclude = kinds.ExcludeImages(split, (record.file_name,))
        meaning = "Leaves the image out. The dataset's files stay as they are; undo it under Findings."
        _button("Exclude image", "hide_image", make, exclude, meaning=meaning, shortcut="Delete")
        without = kinds.ExcludeObjects(split, {record.file_name: () if chosen is None else (chosen.id,)})
        name = "object" if chosen is None else escape(chosen.category)
        reason = "Click an object, or select its row in the table below." if chosen is None else None
        _button(f"Exclude {name}", "hide_source", make, without, reason, "Leaves the selected object out.")
        _choose_label(opened, record, chosen, make)
        for to in [one for one in opened.dataset.splits if one != split][:3]:
            move = kinds.MoveImages(split, (record.file_name,), to)
            _button(f"Move to {escape(to)}", "drive_file_move", make, move, meaning="Moves the image to that split.")
    show_kept_error(_PROBLEM)


def _choose_label(
    opened: OpenedDataset, record: ImageRecord, chosen: Annotation | None, make: Callable[[AnyEdit], None]
) -> None:
    """Draws the choice of another category for the selected object."""
    if chosen is None:
        return
    key = f"relabel-{record.id}-{chosen.id}"

    def relabel() -> None:
        if category := (st.session_state[key] or "").strip():
            split = st.session_state[view.SPLIT]
            make(kinds.RelabelObjects(split, {record.file_name: (chosen.id,)}, category))

    st.selectbox(
        "Relabel the object",
        [name for name in opened.dataset.categories if name != chosen.category],
        index=None,
        placeholder=f"Relabel {chosen.category} as",
        key=key,
        label_visibility="collapsed",
        accept_new_options=True,
        on_change=relabel,
    )


def _button(
    label: str,
    icon: str,
    make: Callable[[AnyEdit], None],
    edit: AnyEdit,
    reason: str | None = None,
    meaning: str | None = None,
    shortcut: str | None = None,
) -> None:
    key = f"edit-{icon}-{edit.to}" if isinstance(edit, kinds.MoveImages) else f"edit-{icon}"
    others = {"type": "tertiary", "on_click": make, "args": (edit,), "shortcut": shortcut}
    action_button(label, icon, key, reason, meaning, **others)
