"""How answers are thinned out on the inference page: threshold, advised thresholds, cleaning up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from sam3_lora.predict.postprocess import DUPLICATE_IOU, PostprocessConfig
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.inference.results import LOWEST_THRESHOLD

ADVISED = "advised_thresholds"  # dict phrase -> score threshold, which the evaluate page sets
_OFF = 1.0  # no overlap is larger
_DEFAULTS = {"mask_iou": DUPLICATE_IOU}
# key -> label, and what it does in words
_OVERLAPS = {
    "box_iou": ("Boxes may overlap by", "Of two objects whose boxes overlap by more (IoU), the better one stays."),
    "mask_iou": (
        "Masks may overlap by",
        "Of two objects whose masks overlap by more (IoU), the better one stays: the other is a copy of it. "
        "1 leaves copies in.",
    ),
    "mask_iom": (
        "A part may lie in a whole by",
        "Of two objects the better one stays if their masks share more than this of the smaller one: "
        "takes away parts of objects that were found as a whole, too.",
    ),
    "merge": (
        "Pieces become one above",
        "Objects whose masks share more than this of the smaller one are joined, as the pieces of one crack are.",
    ),
}


@dataclass(frozen=True)
class Chosen:
    """What is shown of an answer. thresholds: of the phrases that have their own."""

    how: PostprocessConfig
    thresholds: dict[str, float] = field(default_factory=dict)

    def in_words(self) -> str:
        """As a line under the result of a folder, such as "score 0.50 or more"."""
        own = "".join(f", {phrase} {value:.2f}" for phrase, value in self.thresholds.items())
        return f"score {self.how.threshold:.2f} or more{own}{', cleaned up' if _steps(self.how) else ''}"


def choose_threshold() -> float:
    return st.slider(
        "Score threshold",
        LOWEST_THRESHOLD,
        0.95,
        0.5,
        0.05,
        key="threshold",
        persist_state="session",
        help="For both models. Moving it asks neither again: every object that scores 0.05 or more is at hand.",
    )


def clean_up(threshold: float) -> PostprocessConfig:
    """The popover with all further steps; each has a value at which it changes nothing."""
    with st.popover("Clean up", icon=":material/cleaning_services:", key="clean-up", width="stretch"):
        presence = st.toggle(
            "Scores count whether the phrase is there at all",
            True,
            key="use_presence",
            persist_state="session",
            help="SAM 3 judges that for the whole image, and multiplies each score by it. Without it, objects of a "
            "phrase that it thinks absent come into sight.",
        )
        overlaps = {
            key: st.slider(
                label, 0.05, _OFF, _DEFAULTS.get(key, _OFF), 0.05, key=key, persist_state="session", help=meaning
            )
            for key, (label, meaning) in _OVERLAPS.items()
        }
        largest = st.number_input(
            "Keep the largest of each phrase",
            1,
            None,
            None,
            placeholder="all",
            key="largest",
            persist_state="session",
            help="At most so many objects, those with the largest masks.",
        )
    steps = {key: None if value >= _OFF else value for key, value in overlaps.items()}
    return PostprocessConfig(threshold=threshold, use_presence=presence, largest=largest, **steps)


def choose_advised(phrases: Sequence[str]) -> dict[str, float]:
    """The thresholds that an evaluation has advised for these phrases, if they are wanted."""
    advised = {_spelled(phrase): value for phrase, value in st.session_state.get(ADVISED, {}).items()}
    known = {phrase: advised[_spelled(phrase)] for phrase in phrases if _spelled(phrase) in advised}
    if not known:
        return {}
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle(
            "Thresholds that the evaluation advises",
            True,
            key="use_advised",
            persist_state="session",
            help="They hold for these phrases instead of the slider's",
        )
        st.caption(escape(", ".join(f"{phrase} {value:.2f}" for phrase, value in known.items())), width="content")
    return known if wanted else {}


def told(how: PostprocessConfig) -> None:
    """Says which steps are at work, so that nobody misses objects without knowing why."""
    if steps := _steps(how):
        st.caption(f":material/cleaning_services: Cleaned up: {', '.join(steps)}.")


def _steps(how: PostprocessConfig) -> list[str]:
    named = {
        "boxes overlap": how.box_iou,
        "masks overlap": None if how.mask_iou == DUPLICATE_IOU else how.mask_iou,
        "parts of wholes": how.mask_iom,
        "pieces joined": how.merge,
    }
    steps = [f"{name} {value:.2f}" for name, value in named.items() if value is not None]
    if how.mask_iou is None:
        steps.append("copies left in")
    if not how.use_presence:
        steps.append("presence left out")
    if how.largest is not None:
        steps.append(f"the {how.largest} largest" if how.largest > 1 else "the largest")
    return steps


def _spelled(phrase: str) -> str:
    return " ".join(phrase.lower().split())
