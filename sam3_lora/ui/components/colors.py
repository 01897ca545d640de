"""The colors of phrases: those of the dataset's categories, the same on every page."""

from __future__ import annotations

from collections.abc import Mapping

from sam3_lora.data.prompts import normalized, phrase_of
from sam3_lora.draw import Color, category_color, category_colors


class PhraseColors:
    """Colors of phrases: that of the first category with the phrase, otherwise one of the phrase's own.

    Args:
        categories: of the dataset, in its order.
        phrases: the user's own, by category.
    """

    def __init__(self, categories: tuple[str, ...], phrases: Mapping[str, str]) -> None:
        by_category = category_colors(categories)
        self._colors = {phrase_of(name, phrases): by_category[name] for name in reversed(categories)}

    def of(self, phrase: str) -> Color:
        """The color of a phrase."""
        return self._colors.get(normalized(phrase)) or category_color(phrase)
