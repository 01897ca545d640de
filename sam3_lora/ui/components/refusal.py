"""Repair of refusal on the Train and Evaluate pages: its job, its button, and the numbers before and after."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sam3_lora.errors import RunError
from sam3_lora.evaluate.store import run_of
from sam3_lora.model.adapter_files.find_adapter import SETTINGS
from sam3_lora.train.refusal import report as of
from sam3_lora.train.refusal.folders import refusal_folder, run_to_repair
from sam3_lora.train.refusal.report import Outcome, RepairReport
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import action_button, escape
from sam3_lora.ui.components.tables import show_table

RepairJob = BackgroundJob[Path, RepairReport]  # started with the folder of the adapter's run
_MEANING = (
    "Trains the presence head of this adapter alone, with foreign words and the dataset's own phrases, so that it "
    "fires less on words for what is not in the image. Takes about a minute on a GPU. The result is an adapter of its "
    "own; this one stays as it is."
)
# outcome -> color and Material symbol
_ICONS = {
    Outcome.REPAIRED: ("green", "check_circle"),
    Outcome.AT_A_COST: ("orange", "warning"),
    Outcome.NO_GAIN: ("orange", "warning"),
    Outcome.NOT_MEASURED: ("gray", "info"),
}


@st.cache_resource(show_spinner=False)
def repair_job() -> RepairJob:
    """The repair of this process."""
    return BackgroundJob("repair of refusal")


def start_repair(job: RepairJob, adapter: Path) -> bool:
    """Starts in the background; False, with nothing done, while the job is active. Cancelled, it keeps nothing.

    Raises:
        RunError: as :func:`run_to_repair`.
    """

    def work() -> RepairReport:
        from sam3_lora.train.refusal.repair import RepairRequest, repair_refusal

        return repair_refusal(RepairRequest(adapter), job.report_or_end)

    return job.start(run_to_repair(adapter).folder, work)


def show_repair(adapter: Path) -> None:
    """Draws the button that repairs an adapter, or the progress, and what the last repair has changed.

    Args:
        adapter: its folder; nothing is drawn where it is in no run, or gone.
    """
    run = run_of(adapter)
    if run is None or not (adapter / SETTINGS).is_file():
        return
    job = repair_job()
    snapshot = job.snapshot()
    if snapshot.request == run.folder:
        if show_job(job, snapshot, "Cancel", "cancel-repair", "Nothing is kept"):
            return
        if snapshot.state == "cancelled":
            st.caption(":material/info: Repair cancelled. Nothing was saved.")
    reason = _why_not(adapter) or ("Another repair is in progress" if snapshot.active else None)
    if action_button("Repair refusal", "build", "repair-refusal", reason, _MEANING):
        start_repair(job, adapter)
        st.rerun()
    if (report := of.read(refusal_folder(adapter))) is not None:
        show_report(report)


def show_report(report: RepairReport) -> None:
    """Draws what a repair has brought: a sentence and the numbers before and after."""
    color, icon = _ICONS[report.outcome]
    st.markdown(f":{color}[:material/{icon}:] {escape(of.sentence(report))}")
    if rows := of.rows(report):
        table = [{"": label, "Before": before, "After": after} for label, before, after in rows]
        show_table(table, "Numbers before and after the repair", width=720)
    st.caption(escape(of.facts(report)))


def _why_not(adapter: Path) -> str | None:
    try:
        run_to_repair(adapter)
    except RunError as error:
        return f"{error.message}. {error.fix}."
    return None
