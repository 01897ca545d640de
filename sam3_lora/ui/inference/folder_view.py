"""A folder of images: starts the prompt, and shows progress, a gallery, skipped files and downloads."""

from __future__ import annotations

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.text import first_names, plural
from sam3_lora.ui import resources
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import empty_state, escape, guarded, one_page
from sam3_lora.ui.components.tiles_choice import tiles_in_words
from sam3_lora.ui.inference import downloads
from sam3_lora.ui.inference.folder_job import FolderRequest, FolderResult, folder_job, start_folder
from sam3_lora.ui.inference.prompt_form import PromptForm
from sam3_lora.ui.inference.view_state import ViewState

_PER_PAGE = 24
_PAGE, _ONLY = "folder-page", "folder-only-found"
_MAX_SKIPPED = 200  # listed


def show(form: PromptForm, view: ViewState) -> None:
    """Starts the form's prompt on the folder if it was submitted, and shows the last folder."""
    job = folder_job()
    if form.submitted:
        with guarded():
            _start(form, view)
    snapshot = job.snapshot()
    request, result = snapshot.request, snapshot.result
    if request is None:
        empty_state("perm_media", "No folder processed yet", "Choose a folder and phrases above, then press Prompt.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{escape(str(request.folder))}**", width="content")
        phrases = first_names(request.phrases, 20) or f"like boxes on {plural(len(request.references), 'image')}"
        parts = [phrases, request.model, request.view.summary(), tiles_in_words(request.tiles)]
        st.caption(escape(" · ".join(filter(None, parts))), width="content")
    if show_job(job, snapshot, "Cancel", "cancel-folder", "Ends after this image; the predictions until then stay"):
        return
    if result is not None:
        _show_summary(result, cancelled=snapshot.state == "cancelled")
        if result.found:
            from sam3_lora.structures import VISUAL  # needs torch

            downloads.of_folder(request.folder, result.found, request.phrases or (VISUAL,), request.view.colors)
            _show_gallery(result)


def _start(form: PromptForm, view: ViewState) -> None:
    """Raises Sam3LoraError if a phrase or the folder is missing, or another folder is in progress."""
    prompt, folder = form.prompt, form.source.folder
    if not prompt.phrases and not prompt.references:
        raise Sam3LoraError("Expected at least one phrase", 'Name what to look for, such as "pothole"')
    if folder is None:
        raise Sam3LoraError("Expected a folder of images", "Give its path")
    shared = resources.get_predictor(adapter=prompt.model.folder, **prompt.model.loading)
    model, strength = f"base model {prompt.model.base}", None
    if prompt.model.adapter:
        model, strength = f"adapter {prompt.model.adapter} at strength {view.strength:g}", view.strength
    request = FolderRequest(folder, prompt.phrases, model, strength, view, prompt.tiles, prompt.references)
    if not start_folder(folder_job(), shared, request):
        raise Sam3LoraError("Another folder is in progress", "Wait for it, or cancel it below")


def _show_summary(result: FolderResult, cancelled: bool) -> None:
    objects = sum(len(image.objects) for image in result.found)
    with_objects = sum(bool(image.objects) for image in result.found)
    summary = f"{plural(objects, 'object')} in {with_objects:,} of {plural(len(result.found), 'image')}."
    if cancelled:
        summary += f" Cancelled after {result.processed:,} of {result.total:,}."
    st.markdown(summary)
    if result.skipped:
        label = f"{plural(len(result.skipped), 'file')} skipped"
        with st.expander(label, icon=":material/broken_image:", key="folder-skipped"):
            for one in result.skipped[:_MAX_SKIPPED]:
                st.caption(f"**{escape(one.name)}** {escape(one.why)}")
            if len(result.skipped) > _MAX_SKIPPED:
                st.caption(f"The first {_MAX_SKIPPED} are listed.")


def _show_gallery(result: FolderResult) -> None:
    only = st.toggle("Only images with objects", key=_ONLY, persist_state="session")
    shown = [
        (image, thumbnail)
        for image, thumbnail in zip(result.found, result.thumbnails, strict=True)
        if image.objects or not only
    ]
    if not shown:
        st.caption("No objects found: lower the threshold or try other phrases, then press Prompt again.")
        return
    with one_page(len(shown), _PER_PAGE, _PAGE) as part, st.grid(6, min_column_width=170):
        for place, (image, thumbnail) in enumerate(shown[part]):
            count = plural(len(image.objects), "object")
            with st.container(key=f"found-{place}", gap="xxsmall"):
                st.image(thumbnail, width="stretch", alt=f"{image.name}, {count}")
                st.caption(f"{escape(image.name)} · {count}")
