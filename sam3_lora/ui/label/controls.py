"""What a tab has in progress, and what becomes of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.data.records import ImageRecord
from sam3_lora.label.proposals import object_in_box, pixels_of, propose_again
from sam3_lora.label.session import Session
from sam3_lora.label.work import Answer, DrawnBox, Work
from sam3_lora.ui.components.layout import kept_error

if TYPE_CHECKING:
    from sam3_lora.ui.resources import SharedPredictor

PROBLEM = "label-problem"  # Sam3LoraError: why the last action failed
_WORK, _LAST, _THRESHOLD, _HEARD = "label-work", "label-last", "label-threshold", "label-heard"


def current(session: Session) -> Work | None:
    """The image that this tab has in progress in a session."""
    folder, work = st.session_state.get(_WORK, ("", None))
    return work if folder == session.folder.name else None


def keep(session: Session, work: Work) -> None:
    """Makes an image the one in progress."""
    st.session_state[_WORK] = session.folder.name, work


def forget() -> None:
    """Leaves the image in progress, undecided."""
    st.session_state.pop(_WORK, None)


def last_image() -> str:
    """The image that this tab decided last."""
    return st.session_state.get(_LAST, "")


def heard() -> int:
    """The number of the last answer that was taken over."""
    return st.session_state.get(_HEARD, 0)


def threshold() -> float:
    """The lowest score of proposals that are shown."""
    return float(st.session_state.get(_THRESHOLD, 0.4))


def choose_threshold() -> None:
    """Draws the choice of that score; an image about which nothing is decided is opened anew with it."""

    def reopen() -> None:
        _, work = st.session_state.get(_WORK, ("", None))
        if work is not None and work.is_untouched:
            forget()

    st.slider("Show proposals from score", 0.1, 0.9, 0.4, 0.05, key=_THRESHOLD, on_change=reopen)


def take(
    session: Session, shared: SharedPredictor, work: Work, answer: Answer, record: ImageRecord | None = None
) -> None:
    """Takes over what the person has decided; the image is left only when that is on the disk.

    Args:
        session, work: what is labelled.
        shared: the model, for boxes that were drawn.
        answer: of the person, about this image or one before.
        record: of the image where a dataset is reviewed.
    """
    st.session_state[_HEARD] = answer.number
    if answer.image != work.image:  # a late one, about an image that was left since
        return
    with kept_error(PROBLEM):
        for box in work.apply(answer):
            _ask_about(session, shared, work, box, record)
        if answer.go == "next":
            confirm(session, work)
        elif answer.go == "previous" and (before := session.decision(last_image())) is not None:
            keep(session, Work.again(before))


def confirm(session: Session, work: Work) -> None:
    """Writes the decision; only then is the image left."""
    session.decide(work.decision())
    st.session_state[_LAST] = work.image
    forget()


def _ask_about(
    session: Session, shared: SharedPredictor, work: Work, box: DrawnBox, record: ImageRecord | None
) -> None:
    """Asks the model for the object in a box; or again for a phrase, with the boxes of what is no object of it."""
    pixels, size_hw = pixels_of(session.root, work.image, record)
    with shared.lock:
        if shared.predictor.has_adapter:
            shared.predictor.strength = 1.0
        if box.positive:
            work.add(box.id, object_in_box(shared.predictor, pixels, box.phrase, box.box_xyxy, size_hw))
            return
        found = propose_again(shared.predictor, pixels, box.phrase, work.unlike(box.phrase), size_hw)
    work.replace_open(box.id, box.phrase, [each for each in found if (each.score or 0.0) >= threshold()])
