"""What was found in a folder of images: progress, a gallery, what was passed over, and everything to take away."""

from __future__ import annotations

import streamlit as st

from sam3_lora.text import plural
from sam3_lora.ui.components.layout import empty_state, escape
from sam3_lora.ui.inference import downloads
from sam3_lora.ui.inference.folder_job import FolderJob, FolderSnapshot, watch

_PER_PAGE = 24
_PAGE, _ONLY = "folder-page", "folder-only-found"
_MAX_SKIPPED = 200  # listed


def show(job: FolderJob) -> None:
    """The folder that is asked now, or was last."""
    snapshot = job.snapshot()
    if snapshot.question is None:
        empty_state("perm_media", "No folder searched yet", "Choose a folder and phrases above, then press Prompt.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{escape(str(snapshot.question.folder))}**", width="content")
        asked = ", ".join(snapshot.question.phrases)
        st.caption(escape(f"{asked} · {snapshot.question.model} · {snapshot.question.shown}"), width="content")
    if snapshot.active:
        watch(job)
        return
    if snapshot.error:
        st.error(escape(snapshot.error), icon=":material/error:")
    _summary(snapshot)
    if snapshot.found:
        _downloads(snapshot)
        _gallery(snapshot)


def _summary(snapshot: FolderSnapshot) -> None:
    objects = sum(len(image.objects) for image in snapshot.found)
    holding = sum(bool(image.objects) for image in snapshot.found)
    told = f"{plural(objects, 'object')} in {holding:,} of {plural(len(snapshot.found), 'image')}."
    if snapshot.state == "cancelled":
        told += f" Cancelled after {snapshot.looked_at:,} of {snapshot.total:,}."
    st.markdown(told)
    if snapshot.skipped:
        label = f"{plural(len(snapshot.skipped), 'file')} passed over"
        with st.expander(label, icon=":material/broken_image:", key="folder-skipped"):
            for one in snapshot.skipped[:_MAX_SKIPPED]:
                st.caption(f"**{escape(one.name)}** {escape(one.why)}")
            if len(snapshot.skipped) > _MAX_SKIPPED:
                st.caption(f"The first {_MAX_SKIPPED} are listed.")


def _downloads(snapshot: FolderSnapshot) -> None:
    question, found = snapshot.question, snapshot.found
    downloads.buttons(
        question.folder.name or "folder",
        lambda: found,
        question.phrases,
        (
            "Pictures",
            "zip",
            "application/zip",
            lambda: downloads.pictures_zip(found, question.folder, question.colors),
        ),
    )


def _gallery(snapshot: FolderSnapshot) -> None:
    only = st.toggle("Only images with objects", key=_ONLY, persist_state="session")
    shown = [
        (image, picture)
        for image, picture in zip(snapshot.found, snapshot.pictures, strict=True)
        if image.objects or not only
    ]
    if not shown:
        st.caption("Nothing was found in any of them: lower the threshold or try other words, and press Prompt again.")
        return
    pages = -(-len(shown) // _PER_PAGE)
    if st.session_state.get(_PAGE, 1) > pages:
        st.session_state[_PAGE] = 1
    start = (st.session_state.get(_PAGE, 1) - 1) * _PER_PAGE
    with st.grid(6, min_column_width=170):
        for place, (image, picture) in enumerate(shown[start : start + _PER_PAGE]):
            count = plural(len(image.objects), "object")
            with st.container(key=f"found-{place}", gap="xxsmall"):
                st.image(picture, width="stretch", alt=f"{image.name}, {count}")
                st.caption(f"{escape(image.name)} · {count}")
    if pages > 1:
        with st.container(horizontal_alignment="center"):
            st.pagination(pages, key=_PAGE, persist_state="session")
