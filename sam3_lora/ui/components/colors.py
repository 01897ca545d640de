"""The colors of phrases: those of the dataset's categories, the same on every page; legends of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from sam3_lora.data.prompts import normalized, phrase_of
from sam3_lora.draw import Color, category_color, category_colors
from sam3_lora.ui.components.layout import escape


class PhraseColors:
    """Colors of phrases: that of the first category with the phrase, otherwise one that none of these has.

    Args:
        categories: of the dataset, in its order.
        phrases: the user's own, by category.
        others: phrases that are shown beside those of the categories.
    """

    def __init__(self, categories: tuple[str, ...], phrases: Mapping[str, str], others: tuple[str, ...] = ()) -> None:
        of_category = {phrase_of(name, phrases): name for name in reversed(categories)}
        names = {normalized(phrase): phrase for phrase in others} | of_category
        colors = category_colors((*categories, *(name for name in names.values() if name not in categories)))
        self._colors = {phrase: colors[name] for phrase, name in names.items()}

    def of(self, phrase: str) -> Color:
        """The color of a phrase."""
        return self._colors.get(normalized(phrase)) or category_color(phrase)


def legend(entries: Sequence[tuple[str, str]], more: str = "") -> None:
    """Draws one line with the square of each entry.

    Args:
        entries: the style of the square, as CSS, and its meaning.
        more: text behind them.
    """
    square = "display: inline-block; width: 0.75em; height: 0.75em; border-radius: 2px"
    parts = [
        f'<span style="white-space: nowrap; margin-right: 1.25em">'
        f'<span style="{square}; {style}"></span> {escape(meaning)}</span>'
        for style, meaning in entries
    ]
    if text := " ".join(filter(None, [*parts, more])):  # no caption: it would fade the colors
        st.markdown(f"<small>{text}</small>", unsafe_allow_html=True)


def swatch(color: Color) -> str:
    """The style of a legend's square in this color."""
    return f"background: rgb{color}"
