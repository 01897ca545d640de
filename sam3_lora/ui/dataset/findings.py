"""The list of what is wrong with a dataset: what it is, what to do about it, and where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from sam3_lora.data.findings.findings import Finding
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import escape

OpenImage = Callable[[str, str], None]
ShowImages = Callable[[str, str], None]

# severity -> Material symbol, colour, word for many
_LOOK = {
    "error": ("error", "red", "errors"),
    "warning": ("warning", "orange", "warnings"),
    "info": ("info", "blue", "notes"),
}


def title_of(kind: str) -> str:
    """ "boxes-outside-image" -> "Boxes outside image"."""
    return kind.replace("-", " ").capitalize()


def show(findings: Sequence[Finding], open_image: OpenImage, show_images: ShowImages) -> None:
    """Draws the whole list in the given order.

    Args:
        findings: worst first, as :func:`sam3_lora.data.dataset.open_dataset` gives them.
        open_image: called with a split's name and a file name when one of the images is chosen.
        show_images: called with a split's name and a kind of finding when all of its images are asked for.
    """
    for index, finding in enumerate(findings):
        with st.container(gap="xxsmall", key=f"finding-{index}"):
            _show_words(finding)
            if any(place.image or place.annotation or place.detail for place in finding.locations):
                _show_places(index, finding, open_image, show_images)


def show_none(was_examined: bool) -> None:
    """Says that nothing is wrong, as far as was looked; was_examined: into every image."""
    told = "Nothing wrong was found." if was_examined else "Nothing wrong was found in the annotations."
    st.markdown(f":green[:material/check_circle:] {told}")


def show_worst(findings: Sequence[Finding], was_examined: bool, most: int = 2) -> None:
    """The first findings in words, without their places; infos only if there is nothing worse."""
    if not findings:
        show_none(was_examined)
        return
    serious = [finding for finding in findings if finding.severity != "info"] or findings
    for index, finding in enumerate(serious[:most]):
        with st.container(gap="xxsmall", key=f"worst-{index}"):
            _show_words(finding)


def summary(findings: Sequence[Finding]) -> str:
    """For example "2 errors, 1 warning"."""
    counts = Counter(finding.severity for finding in findings)
    parts = [(counts[severity], words) for severity, (_, _, words) in _LOOK.items() if counts[severity]]
    return ", ".join(f"{count} {words if count > 1 else words[:-1]}" for count, words in parts)


def _show_words(finding: Finding) -> None:
    icon, color, _ = _LOOK[finding.severity]
    where = f" :gray-badge[{escape(finding.split)}]" if finding.split else ""
    st.markdown(f":{color}[:material/{icon}:] **{title_of(finding.kind)}**{where}")
    st.markdown(escape(finding.message))
    st.caption(f":material/arrow_forward: {escape(finding.fix)}")


def _show_places(index: int, finding: Finding, open_image: OpenImage, show_images: ShowImages) -> None:
    rows = [(place.image, _text(place.annotation), place.detail or None) for place in finding.locations]
    places = pd.DataFrame(rows, columns=["Image", "Annotation", "What is there"]).dropna(axis="columns", how="all")
    key = f"places-{index}-{finding.kind}-{finding.split}"

    def open_chosen() -> None:
        chosen = [finding.locations[row].image for row in st.session_state[key].selection.rows]
        if chosen and chosen[0]:
            open_image(finding.split, chosen[0])

    label = f"Where: the first {len(places)} of {finding.count:,}" if finding.count > len(places) else "Where"
    with st.expander(label, type="compact"):
        if "Image" in places:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption("Tick a row to open its image.", width="content")
                if finding.image_names:
                    st.button(
                        f"Show {plural(len(finding.image_names), 'image')} in the grid",
                        key=f"show-{key}",
                        type="tertiary",
                        icon=":material/grid_view:",
                        on_click=show_images,
                        args=(finding.split, finding.kind),
                    )
        st.dataframe(
            places,
            key=key,
            hide_index=True,
            on_select=open_chosen,
            selection_mode="single-row",
            height=min(36 * (len(places) + 1) + 2, 220),
            alt=f"Where {finding.kind} was found",
        )


def _text(value: int | str | None) -> str | None:
    return None if value is None else str(value)
