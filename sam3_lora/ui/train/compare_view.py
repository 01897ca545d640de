"""Several runs side by side: one measure of each in a chart, what each reached, and where their settings differ."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.monitor.curves import COMPARED, compare
from sam3_lora.runs.run import Run
from sam3_lora.ui.runs import follow, run_title, table_columns, table_row
from sam3_lora.ui.train.run_chart import choose_look, show_picture

MAX_RUNS = 5  # beyond it neither colours nor columns can be told apart
_NOT_COMPARED = {"output.name", "output.runs"}


def show_comparison(run: Run, runs: list[Run]) -> None:
    """The run that is looked at beside others of one's choice."""
    others = {other.name: other for other in runs if other.name != run.name}
    if not others:
        st.caption("There is no other run yet to compare with.")
        return
    key = "compare-with"
    kept = [name for name in st.session_state.get(key, []) if name in others]
    if kept != st.session_state.get(key, []):  # one was deleted, or is the one looked at now
        st.session_state[key] = kept
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
    look = choose_look(list(COMPARED), "compare")
    histories = {run_title(each.name): follow(each).history for each in compared}
    picture = compare(histories, look.shown, smoothing=look.smoothing, along=look.along)
    show_picture(picture, look, "comparison", f"{look.shown} of {len(compared)} runs", height=340)
    st.dataframe(
        pd.DataFrame([table_row(each) for each in compared]),
        hide_index=True,
        placeholder="–",
        column_config=table_columns(),
        alt="The compared runs",
    )
    _show_differences(compared)


def _show_differences(compared: list[Run]) -> None:
    """A row for each setting that is not the same in all of them, a column for each run."""
    first, *others = compared
    try:
        names = {name: None for other in others for name in first.differences(other) if name not in _NOT_COMPARED}
        settings = {run_title(each.name): each.config.model_dump() for each in compared}
    except Sam3LoraError as error:
        st.caption(f":material/info: The settings cannot be compared: {error.message}.")
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
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Settings in which the runs differ")
