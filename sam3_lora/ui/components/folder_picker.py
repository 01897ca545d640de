"""A dialog in which a folder of this machine is chosen, by typing or by going from folder to folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from sam3_lora.data.browse import browse
from sam3_lora.errors import DataError
from sam3_lora.files import user_path
from sam3_lora.ui.components.layout import escape, guarded, show_error

_PATH, _CONTAINING = "picker-path", "picker-containing"


def open_picker(start: str) -> None:
    """A callback that makes the dialog begin at a folder; at the home folder if that is not there."""
    at = user_path(start)
    st.session_state[_PATH] = str(at.absolute() if start and at.is_dir() else Path.home())
    st.session_state[_CONTAINING] = ""


@st.dialog("Choose a folder", width="medium", icon=":material/folder_open:")
def pick_folder(places: Sequence[Path], on_choose: Callable[[str], None]) -> None:
    """Draws the dialog; call :func:`open_picker` before.

    Args:
        places: folders to go to with one click.
        on_choose: a callback that is given the path of the folder that was chosen.
    """
    with guarded():
        _show_places(places)
        typed = st.text_input("Folder", key=_PATH, on_change=_clear, help="On the machine that runs this app")
        folder = user_path(typed.strip() or Path.home()).absolute()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.button("Up", key="picker-up", icon=":material/arrow_upward:", on_click=_go, args=(folder.parent,))
            st.text_input("Name contains", key=_CONTAINING, placeholder="Name contains", label_visibility="collapsed")
            is_there = folder.is_dir()
            if st.button(
                "Open this folder",
                key="picker-choose",
                type="primary",
                disabled=not is_there,
                on_click=on_choose,
                args=(str(folder),),
            ):
                st.rerun()
        _show_subfolders(folder)


def _show_places(places: Sequence[Path]) -> None:
    with st.container(horizontal=True, gap="small", key="picker-places"):
        for number, place in enumerate(places):
            label = "Home" if place == Path.home() else place.name or str(place)
            st.button(escape(label), key=f"picker-place-{number}", help=escape(str(place)), on_click=_go, args=(place,))


def _show_subfolders(folder: Path) -> None:
    try:
        found = browse(folder, st.session_state.get(_CONTAINING, ""))
    except DataError as error:
        show_error(error)
        return
    with st.container(height=320, key="picker-folders", gap=None):
        for number, each in enumerate(found.subfolders):
            mark = " :green-badge[looks like a dataset]" if each.looks_like_dataset else ""
            label = f"{escape(each.path.name)}{mark}"
            icon = ":material/folder:"
            st.button(label, key=f"picker-{number}", type="tertiary", icon=icon, on_click=_go, args=(each.path,))
        if not found.subfolders:
            st.caption("No folders in it, hidden ones aside.")
    if found.found > len(found.subfolders) or not found.complete:
        many = f"{found.found:,}" if found.complete else f"more than {found.found:,}"
        st.caption(f"The first {len(found.subfolders)} of {many} folders. Type a part of the name to see others.")


def _go(folder: Path) -> None:
    st.session_state[_PATH] = str(folder)
    _clear()


def _clear() -> None:
    st.session_state[_CONTAINING] = ""
