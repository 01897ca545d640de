"""Several runs side by side: one metric in a chart, a table of results, and the settings that differ."""

from __future__ import annotations

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.monitor.curves import COMPARED, compare
from sam3_lora.runs.run import Run
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.runs import TABLE_COLUMNS, follow, run_title, table_row
from sam3_lora.ui.state import keep_valid
from sam3_lora.ui.train.run_chart import choose_options, show_curves

MAX_RUNS = 5  # more colors and columns are hard to tell apart
_NOT_COMPARED = {"output.name", "output.runs"}


def show_comparison(run: Run, runs: list[Run]) -> None:
    """Draws the run that is shown beside others to choose.

    Args:
        run: that is shown.
        runs: all there are.
    """
    others = {other.name: other for other in runs if other.name != run.name}
    if not others:
        st.caption("No other run to compare with.")
        return
    key = "compare-with"
    keep_valid(key, list(others))  # one was deleted, or is the one that is shown now
    chosen = st.multiselect(
        "Compare with",
        list(others),
        key=key,
        bind="query-params",
        format_func=run_title,
        max_selections=MAX_RUNS,
        placeholder="Choose one or more runs",
    )
    if not chosen:
        return
    compared = [run, *(others[name] for name in chosen)]
    options = choose_options(list(COMPARED), "compare")
    histories = {run_title(each.name): follow(each).history for each in compared}
    curves = compare(histories, options.shown, smoothing=options.smoothing, along=options.along)
    show_curves(curves, options, "comparison", f"{options.shown} of {len(compared)} runs", height=340)
    show_table(map(table_row, compared), "The compared runs", TABLE_COLUMNS)
    _show_differences(compared)


def _show_differences(compared: list[Run]) -> None:
    """Draws a row for each setting that differs, a column for each run."""
    first, *others = compared
    try:
        names = {name: None for other in others for name in first.differences(other) if name not in _NOT_COMPARED}
        settings = {run_title(each.name): each.config.model_dump() for each in compared}
    except Sam3LoraError as error:
        st.caption(f":material/info: The settings cannot be compared: {escape(error.message)}.")
        return
    if not names:
        st.caption("These runs have the same settings.")
        return
    st.markdown("**Settings that differ**")
    rows = []
    for name in names:
        section, _, field = name.partition(".")
        values = {title: str(values[section][field]) for title, values in settings.items()}
        rows.append({"Setting": name, **values})
    show_table(rows, "Settings in which the runs differ")
