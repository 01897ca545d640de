"""The frame of every page: mistakes become one calm box, the unforeseen becomes a sentence and a log entry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from sam3_lora.ui import resources
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.plots import plot_names
from sam3_lora.ui.components.tables import shortened


def failing_page(kind: str) -> None:
    import streamlit as st

    from sam3_lora.errors import DataError
    from sam3_lora.ui.components.layout import page

    with page("Title", "What it is for."):
        st.write("before")
        if kind == "mistake":
            raise DataError("Expected a folder at C:\\data_*x*, but there is none", "Check the [path]")
        if kind == "unforeseen":
            raise ZeroDivisionError("a secret detail")
        st.stop()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("SAM3_LORA_RUNS", str(tmp_path))
    resources.app_log.clear()
    before = list(logging.getLogger("sam3_lora").handlers)
    yield tmp_path
    resources.app_log.clear()
    for handler in set(logging.getLogger("sam3_lora").handlers) - set(before):
        logging.getLogger("sam3_lora").removeHandler(handler)
        handler.close()


def show(kind: str) -> AppTest:
    return AppTest.from_function(failing_page, args=(kind,), default_timeout=30).run()


def test_a_mistake_is_one_box_with_message_and_fix(runs: Path) -> None:
    app = show("mistake")
    assert not app.exception
    assert app.markdown[0].value == "before"
    (box,) = app.error
    assert escape("Expected a folder at C:\\data_*x*, but there is none.") in box.value
    assert escape("Check the [path].") in box.value
    assert not (runs / "app.log").exists(), "a user's mistake is no incident"


def test_the_unforeseen_is_logged_and_not_shown(runs: Path) -> None:
    app = show("unforeseen")
    assert not app.exception
    (box,) = app.error
    assert "secret" not in box.value and "Traceback" not in box.value
    assert str(runs / "app.log") in box.value.replace("\\", "")
    log = (runs / "app.log").read_text(encoding="utf-8")
    assert "ZeroDivisionError: a secret detail" in log


def test_stopping_a_page_is_no_error(runs: Path) -> None:
    app = show("stop")
    assert not app.exception and not app.error
    assert not (runs / "app.log").exists()


@pytest.mark.parametrize("text", ["plain", "a_b*c", "C:\\dir", "[x](y)", "$1 ~ `code` <b> :red[x] |"])
def test_escape_leaves_nothing_for_markdown_to_act_on(text: str) -> None:
    escaped = escape(text)
    assert escaped.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\") == text
    assert all(escaped[i - 1] == "\\" for i, c in enumerate(escaped) if c in "*_[]`$~<>|:" and i)


def test_escape_keeps_streamlit_from_replacing_names_of_icons_and_emoji() -> None:
    for text in (":material/delete:", ":smile:", ":streamlit:", "a -> b", "a -- b"):
        escaped = escape(text)
        assert "\u2060" in escaped
        assert escaped.replace("\u2060", "").replace("\\", "") == text
    assert "\u2060" not in escape("C:\\data at 10:30, a--b")


def test_long_names_stay_apart_in_charts_and_are_cut_in_tables() -> None:
    names = ["x" * 100_000 + end for end in ("a", "b", "c")]
    shown = plot_names([*names, "<b>y</b>\nz"])
    assert len(set(shown)) == 4 and max(map(len, shown)) < 60
    assert shown[-1] == "&lt;b>y&lt;/b> z"
    table = shortened(pd.DataFrame({"Category": names, "Objects": [1, 2, 3], names[0]: [None, "a", 2.5]}))
    assert max(len(str(cell)) for cell in [*table.columns, *table.to_numpy().ravel()]) <= 200
    assert table["Objects"].tolist() == [1, 2, 3]
