"""The table of phrases: the text prompt of each category, editable where the category's name is a poor prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from sam3_lora.data.prompts import MAX_TOKENS, phrase_of
from sam3_lora.data.records import Dataset
from sam3_lora.errors import ModelError
from sam3_lora.text import first_names
from sam3_lora.ui import state
from sam3_lora.ui.components.layout import escape, kept_error, show_kept_error
from sam3_lora.ui.dataset.page_state import CROWDS_HELP, OpenedDataset
from sam3_lora.ui.next_run import use_phrases
from sam3_lora.ui.resources import get_processor

_EDITOR = "phrases-editor"
_PROBLEM = "phrases-problem"  # ConfigError of the last edit
_MAX_ROWS = 10  # before the table scrolls


def show(opened: OpenedDataset, phrases: Mapping[str, str]) -> None:
    """The table, with suggestions where a category's name is a poor prompt.

    Args:
        opened: the dataset.
        phrases: the user's own, by category.
    """
    categories = opened.dataset.categories
    suggestions = {
        category: phrase for category, phrase in opened.suggestions.items() if phrase_of(category, phrases) != phrase
    }
    st.caption(
        "SAM 3 is prompted with a short noun phrase for each category. Double-click a phrase to change it. Your "
        "phrases are saved in the run's settings; the dataset stays as it is."
    )
    show_kept_error(_PROBLEM)
    table = phrase_table(opened, phrases, suggestions)
    st.data_editor(
        table,
        key=_EDITOR,
        hide_index=True,
        disabled=[column for column in table if column != "Phrase"],
        on_change=_apply_edits,
        args=(opened.path, categories, dict(phrases)),
        height=480 if len(table) > _MAX_ROWS else "auto",
        column_config={
            "Phrase": st.column_config.TextColumn(
                help="Empty it to use the category's name", max_chars=200, width="medium"
            ),
            "Tokens": st.column_config.NumberColumn(
                help=f"Including start and end tokens; at most {MAX_TOKENS}, the rest is cut off"
            ),
            "Objects": st.column_config.NumberColumn(format="localized"),
            "Crowds": st.column_config.NumberColumn(format="localized", help=CROWDS_HELP),
        },
    )
    _show_buttons(opened, phrases, suggestions)
    if unused := [category for category in categories if category not in opened.dataset.prompt_categories]:
        st.caption(f"Never prompted, as only the supercategory of others: {escape(first_names(unused))}.")


def _show_buttons(opened: OpenedDataset, phrases: Mapping[str, str], suggestions: Mapping[str, str]) -> None:
    """What changes several phrases at once, and what is changed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if suggestions:
            st.button(
                f"Use suggestions ({len(suggestions)})",
                key="use-suggestions",
                icon=":material/lightbulb:",
                on_click=_use,
                args=(opened.path, {**phrases, **suggestions}),
            )
        if merges := _merges(opened.dataset, phrases):
            st.button(
                f"Learn as their supercategory ({len(merges)})",
                key="merge-supercategories",
                icon=":material/merge:",
                help="Gives each category the phrase of its supercategory, so that both are learned as one",
                on_click=_use,
                args=(opened.path, {**phrases, **merges}),
            )
        if phrases:
            st.button(
                "Reset to category names",
                key="forget-phrases",
                icon=":material/undo:",
                on_click=_use,
                args=(opened.path, {}),
            )
            changed = [f"{name} → {phrase_of(name, phrases)}" for name in phrases if name in opened.dataset.categories]
            st.caption(f"Changed: {escape(first_names(changed))}", width="content")


def _merges(dataset: Dataset, phrases: Mapping[str, str]) -> dict[str, str]:
    """Category -> the phrase of the uppermost supercategory that has objects, where it has another one now."""
    asked = dataset.prompt_categories
    tops = {name: [above for above in ancestors if above in asked] for name, ancestors in dataset.ancestors.items()}
    merges = {name: phrase_of(above[-1], phrases) for name, above in tops.items() if above}
    return {name: phrase for name, phrase in merges.items() if phrase_of(name, phrases) != phrase}


def phrase_table(opened: OpenedDataset, phrases: Mapping[str, str], suggestions: Mapping[str, str]) -> pd.DataFrame:
    """One row per category: name, phrase, numbers of tokens and objects; suggestion and crowds if there are any."""
    categories = opened.dataset.categories
    prompts = [phrase_of(category, phrases) for category in categories]
    objects, crowds = Counter[str](), Counter[str]()
    for split in opened.dataset.splits.values():
        objects.update(split.objects_per_category())
        crowds.update(split.crowds_per_category())
    columns: dict[str, Sequence[Any]] = {"Category": categories, "Phrase": prompts}
    if suggestions:
        columns["Suggestion"] = [suggestions.get(category, "") for category in categories]
    if ancestors := opened.dataset.ancestors:
        columns["Supercategory"] = [next(iter(ancestors.get(category, ())), "") for category in categories]
    columns |= {"Tokens": _tokens(prompts), "Objects": [objects[category] for category in categories]}
    if crowds.total():
        columns["Crowds"] = [crowds[category] for category in categories]
    return pd.DataFrame(columns)


def _tokens(phrases: Sequence[str]) -> list[int | None]:
    """Number of tokens of each phrase, with start and end; None if the base model's tokenizer cannot be loaded."""
    try:
        tokenizer = get_processor(**state.base_model().loading).tokenizer
    except ModelError:
        return [None] * len(phrases)
    return [len(ids) for ids in tokenizer(list(phrases))["input_ids"]] if phrases else []


def with_edits(
    phrases: Mapping[str, str], categories: Sequence[str], edited: Mapping[int, Mapping[str, Any]]
) -> dict[str, str]:
    """The user's phrases after edits of the table; an empty phrase and the category's own name count as none.

    Args:
        phrases: by category, before the edits.
        categories: in the order of the rows.
        edited: row -> column -> value.
    """
    changed = dict(phrases)
    for row, values in edited.items():
        category = categories[int(row)]
        phrase = " ".join((values.get("Phrase") or "").split())
        if phrase and phrase_of(category, {category: phrase}) != phrase_of(category):
            changed[category] = phrase
        else:
            changed.pop(category, None)
    return changed


def _apply_edits(path: str, categories: Sequence[str], phrases: dict[str, str]) -> None:
    _use(path, with_edits(phrases, categories, st.session_state[_EDITOR]["edited_rows"]), keep_table=True)


def _use(path: str, phrases: dict[str, str], keep_table: bool = False) -> None:
    """A callback that sets the phrases of the next run; invalid ones change nothing, and the page shows why."""
    if not keep_table:
        st.session_state.pop(_EDITOR, None)  # its edits would hide the new phrases
    with kept_error(_PROBLEM):
        use_phrases(path, phrases)
