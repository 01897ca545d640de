"""The table of phrases: what SAM 3 is asked for each category, to be changed where its name is no good phrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.samples import MAX_TOKENS
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.ui import state
from sam3_lora.ui.components.layout import escape, show_error
from sam3_lora.ui.dataset.page_state import Opened
from sam3_lora.ui.next_run import use_phrases
from sam3_lora.ui.resources import get_processor

_EDITOR = "phrases-editor"
_PROBLEM = "phrases-problem"  # ConfigError of the last edit
_MAX_NAMED = 5  # changes in a line
_MAX_ROWS = 10  # before the table scrolls


def show(opened: Opened, phrases: Mapping[str, str]) -> None:
    """The table, with suggestions where a name says nothing to SAM 3."""
    categories = opened.dataset.categories
    suggestions = {
        category: phrase for category, phrase in opened.suggestions.items() if phrase_of(category, phrases) != phrase
    }
    st.caption(
        "SAM 3 finds what words mean, so each category is asked by a short noun phrase. Change it here: double-click a "
        "phrase. Your words are kept with the run's settings, never written into the dataset."
    )
    if isinstance(problem := st.session_state.get(_PROBLEM), ConfigError):
        show_error(problem)
    table = phrase_table(opened, phrases, suggestions)
    st.data_editor(
        table,
        key=_EDITOR,
        hide_index=True,
        disabled=[column for column in table if column != "Phrase"],
        on_change=_take_edits,
        args=(opened.path, categories, dict(phrases)),
        height=480 if len(table) > _MAX_ROWS else "auto",
        column_config={
            "Phrase": st.column_config.TextColumn(
                help="Empty it to go back to the category's own name", max_chars=200, width="medium"
            ),
            "Tokens": st.column_config.NumberColumn(
                help=f"With start and end; what goes beyond {MAX_TOKENS} is cut off"
            ),
            "Objects": st.column_config.NumberColumn(format="localized"),
        },
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        if suggestions:
            st.button(
                f"Use the suggestions ({len(suggestions)})",
                key="use-suggestions",
                icon=":material/lightbulb:",
                on_click=_use,
                args=(opened.path, {**phrases, **suggestions}),
            )
        if phrases:
            st.button(
                "Back to the names",
                key="forget-phrases",
                icon=":material/undo:",
                on_click=_use,
                args=(opened.path, {}),
            )
            changed = [f"{name} → {phrase_of(name, phrases)}" for name in phrases if name in categories]
            more = f" and {len(changed) - _MAX_NAMED:,} more" if len(changed) > _MAX_NAMED else ""
            st.caption(f"Changed: {escape(', '.join(changed[:_MAX_NAMED]))}{more}", width="content")


def phrase_table(opened: Opened, phrases: Mapping[str, str], suggestions: Mapping[str, str]) -> pd.DataFrame:
    """One row per category: its name, its phrase, tokens, objects and, where there are any, suggestions."""
    categories = opened.dataset.categories
    asked = [phrase_of(category, phrases) for category in categories]
    objects = dict.fromkeys(categories, 0)
    for split in opened.dataset.splits.values():
        for category, count in split.objects_per_category().items():
            objects[category] += count
    columns: dict[str, Sequence[Any]] = {"Category": categories, "Phrase": asked}
    if suggestions:
        columns["Suggestion"] = [suggestions.get(category, "") for category in categories]
    return pd.DataFrame({**columns, "Tokens": _tokens(asked), "Objects": list(objects.values())})


def _tokens(phrases: Sequence[str]) -> list[int | None]:
    """Tokens of each phrase, start and end among them; None where the base model's tokenizer cannot be had."""
    try:
        tokenizer = get_processor(state.base_model()).tokenizer
    except ModelError:
        return [None] * len(phrases)
    return [len(ids) for ids in tokenizer(list(phrases))["input_ids"]] if phrases else []


def with_edits(
    phrases: Mapping[str, str], categories: Sequence[str], edited: Mapping[int, Mapping[str, Any]]
) -> dict[str, str]:
    """The user's own words after edits of the table, by row; an emptied phrase and a category's own name are none."""
    changed = dict(phrases)
    for row, values in edited.items():
        category = categories[int(row)]
        words = " ".join((values.get("Phrase") or "").split())
        if words and phrase_of(category, {category: words}) != phrase_of(category):
            changed[category] = words
        else:
            changed.pop(category, None)
    return changed


def _take_edits(path: str, categories: Sequence[str], phrases: dict[str, str]) -> None:
    _use(path, with_edits(phrases, categories, st.session_state[_EDITOR]["edited_rows"]), keep_table=True)


def _use(path: str, phrases: dict[str, str], keep_table: bool = False) -> None:
    """A callback that has the next run ask by these words; words that are none change nothing and are told."""
    st.session_state[_PROBLEM] = None
    if not keep_table:
        st.session_state.pop(_EDITOR, None)  # or its edits would lie over the new words
    try:
        use_phrases(path, phrases)
    except ConfigError as error:
        st.session_state[_PROBLEM] = error
