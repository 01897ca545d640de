"""An image with its proposals, and what the person does with them, by mouse and key."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import category_colors
from sam3_lora.label.session import ORDERS, Order, Session
from sam3_lora.label.work import Work, compare, disagreement
from sam3_lora.text import duration, plural
from sam3_lora.ui import adapters
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.components.layout import escape, fragment, show_kept_error
from sam3_lora.ui.label import controls, finish, labeller, sessions
from sam3_lora.ui.label.ahead import ahead_job, keep_ahead, model_name, predict_one
from sam3_lora.ui.resources import get_predictor

if TYPE_CHECKING:
    from sam3_lora.ui.resources import SharedPredictor

_TAB = "label-tab"
_ORDER = "label-order"
_LISTED = 50  # images that cannot be read
_REVIEW_SCORE = 0.5  # of proposals that are compared with labels
_ORDER_NAMES = {"uncertain": "Most uncertain", "similar": "Most similar", "name": "By name"}


def show(session: Session) -> None:
    """Draws the session's next image, or that all are done."""
    tab = st.session_state.setdefault(_TAB, secrets.token_hex(8))
    model = _show_head(session)
    shared, name = get_predictor(adapter=model.folder, **model.loading), model_name(model)
    session.use_model(name)
    for problem in session.problems:
        st.warning(escape(problem), icon=":material/warning:")
    fragment(_show_work, session, shared, name, tab)


def _show_work(session: Session, shared: SharedPredictor, model: str, tab: str) -> None:
    """Draws the image in progress and how far the session is; an answer draws this alone anew."""
    records = sessions.records_of(session.settings)
    keep_ahead(session, shared, model, records)
    _rank_reviews(session, records)
    work = _work(session, shared, model, tab)
    show_kept_error(controls.PROBLEM)
    if work is None:
        finish.show_done(session)
    else:
        _show_image(session, shared, work, tab)
    if unreadable := session.unreadable:
        with st.expander(f"{plural(len(unreadable), 'image')} cannot be read", icon=":material/broken_image:"):
            for problem in list(unreadable.values())[:_LISTED]:
                st.caption(escape(problem))


def _show_head(session: Session) -> ModelChoice:
    """What is labelled, how far it is, and who proposes in which order."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("All sessions", key="label-close", icon=":material/arrow_back:", on_click=_leave)
        st.space("stretch")
        finish.offer(session)
        with st.popover("Options", icon=":material/tune:", key="label-options"):
            adapters.follow_run("label_adapter")
            model = adapters.choose("label_adapter")
            order_name = _ORDER_NAMES.get
            st.selectbox("Order", ORDERS, key=_ORDER, format_func=lambda order: order_name(order, order))
            controls.choose_threshold()
    return model


def _progress(session: Session) -> list[str]:
    """How far the session is and how fast, and what is predicted, as lines."""
    done, count = len(session.decisions), len(session.images)
    lines = [f"{done:,} of {plural(count, 'image')}"]
    if (seconds := session.seconds_per_image) is not None:
        per_image = f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
        lines.append(f"{per_image} per image, {60 / seconds:.0f} images per minute")
        if done < count:
            lines.append(f"About {duration(seconds * (count - done))} left")
    job = ahead_job().snapshot()
    if job.active and job.request == (str(session.folder), session.model):
        lines.append(job.text)
    elif job.error:
        lines.append(job.error)
    return lines


def _leave() -> None:
    controls.forget()
    sessions.close_session()


def _rank_reviews(session: Session, records: Mapping[str, ImageRecord]) -> None:
    """Gives images whose labels are reviewed their place: where labels and model disagree most comes first."""
    if not records:
        return
    for name in session.without_priority():
        if (found := session.proposals(name)) is not None:
            sure = [one for one in found.objects if (one.score or 0.0) >= _REVIEW_SCORE]
            known = sessions.annotated(records.get(name)) or ()
            session.prefer(name, disagreement(compare(known, sure, found.size_hw, session.settings.phrases)))


def order_chosen() -> Order:
    """The order of the images that this tab has chosen."""
    order: Order = st.session_state.get(_ORDER, ORDERS[0])
    return order


def _work(session: Session, shared: SharedPredictor, model: str, tab: str) -> Work | None:
    """The image in progress, or the next one; None if all are decided."""
    work = controls.current(session)
    if work is not None and work.model != model and work.is_untouched:  # another model proposes now
        work = _begin(session, shared, model, work.image)
    while work is None:
        name = session.next_image(tab, order_chosen(), controls.last_image())
        if name is None:
            return None
        work = _begin(session, shared, model, name)
    controls.keep(session, work)
    session.claim(tab, work.image)
    return work


def _begin(session: Session, shared: SharedPredictor, model: str, name: str) -> Work | None:
    """An image with its proposals; None if it cannot be read."""
    found, record = session.proposals(name), sessions.records_of(session.settings).get(name)
    if found is None:
        with st.spinner("Predicting"):
            found = predict_one(session, shared, name, record)
        session.add_proposals(model, found)
        if found.problem:
            return None
    shown = [one for one in found.objects if (one.score or 0.0) >= controls.threshold()]
    work = Work.begin(name, found.size_hw, model, shown, sessions.annotated(record), session.settings.phrases)
    work.absent, work.partly = sessions.said_before(session.settings, record)
    return work


def _show_image(session: Session, shared: SharedPredictor, work: Work, tab: str) -> None:
    records = sessions.records_of(session.settings)
    phrases = dict.fromkeys((*session.settings.phrases, *(item.phrase for item in work.items)))
    with st.container(key="label-image"):
        labeller.show(
            work,
            session.root / work.image,
            records.get(work.image),
            category_colors(tuple(phrases)),
            f"{tab} {session.folder.name}",
            controls.heard(),
            _progress(session),
            can_go_back=session.decision(controls.last_image()) is not None,
            on_answer=lambda answer: controls.take(session, shared, work, answer, records.get(work.image)),
        )
    if (following := session.peek(tab, order_chosen(), work.image)) is not None:
        labeller.prepare(session.root / following, records.get(following))
