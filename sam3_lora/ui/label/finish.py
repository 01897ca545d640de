"""What becomes of a session: a dataset to look at and to train on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.label.session import Session, corrections_per_object
from sam3_lora.text import plural
from sam3_lora.ui import adapters, state
from sam3_lora.ui.components.forms import fill_form
from sam3_lora.ui.components.layout import action_button, empty_state, kept_error, show_kept_error
from sam3_lora.ui.next_run import next_run, read_dataset_as

_PROBLEM, _GO = "label-finish-problem", "label-go"
_MIN_IMAGES = 5  # of a dataset from which images are held out for validation


def offer(session: Session) -> None:
    """Draws the buttons that make a dataset of what is labelled."""
    if page := st.session_state.pop(_GO, None):
        st.switch_page(page, query_params={})
    with st.popover("Use the labels", icon=":material/dataset:", key="label-finish", on_change="rerun") as popover:
        if popover.open:
            _offer_training(session)


def _offer_training(session: Session) -> None:
    done, new = list(session.decisions), session.untrained()
    reason = _too_few(len(done))
    st.caption(
        "What is confirmed is a COCO dataset of its own, its images linked. Phrases without an object in an image are "
        "checked negatives there."
    )
    adapter = adapters.known_adapters().get(adapters.in_use())
    with st.container(horizontal=True):
        train, look = _opener(session, "pages/train.py"), _opener(session, "pages/dataset.py")
        action_button("Train on these", "monitoring", "label-train", reason, type="primary", on_click=train)
        why_not = "No adapter is in use" if adapter is None else _too_few(len(new), "new ")
        meaning = f"From {adapters.short_name(adapters.in_use())}, on what was labelled since the last training."
        go_on = _opener(session, "pages/train.py", adapter, new)
        action_button("Continue training", "fast_forward", "label-continue", why_not, meaning, on_click=go_on)
        action_button("Open in Dataset", "photo_library", "label-dataset", reason, on_click=look)
    need = f" {reason}." if reason else ""
    st.caption(f"{plural(len(done), 'image')} labelled, {len(new):,} of them since the last training.{need}")
    show_kept_error(_PROBLEM)


def _too_few(count: int, kind: str = "") -> str | None:
    return None if count >= _MIN_IMAGES else f"Label {_MIN_IMAGES} {kind}images first"


def show_done(session: Session) -> None:
    """Draws that every image is labelled."""
    done = session.decisions
    objects = sum(len(one.objects) for one in done.values())
    text = f"All {plural(len(done), 'image')} are labelled, with {plural(objects, 'object')}"
    empty_state("task_alt", text, "Press *Use the labels* to train on them.")
    st.caption(f"{corrections_per_object(done):.2f} corrections per object.")


def _opener(
    session: Session, page: str, start: Path | None = None, only: Collection[str] | None = None
) -> Callable[[], None]:
    """A callback that writes the dataset and opens it on a page.

    Args:
        session: what is labelled.
        page: to open.
        start: the adapter that the next run starts from; None for a new one.
        only: the images to train on; None for all.
    """

    def open_dataset() -> None:
        with kept_error(_PROBLEM):
            folder = str(session.write_dataset(only if start is not None else None))
            read_dataset_as(state.dataset_settings(folder))
            st.session_state[state.DATASET_PATH] = folder
            next_run()
            if page == "pages/train.py":
                adapter = str(start) if start is not None else ""
                fill_form(RunConfig().with_settings({"model.adapter": adapter}), ["model.adapter"])
                next_run()
                session.mark_trained()
            st.session_state[_GO] = page

    return open_dataset
