"""Merging the open dataset with another one: what becomes of its categories, and the new folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.edits.merging import CategoryMatch, edits_of, match_categories
from sam3_lora.data.edits.writing import check_place
from sam3_lora.errors import DataError
from sam3_lora.files import user_path
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import action_button, escape, guarded
from sam3_lora.ui.dataset.edits import write_out
from sam3_lora.ui.dataset.page_state import OpenedDataset
from sam3_lora.ui.preferences import load_preferences

_LEFT_OUT = "(leave out)"


def offer(opened: OpenedDataset) -> None:
    """Draws the button that opens the dialog."""
    if st.button("Merge with another dataset", key="merge", type="tertiary", icon=":material/merge:"):
        _show(opened)


@st.dialog("Merge with another dataset", width="large")
def _show(opened: OpenedDataset) -> None:
    st.caption("Writes both, with the edits of this one, to a new folder. Neither is changed.")
    recent = [one.path for one in load_preferences().datasets if one.path != opened.path]
    typed = st.selectbox(
        "Other dataset",
        recent,
        index=None,
        placeholder="Type the path of its folder, or choose a recent one",
        key="merge-other",
        accept_new_options=True,
    )
    with guarded():
        path = (typed or "").strip().strip("\"'")
        matches = _choose_matches(opened.dataset, path) if path else []
        proposed = write_out.proposed_folder(opened, "merged")
        folder = st.text_input("New folder", str(proposed), key="merge-folder")
        reason = "Choose the other dataset." if not path else "Type a folder." if not folder.strip() else None
        if action_button("Merge", "merge", "merge-write", reason, type="primary"):
            out = user_path(folder.strip()).absolute()
            other = open_dataset(path, edits=edits_of(matches))
            for one in (opened.dataset, other):
                check_place(one.root, out)
            write_out.start(opened, out, others=[other])
            st.rerun()


def _choose_matches(dataset: Dataset, path: str) -> list[CategoryMatch]:
    """Draws the categories of the other dataset with what they become, which can be changed."""
    if Path(path).is_absolute() and user_path(path) == dataset.root:
        raise DataError("This is the dataset that is open", "Choose another one")
    found = match_categories(dataset, open_dataset(path))
    names = list(dict.fromkeys([*dataset.categories, *(match.name for match in found)]))
    table = pd.DataFrame(
        {
            "Category there": [match.name for match in found],
            "Objects": [match.objects for match in found],
            "Becomes": [match.becomes for match in found],
        }
    )
    edited = st.data_editor(
        table,
        key=f"merge-categories-{path}",
        hide_index=True,
        disabled=["Category there", "Objects"],
        column_config={
            "Becomes": st.column_config.SelectboxColumn(
                options=[*names, _LEFT_OUT], required=True, help="Double-click to choose another category"
            ),
        },
    )
    chosen = [None if name == _LEFT_OUT else str(name) for name in edited["Becomes"]]
    matches = [CategoryMatch(match.name, match.objects, becomes) for match, becomes in zip(found, chosen, strict=True)]
    st.caption(escape(_in_words(dataset, matches)))
    return matches


def _in_words(dataset: Dataset, matches: list[CategoryMatch]) -> str:
    """How many categories are the same, renamed, new and left out."""
    kept = [match for match in matches if match.becomes is not None]
    known = [match for match in kept if match.becomes in dataset.categories]
    same = sum(match.becomes == match.name for match in known)
    counts = {
        "the same": same,
        "renamed": len(known) - same,
        "new": len(kept) - len(known),
        "left out": len(matches) - len(kept),
    }
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    note = " What only one dataset annotates is unknown in the other's images: never a negative there."
    return f"{plural(len(matches), 'category')}: {parts}." + (note if counts["new"] else "")
