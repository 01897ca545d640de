"""How predictions are shown on the inference page: post-processing, adapter strength and colors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.draw import Color, category_colors
from sam3_lora.errors import DataError
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.routing import Routing
from sam3_lora.ui import resources
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.layout import choose_one
from sam3_lora.ui.components.tiles_choice import choose_tiles
from sam3_lora.ui.inference import postprocess_form, routing_form
from sam3_lora.ui.inference.prompt_form import TILES
from sam3_lora.ui.inference.results import Answering, Prompt
from sam3_lora.ui.next_run import phrases_of_dataset

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult

BY_PHRASE, BY_OBJECT = "By phrase", "By object"
SIDE_BY_SIDE, SLIDER = "Side by side", "Slider"
_MAX_STRENGTH = 1.5
_OBJECT_COLORS = 40  # as many as there are distinct colors


class ObjectColors:
    """The color of each object: its phrase's, or one of its own by its place among all objects."""

    def __init__(self, phrases: PhraseColors, by: str) -> None:
        self._phrases, self._by = phrases, by

    def of(self, phrase: str, index: int) -> Color:
        """The color of the object at this place among all objects of the image."""
        if self._by == BY_PHRASE:
            return self._phrases.of(phrase)
        names = tuple(f"object {number}" for number in range(_OBJECT_COLORS))
        return category_colors(names)[names[index % len(names)]]


@dataclass(frozen=True)
class ViewState:
    """What the controls above the predictions hold."""

    postprocess: PostprocessConfig
    thresholds: dict[str, float]  # of the phrases that have one of their own
    strength: float  # of the adapter
    routing: Routing | None  # None: the adapter answers every phrase
    colors: ObjectColors
    slider: bool = False  # base model and adapter are one picture with a slider
    boxes: bool = False  # are drawn, too

    @property
    def answering(self) -> Answering:
        """How the adapter is used."""
        return self.strength, self.routing

    def apply(self, results: Mapping[str, PhraseResult]) -> dict[str, PhraseResult]:
        """What of the results is shown, by phrase."""
        for result in results.values():
            _ = result.areas  # counted once here, and handed on to whatever is left of it
        return postprocess_all(results, self.postprocess, self.thresholds)

    def summary(self) -> str:
        """Thresholds and post-processing as a line under a folder's results, such as "score ≥ 0.50"."""
        own = [f"{phrase} ≥ {value:.2f}" for phrase, value in self.thresholds.items()]
        steps = postprocess_form.active_steps(self.postprocess)
        routed = ["routed by phrase"] if self.routing else []
        return ", ".join([f"score ≥ {self.postprocess.threshold:.2f}", *own, *steps, *routed])


def choose(prompt: Prompt) -> ViewState:
    """Draws the controls.

    Args:
        prompt: its phrases may have thresholds of their own; without an adapter neither strength nor routing can be
            chosen.
    """
    model, advised = prompt.model, postprocess_form.advised_thresholds(prompt.phrases, prompt.model.adapter)
    every = bool(advised) and len(advised) == len(prompt.phrases) and not prompt.boxes
    by_threshold, by_strength, by_layout, by_options = st.columns(
        [4, 4, 5, 4], gap="medium", vertical_alignment="bottom"
    )
    with by_threshold:
        threshold = postprocess_form.choose_threshold(every and postprocess_form.uses_advised())
    with by_strength:
        strength = st.slider(
            "Adapter strength",
            0.0,
            _MAX_STRENGTH,
            1.0,
            0.1,
            key="strength",
            persist_state="session",
            disabled=model.adapter is None,
            help="0 is the base model, 1 the adapter as trained; higher values exaggerate what it learned.",
        )
    with by_layout:
        layout = choose_one(
            "View",
            (SIDE_BY_SIDE, SLIDER),
            "compare-view",
            persist_state="session",
            disabled=model.folder is None,
            help="Slider: base model and adapter as one picture, for a full screen and as a GIF.",
        )
    with by_options, st.popover("Options", icon=":material/tune:", key="options", width="stretch"):
        by = choose_one("Colors", (BY_PHRASE, BY_OBJECT), "color-by", persist_state="session")
        boxes = st.toggle(
            "Boxes",
            key="show-boxes",
            persist_state="session",
            help="The model predicts boxes and masks separately: they need not agree to the pixel.",
        )
        routing = routing_form.choose(model)
        choose_tiles(TILES, model.base)
        st.divider()
        st.caption("Post-processing. The defaults suit most images.")
        config = postprocess_form.choose_postprocess(threshold)
    thresholds = postprocess_form.choose_thresholds(advised)
    routing_form.explain(model, routing)
    if steps := postprocess_form.active_steps(config):  # so that nobody misses objects without knowing why
        st.caption(f":material/cleaning_services: Post-processing: {', '.join(steps)}.")
    colors = ObjectColors(_phrase_colors(prompt.phrases), by)
    slider = model.folder is not None and layout == SLIDER
    return ViewState(config, thresholds, round(strength, 2), routing, colors, slider, boxes)


def _phrase_colors(phrases: tuple[str, ...]) -> PhraseColors:
    """As the open dataset's categories are colored on its page, and the prompt's other phrases unlike them."""
    path = resources.current_dataset()
    try:
        categories = resources.open_dataset(path).categories
    except DataError:
        return PhraseColors((), {}, phrases)
    return PhraseColors(categories, phrases_of_dataset(path), phrases)
