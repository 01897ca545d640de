"""The evaluation job: measures a base model and an adapter in the background and stores the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.evaluate import EvaluationRequest, Report, evaluate, store
from sam3_lora.evaluate.gain_loss.card import write_card
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.components.job_progress import watch
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.resources import SharedPredictor


@dataclass(frozen=True)
class Evaluated:
    """The result of the job: the report, and its file, or why it could not be stored."""

    report: Report
    path: Path | None
    problem: Sam3LoraError | None = None
    card_problem: Sam3LoraError | None = None  # why the adapter's model card does not have it


EvaluationJob = BackgroundJob[str, Evaluated]  # started with what is evaluated, in words


@st.cache_resource(show_spinner=False)
def evaluation_job() -> EvaluationJob:
    """The evaluation job of this process."""
    return BackgroundJob("evaluation")


def start_evaluation(job: EvaluationJob, shared: SharedPredictor, request: EvaluationRequest, folder: Path) -> bool:
    """Starts in the background. Cancelled, it ends after the image in progress and stores nothing.

    Args:
        job: the one of this process.
        shared: base model and adapter; locked only while they are at work.
        request: what is evaluated.
        folder: where the report is stored.

    Returns:
        False, with nothing done, while the job is active.
    """

    def work() -> Evaluated:
        report = evaluate(shared.predictor, request, progress=job.report_or_end, lock=shared.lock)
        path = problem = card_problem = None
        try:
            path = store.save(report, folder)
        except Sam3LoraError as error:  # what took minutes to measure is shown all the same
            problem = error
        try:
            write_card(report)
        except Sam3LoraError as error:
            card_problem = error
        return Evaluated(report, path, problem, card_problem)

    return job.start(
        f"{request.adapter_name or 'base model alone'}, split {request.split.name} of {request.dataset}", work
    )


def show_progress(job: EvaluationJob) -> None:
    """The progress of an active job."""
    with st.container(border=True):
        st.caption(f"Evaluating {escape(job.snapshot().request or '')}")
        watch(job, "Cancel", "cancel-evaluation", "Ends after this image; nothing is stored")
