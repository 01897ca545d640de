"""Predicts the images of a session ahead, in the background, so that the next one comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import Cancelled
from sam3_lora.label.proposals import Proposals, propose
from sam3_lora.label.session import Session
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.background_job import BackgroundJob

if TYPE_CHECKING:
    from sam3_lora.ui.resources import SharedPredictor

AheadJob = BackgroundJob[tuple[str, str], int]  # started with the session's folder and the model's name


@st.cache_resource(show_spinner=False)
def ahead_job() -> AheadJob:
    """The job of this process."""
    return BackgroundJob("prediction ahead")


def model_name(model: ModelChoice) -> str:
    """Tells models apart: base, adapter, and when the adapter was saved."""
    from sam3_lora.evaluate.store import weights_stamp

    return f"{model.base} {model.folder or ''} {weights_stamp(model.folder) or ''}".strip()


def keep_ahead(session: Session, shared: SharedPredictor, name: str, records: Mapping[str, ImageRecord]) -> None:
    """Begins to predict all images without proposals; a job for another session or model is stopped first."""
    job, request = ahead_job(), (str(session.folder), name)
    snapshot = job.snapshot()
    if snapshot.active:
        if snapshot.request != request:
            job.cancel()
        return
    if session.not_predicted() and not (snapshot.request == request and snapshot.state == "failed"):
        job.start(request, lambda: _predict(job, session, shared, name, records))


def _predict(
    job: AheadJob, session: Session, shared: SharedPredictor, name: str, records: Mapping[str, ImageRecord]
) -> int:
    names = session.not_predicted()
    for count, image in enumerate(names):
        if job.is_cancelled():
            raise Cancelled
        job.report(count / len(names), f"{count} of {len(names)} images predicted")
        if session.proposals(image) is None:
            session.add_proposals(name, predict_one(session, shared, image, records.get(image)))
    return len(names)


def predict_one(session: Session, shared: SharedPredictor, image: str, record: ImageRecord | None) -> Proposals:
    """Asks the model for one image; record: of the dataset that is reviewed."""
    with shared.lock:
        if shared.predictor.has_adapter:
            shared.predictor.strength = 1.0
        return propose(shared.predictor, session.root, image, session.settings.phrases, record)
