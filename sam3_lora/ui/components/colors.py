"""The colours of phrases: those of the dataset's categories, on whichever page they are asked."""

from __future__ import annotations

from collections.abc import Mapping

from sam3_lora.data.prompts import phrase_of
from sam3_lora.draw import Color, category_color, category_colors


class PhraseColors:
    """The colour of a phrase: that of the first category that asks it, else one of its own.

    Args:
        categories: of the dataset, in its order.
        phrases: the user's own words by category.
    """

    def __init__(self, categories: tuple[str, ...], phrases: Mapping[str, str]) -> None:
        by_category = category_colors(categories)
        self._colors = {phrase_of(name, phrases): by_category[name] for name in reversed(categories)}

    def of(self, phrase: str) -> Color:
        return self._colors.get(" ".join(phrase.lower().split())) or category_color(phrase)
