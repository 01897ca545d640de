"""The labelling sessions of this app: which are there, which one a tab has open, and the form of a new one."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.folders import dataset_folder
from sam3_lora.data.phrase_list import join_phrases, split_phrases
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.files import user_path
from sam3_lora.label.decisions import LabelObject
from sam3_lora.label.session import Session, SessionSettings, list_sessions, read_settings
from sam3_lora.masks import decode_segmentation, encode_rle
from sam3_lora.text import first_names, plural
from sam3_lora.ui import resources
from sam3_lora.ui.components.folder_picker import open_picker, pick_folder
from sam3_lora.ui.components.layout import action_button, choose_one, escape, kept_error, show_kept_error
from sam3_lora.ui.preferences import config_folder, places

OPEN = "session"  # query parameter: the name of the open session
_OPENED = "label-open-session"  # str: its name, which the address forgets on other pages
_PROBLEM = "label-start-problem"
_FOLDER, _PHRASES, _KIND, _SPLIT = "label-folder", "label-phrases", "label-kind", "label-split"
FROM_FOLDER, FROM_DATASET = "A folder of images", "Review a dataset's labels"
_LISTED = 6


def root() -> Path:
    """The folder of all sessions."""
    return config_folder() / "label"


@st.cache_resource(show_spinner=False, max_entries=8, on_release=lambda session: session.close())
def _opened(name: str) -> Session:
    folder = root() / name
    settings = read_settings(folder)
    return Session(folder, list(records_of(settings)) if settings.dataset else None)


def current() -> Session | None:
    """The session that this tab has open, also after other pages. Raises DataError if it cannot be opened."""
    name = st.query_params.get(OPEN) or st.session_state.pop(_OPENED, "")
    if not name:
        return None
    if Path(name).name != name or name.startswith("."):
        raise DataError("Expected the name of a session in the address", "Choose one on the Label page")
    session = _opened(name)
    st.session_state[_OPENED] = st.query_params[OPEN] = name
    return session


def open_session(name: str) -> None:
    """A callback that opens a session."""
    st.query_params[OPEN] = name


def close_session() -> None:
    """A callback that goes back to the list; the session stays open for other tabs."""
    st.query_params.pop(OPEN, None)
    st.session_state.pop(_OPENED, None)


def records_of(settings: SessionSettings) -> dict[str, ImageRecord]:
    """The images of the dataset whose labels are reviewed, by their names in the session; {} without a dataset."""
    if not settings.dataset:
        return {}
    return _records(settings.dataset, settings.split, settings.images, resources.fingerprint(settings.dataset))


@st.cache_resource(max_entries=2, show_spinner=False)
def _records(dataset: str, split_name: str, images: str, stamp: tuple) -> dict[str, ImageRecord]:
    split = resources.open_dataset(dataset).split(split_name)
    base = Path(os.path.abspath(images))
    return {
        Path(os.path.relpath(os.path.abspath(record.path), base)).as_posix(): record
        for record in split.images
        if not record.missing
    }


def annotated(record: ImageRecord | None) -> tuple[LabelObject, ...] | None:
    """The annotations of an image as objects; None without a dataset."""
    if record is None:
        return None
    found = []
    for one in record.annotations:
        x, y, w, h = one.bbox_xywh
        rle = None
        if one.has_segmentation:
            with suppress(DataError):  # a finding of the Dataset page says so
                rle = encode_rle(decode_segmentation(one.segmentation, (record.height, record.width)))
        box = (round(x, 2), round(y, 2), round(x + w, 2), round(y + h, 2))
        found.append(LabelObject(phrase_of(one.category), box, rle, source="annotation", iscrowd=one.iscrowd))
    return tuple(found)


def said_before(settings: SessionSettings, record: ImageRecord | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The phrases beside the session's of which a dataset says that they are absent from an image, or annotated in
    part; none without a dataset."""
    if record is None:
        return (), ()
    categories = resources.open_dataset(settings.dataset).categories
    there = {one.category for one in record.annotations} | record.unusable_categories
    listed = record.absent_categories
    absent = [one for one in categories if one not in there] if listed is None else list(listed)
    others = (phrase_of(one) for one in absent if one not in record.incomplete_categories)
    partly = {phrase_of(one) for one in (*record.incomplete_categories, *record.unusable_categories)}
    return tuple(one for one in dict.fromkeys(others) if one not in settings.phrases), tuple(sorted(partly))


def show_start() -> None:
    """Draws the sessions that are there, and the form of a new one."""
    known = list_sessions(root())
    form, earlier = st.columns([3, 2], gap="large")
    with form, st.container(border=True):
        _show_form()
    with earlier:
        st.markdown("**Sessions**")
        if not known:
            st.caption("None yet. A session keeps every decision on disk: stop whenever you like.")
        for folder, settings, decided in known[:_LISTED]:
            title = Path(settings.images).name or settings.images
            with st.container(gap="xxsmall", key=f"session-{folder.name}"):
                st.button(
                    escape(title),
                    key=f"open-{folder.name}",
                    type="tertiary",
                    icon=":material/label:",
                    on_click=open_session,
                    args=(folder.name,),
                )
                st.caption(f"{plural(decided, 'image')} labelled: {escape(first_names(settings.phrases))}")
    show_kept_error(_PROBLEM)


def _show_form() -> None:
    path = resources.current_dataset()
    kind = choose_one("What to label", (FROM_FOLDER, FROM_DATASET), _KIND, label_visibility="collapsed")
    dataset = resources.open_dataset(path)
    if kind == FROM_FOLDER:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input("Folder of images", key=_FOLDER, placeholder="A folder on this machine, with its subfolders")
            near = (st.session_state.get(_FOLDER) or "",)
            if st.button("Browse", key="label-browse", icon=":material/folder_open:", on_click=open_picker, args=near):
                pick_folder(places(), _choose_folder)
    else:
        st.caption(f"Dataset: {escape(resources.dataset_title(path))}. Where adapter and labels disagree comes first.")
        names = [name for name, split in dataset.splits.items() if len(split.images)]
        st.selectbox("Split", names, key=_SPLIT)
    if not st.session_state.get(_PHRASES):
        st.session_state[_PHRASES] = join_phrases(dict.fromkeys(phrase_of(one) for one in dataset.categories))
    st.text_input("Phrases", key=_PHRASES, help="What to find, separated by commas", placeholder="pothole, crack")
    with st.container(horizontal=True):
        missing = kind == FROM_FOLDER and not (st.session_state.get(_FOLDER) or "").strip()
        reason = "Choose a folder first" if missing else None
        others: dict[str, Any] = {"type": "primary", "on_click": _start, "args": (kind, path)}
        action_button("Start labelling", "label", "label-start", reason, **others)
        if path == DEMO:
            st.button("Try it on the demo", key="label-demo", on_click=_start_demo, icon=":material/play_arrow:")


def _choose_folder(path: str) -> None:
    st.session_state[_FOLDER] = path


def _start_demo() -> None:
    with kept_error(_PROBLEM):
        _create(SessionSettings(str(dataset_folder(DEMO) / "train"), _typed_phrases()))


def _start(kind: str, path: str) -> None:
    with kept_error(_PROBLEM):
        if kind == FROM_FOLDER:
            _create(SessionSettings(str(user_path(st.session_state[_FOLDER].strip()).absolute()), _typed_phrases()))
            return
        split = st.session_state[_SPLIT]
        found = [record for record in resources.open_dataset(path).split(split).images if not record.missing]
        if not found:
            raise DataError(f"The split '{split}' has no image", "Choose another one")
        folder = os.path.commonpath([os.path.dirname(os.path.abspath(record.path)) for record in found])
        _create(SessionSettings(folder, _typed_phrases(), path, split))


def _typed_phrases() -> tuple[str, ...]:
    phrases = tuple(split_phrases(st.session_state.get(_PHRASES) or "", ()))
    if not phrases:
        raise Sam3LoraError("Expected at least one phrase", 'Name what to find, such as "pothole"')
    return phrases


def _create(settings: SessionSettings) -> None:
    dated = SessionSettings(settings.images, settings.phrases, settings.dataset, settings.split, time.time())
    names = list(records_of(dated)) if dated.dataset else None
    session = Session.create(root(), dated, names)
    session.close()  # opened by its name, for all tabs
    open_session(session.folder.name)
