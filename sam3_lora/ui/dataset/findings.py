"""The findings of a dataset: message, fix and locations of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pandas as pd
import streamlit as st

from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.findings.titles import title_of
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.dataset import page_state
from sam3_lora.ui.dataset.edits import repair_view
from sam3_lora.ui.dataset.page_state import OpenedDataset

_MAX_WORST = 2
_FEW = 6  # findings that need no filter
_MAX_ROWS = 5  # of locations before their table scrolls
# severity -> Material symbol, color, word
_SEVERITIES = {
    "error": ("error", "red", "error"),
    "warning": ("warning", "orange", "warning"),
    "info": ("info", "blue", "note"),
}


def show(opened: OpenedDataset) -> None:
    """Draws the findings of a dataset, worst first; with many, of a severity and split of one's choice."""
    severity, split = _choose_shown(opened.findings) if len(opened.findings) > _FEW else (None, None)
    for index, finding in enumerate(opened.findings):
        if finding.severity != (severity or finding.severity) or finding.split != (split or finding.split):
            continue
        with st.container(gap="xxsmall", key=f"finding-{index}"):
            _show_message(finding)
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.caption(f":material/arrow_forward: {escape(finding.fix)}", width="content")
                repair_view.offer_fix(opened, finding, index)
            if any(location.image or location.annotation or location.detail for location in finding.locations):
                _show_locations(index, finding, opened)


def _choose_shown(findings: Sequence[Finding]) -> tuple[str | None, str | None]:
    """Draws the choice of a severity and of a split; None for all."""
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    severities = {one: plural(counts[one], word) for one, (*_, word) in _SEVERITIES.items() if counts[one]}
    splits = sorted({finding.split for finding in findings if finding.split})
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="findings-filter"):
        severity = st.pills(
            "Severity", list(severities), format_func=lambda one: severities[one], label_visibility="collapsed"
        )
        split = st.pills("Split", splits, label_visibility="collapsed") if len(splits) > 1 else None
    return severity, split


def show_none(scanned: bool) -> None:
    """Says that there are no findings. scanned: whether all images were scanned, not only the annotations."""
    where = "in images and annotations" if scanned else "in the annotations"
    st.markdown(f":green[:material/check_circle:] No problems found {where}.")


def show_worst(findings: Sequence[Finding]) -> None:
    """The first findings, of worst first, without their locations; notes only if there is nothing worse."""
    serious = [finding for finding in findings if finding.severity != "info"] or findings
    for index, finding in enumerate(serious[:_MAX_WORST]):
        with st.container(gap="xxsmall", key=f"worst-{index}"):
            _show_message(finding)
            st.caption(f":material/arrow_forward: {escape(finding.fix)}")


def summary(findings: Sequence[Finding]) -> str:
    """For example "2 errors, 1 warning"."""
    counts: Counter[str] = Counter(finding.severity for finding in findings)
    return ", ".join(plural(counts[severity], word) for severity, (*_, word) in _SEVERITIES.items() if counts[severity])


def _show_message(finding: Finding) -> None:
    icon, color, _ = _SEVERITIES[finding.severity]
    where = f" :gray-badge[{escape(finding.split)}]" if finding.split else ""
    st.markdown(f":{color}[:material/{icon}:] **{title_of(finding.kind)}**{where}")
    st.markdown(escape(finding.message))


def _show_locations(index: int, finding: Finding, opened: OpenedDataset) -> None:
    rows = [(location.image, location.annotation, location.detail or None) for location in finding.locations]
    table = pd.DataFrame(rows, columns=["Image", "Annotation", "Details"], dtype="string")
    table = table.dropna(axis="columns", how="all")
    key = f"places-{index}-{finding.kind}-{finding.split}"

    def open_row(row: int) -> None:
        if image := finding.locations[row].image:
            page_state.open_named(opened, finding.split, image)

    label = f"Locations: the first {len(table)} of {finding.count:,}" if finding.count > len(table) else "Locations"
    with st.expander(label, type="compact"):
        shown = page_state.images_of(opened, finding)
        opens = shown > 0 and any(location.image for location in finding.locations)
        if shown:
            with st.container(horizontal=True, vertical_alignment="center"):
                if opens:
                    st.caption("Select a row to open its image.", width="content")
                st.button(
                    f"Show {plural(shown, 'image')} in the grid",
                    key=f"show-{key}",
                    type="tertiary",
                    icon=":material/grid_view:",
                    on_click=page_state.show_images_of,
                    args=(opened, finding.split, finding.kind),
                )
        elif finding.image_names:
            st.caption("Left out, so that the page cannot show them.")
        height: Literal["auto"] | int = "auto" if len(table) <= _MAX_ROWS else 220
        label = f"Locations of {finding.kind}"
        show_table(table, label, open_row=open_row if opens else None, key=key, height=height)
