"""Stored evaluations: the choice of one, their table, comparison and downloads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pandas as pd
import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.evaluate.gain_loss.points import Measured, measured
from sam3_lora.evaluate.metrics import METRICS
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import StoredReport, read_report, stored_reports, to_json
from sam3_lora.evaluate.text.markdown_report import to_markdown
from sam3_lora.text import plural
from sam3_lora.ui import state
from sam3_lora.ui.components.layout import download_report, escape
from sam3_lora.ui.components.tables import DATE, show_table
from sam3_lora.ui.evaluate.job import Evaluated
from sam3_lora.ui.evaluate.report_view import described
from sam3_lora.ui.resources import runs_folder

PARAMETER = "evaluation"  # in the page's address: the name of a stored evaluation
_SHOWN = "evaluation-shown"
_UNSTORED = "evaluation-unstored"  # Evaluated that is in no file
_TABLE = "evaluations-table"


def all_stored() -> list[StoredReport]:
    """The evaluations of the app's folder of runs and of the configured one, newest first."""
    config: RunConfig | None = st.session_state.get(state.RUN_CONFIG)
    return stored_reports(dict.fromkeys([*([Path(config.output.runs)] if config else []), runs_folder()]))


def choose(known: list[StoredReport]) -> StoredReport | None:
    """The evaluation to show: the one opened last, the one in the address, or the newest; None without any."""
    wanted = st.session_state.get(_SHOWN) or st.query_params.get(PARAMETER)
    chosen = next((one for one in known if one.name == wanted), known[0] if known else None)
    if chosen:
        st.session_state[_SHOWN] = chosen.name
        st.query_params[PARAMETER] = chosen.name
    return chosen


def open_path(path: Path, known: list[StoredReport]) -> None:
    """Makes the evaluation in this file the one that is shown."""
    st.session_state[_UNSTORED] = None
    st.session_state[_SHOWN] = next((one.name for one in known if one.path == path), None)


def open_result(result: Evaluated, known: list[StoredReport]) -> None:
    """Makes the result of an evaluation the one that is shown, also if it could not be stored."""
    if result.path is not None:
        open_path(result.path, known)
    else:
        st.session_state[_UNSTORED] = result


def unstored() -> Evaluated | None:
    """The result that is shown although it could not be stored, below a sentence that says so; None without one."""
    result: Evaluated | None = st.session_state.get(_UNSTORED)
    if result is not None and result.problem is not None:
        problem = result.problem
        text = f"{escape(problem.message)}. This is the only copy: download it below. {escape(problem.fix)}."
        st.warning(text, icon=":material/warning:")
    return result


def report_of(one: StoredReport) -> Report:
    """The whole report of a stored evaluation."""
    return _load(str(one.path), one.path.stat().st_mtime_ns)


@st.cache_data(max_entries=8, show_spinner=False)
def _load(path: str, modified_ns: int) -> Report:
    return read_report(Path(path))


def gain_and_loss(known: list[StoredReport]) -> Iterator[Measured]:
    """The points of stored evaluations of adapters; files that cannot be read are skipped."""
    for one in known:
        if one.summary.adapter_name:
            with suppress(OSError, Sam3LoraError):
                yield _measured(str(one.path), one.path.stat().st_mtime_ns)


# Points are small, reports are not: they hold masks.
@st.cache_data(max_entries=1000, show_spinner=False)
def _measured(path: str, modified_ns: int) -> Measured:
    return measured(read_report(Path(path)))


def downloads(report: Report, name: str) -> None:
    """Draws the download buttons of a report; name: of the evaluation."""
    download_report(f"evaluation-{name.replace('/', '-')}", lambda: to_json(report), lambda: to_markdown(report))


def show(known: list[StoredReport], shown: StoredReport | None) -> None:
    """Draws the table of all evaluations: one selected row can be opened, several are compared.

    Args:
        known: all evaluations.
        shown: the one that the page shows, if it is among them.
    """
    if len(known) < 2:
        return
    st.markdown(f"**All evaluations** :gray[{len(known)}]")
    event = show_table(
        [_row(one, shown) for one in known],
        "All stored evaluations with their verdicts",
        {"Created": DATE, "Verdict": st.column_config.TextColumn(width="large")},
        key=_TABLE,
        on_select="rerun",
    )
    rows = [row for row in event.selection.rows if row < len(known)]
    if len(rows) == 1:
        arguments = (known[rows[0]].path, known)
        st.button("Open", "open-evaluation", icon=":material/open_in_full:", on_click=open_path, args=arguments)
    elif rows:
        _compare([known[row] for row in rows])
    else:
        st.caption("Select one row to open it, or several to compare them.")


def _row(one: StoredReport, shown: StoredReport | None) -> dict[str, object]:
    head = one.summary
    return {
        "": "shown" if one == shown else "",
        "Created": datetime.fromisoformat(head.made),
        "Evaluation": described(head.adapter_name, head.dataset, head.split),
        "Images": head.images,
        "Verdict": head.verdict,
    }


def _compare(chosen: list[StoredReport]) -> None:
    show_table(
        comparison([report_of(one) for one in chosen]),
        "The metrics of the selected evaluations side by side",
        {"Metric": st.column_config.TextColumn(pinned=True)},
    )
    if len({(one.summary.dataset, one.summary.split, one.summary.images) for one in chosen}) > 1:
        st.caption(
            ":material/info: These evaluations used different images: their numbers are not directly comparable."
        )


def comparison(reports: list[Report]) -> pd.DataFrame:
    """One row per metric, one column per evaluation: the adapter's numbers, the base's where there is none."""
    columns: dict[str, list[object]] = {"Metric": [label for label, _ in METRICS.values()]}
    for report in reports:
        created = datetime.fromisoformat(report.made)
        title = f"{report.adapter_name or 'Base'}, {created:%m-%d %H:%M}, {plural(report.images, 'image')}"
        while title in columns:
            title += " "
        values = report.judged.metrics
        columns[title] = [None if value is None else round(value, 3) for value in map(values.get, METRICS)]
    return pd.DataFrame(columns)
