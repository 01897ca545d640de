"""Tables of all pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from sam3_lora.text import short

if TYPE_CHECKING:
    import pandas as pd

_MAX_TEXT = 200  # characters of a cell
DATE = st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm")


def show_table(
    rows: Any,
    alt: str,
    columns: Mapping[str, Any] | None = None,
    *,
    open_row: Callable[[int], None] | None = None,
    placeholder: str = "–",
    **others: Any,
) -> Any:
    """Draws a table without an index; returns what Streamlit's dataframe returns.

    Args:
        rows: a data frame, or what makes one.
        alt: what the table shows, for screen readers.
        columns: name -> the format of its numbers, or its whole configuration.
        open_row: called with the place of a row that is selected; needs a key.
        placeholder: in empty cells.
        others: as Streamlit's dataframe takes them.
    """
    import pandas as pd  # not with the module: pages without a table are there sooner

    if open_row is not None:
        others |= {"selection_mode": "single-row", "on_select": lambda: _follow_selection(others["key"], open_row)}
    number = st.column_config.NumberColumn
    config = {
        name: number(format=column) if isinstance(column, str) else column for name, column in (columns or {}).items()
    }
    return st.dataframe(
        shortened(pd.DataFrame(rows)),
        hide_index=True,
        placeholder=placeholder,
        column_config=config,
        alt=alt,
        **others,
    )


def folded_table(rows: Callable[[], Any], alt: str, key: str, columns: Mapping[str, Any] | None = None) -> None:
    """Draws the button that opens a table with the numbers of a chart; the table is made when it is opened.

    Args:
        rows: makes a data frame, or what makes one.
        alt: what chart and table show.
        key: of the button.
        columns: as :func:`show_table` takes them.
    """
    with st.popover("Table", icon=":material/table:", type="tertiary", key=key, on_change="rerun") as box:
        if box.open:
            show_table(rows(), alt, columns, width=560)


def shortened(table: pd.DataFrame) -> pd.DataFrame:
    """The table without very long texts, which no column shows whole."""
    table = table.rename(columns=lambda name: short(str(name)))
    for name in table.select_dtypes(["object", "string"]):
        table[name] = [short(cell, _MAX_TEXT) if isinstance(cell, str) else cell for cell in table[name]]
    return table


def _follow_selection(key: str, open_row: Callable[[int], None]) -> None:
    for row in st.session_state[key].selection.rows:
        open_row(row)
