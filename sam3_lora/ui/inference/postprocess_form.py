"""The controls of post-processing: score threshold, non-maximum suppression, merging, and evaluated thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from sam3_lora.data.prompts import normalized
from sam3_lora.predict.postprocess import DUPLICATE_IOU, PostprocessConfig
from sam3_lora.text import short
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.inference.results import MIN_THRESHOLD
from sam3_lora.ui.state import ADVISED_THRESHOLDS

_THRESHOLD, _USE_ADVISED = "threshold", "use_advised"  # keys
_STEP = 0.05  # of the threshold
_OFF = 1.0  # no overlap is larger
# field of PostprocessConfig -> label, name in the summary, default and help
_OVERLAPS = {
    "box_iou": (
        "Box NMS IoU",
        "box NMS",
        _OFF,
        "Of two objects whose boxes overlap by more than this IoU, only the one with the higher score stays. 1 is off.",
    ),
    "mask_iou": (
        "Mask NMS IoU",
        "mask NMS",
        DUPLICATE_IOU,
        "Of two objects whose masks overlap by more than this IoU, only the one with the higher score stays. "
        "1 keeps duplicates.",
    ),
    "mask_iom": (
        "Max. containment (IoM)",
        "containment",
        _OFF,
        "Of two objects whose masks share more than this fraction of the smaller one (intersection over minimum), "
        "only the one with the higher score stays. This also removes parts of objects that were found whole. 1 is off.",
    ),
    "merge": (
        "Merge masks above overlap",
        "merge",
        _OFF,
        "Objects whose masks share more than this fraction of the smaller one become one object, such as the pieces "
        "of one crack. 1 is off.",
    ),
}


def choose_threshold(overridden: bool) -> float:
    """Draws the slider of the least score that is shown.

    Args:
        overridden: every phrase has a threshold of its own, so that the slider changes nothing.
    """
    meaning = (
        "The score says how sure the model is of an object, from 0 to 1. Objects below the threshold are hidden, "
        f"of both models; no model runs again, since objects from {MIN_THRESHOLD:.2f} on are kept."
    )
    reason = "Every phrase has a threshold of its own, from the evaluation. Switch them off below to use this one."
    return st.slider(
        "Score threshold",
        MIN_THRESHOLD,
        0.95,
        0.5,
        _STEP,
        key=_THRESHOLD,
        persist_state="session",
        disabled=overridden,
        help=reason if overridden else meaning,
    )


def show_from(score: float) -> float:
    """The highest threshold of the slider at which an object of this score is shown."""
    return max(MIN_THRESHOLD, round(int(score / _STEP + 1e-6) * _STEP, 2))


def lower_threshold(threshold: float) -> None:
    """Sets the slider for all phrases."""
    st.session_state[_THRESHOLD] = threshold
    st.session_state[_USE_ADVISED] = False


def choose_postprocess(threshold: float) -> PostprocessConfig:
    """Draws all further steps; each has a value at which it changes nothing."""
    presence = st.toggle(
        "Multiply scores by presence",
        True,
        key="use_presence",
        persist_state="session",
        help="SAM 3 predicts for the whole image whether the phrase is present, and multiplies each score by that. "
        "Switch it off to see objects of a phrase that the model takes for absent.",
    )
    overlaps = {
        key: st.slider(label, 0.05, _OFF, default, 0.05, key=key, persist_state="session", help=meaning)
        for key, (label, _, default, meaning) in _OVERLAPS.items()
    }
    largest = st.number_input(
        "Max. objects per phrase",
        1,
        None,
        None,
        placeholder="all",
        key="largest",
        persist_state="session",
        help="Keeps those with the largest masks.",
    )
    steps = {key: None if value >= _OFF else value for key, value in overlaps.items()}
    return PostprocessConfig(threshold=threshold, use_presence=presence, largest=largest, **steps)


def advised_thresholds(phrases: Sequence[str], adapter: str | None) -> dict[str, float]:
    """The thresholds that an evaluation of this adapter found best for these phrases, as far as there are any."""
    advised = st.session_state.get(ADVISED_THRESHOLDS, {}).get(adapter, {})
    stored = {normalized(phrase): value for phrase, value in advised.items()}
    return {phrase: stored[normalized(phrase)] for phrase in phrases if normalized(phrase) in stored}


def uses_advised() -> bool:
    """Whether these thresholds are in force."""
    return bool(st.session_state.get(_USE_ADVISED, True))


def choose_thresholds(known: Mapping[str, float]) -> dict[str, float]:
    """Draws the toggle of the thresholds that an evaluation found best; returns them, if it is on."""
    if not known:
        return {}
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle(
            "Thresholds from the evaluation",
            True,
            key=_USE_ADVISED,
            persist_state="session",
            help="They replace the slider's threshold for these phrases.",
        )
        st.caption(
            escape(", ".join(f"{short(phrase)} {value:.2f}" for phrase, value in known.items())), width="content"
        )
    return dict(known) if wanted else {}


def active_steps(config: PostprocessConfig) -> list[str]:
    """What differs from the defaults, such as ["box NMS 0.50", "presence ignored"]."""
    steps = [
        f"{name} {value:.2f}"
        for key, (_, name, default, _) in _OVERLAPS.items()
        if (value := getattr(config, key)) not in (None, default)
    ]
    if config.mask_iou is None:
        steps.append("duplicates kept")
    if not config.use_presence:
        steps.append("presence ignored")
    if config.largest is not None:
        steps.append(f"largest {config.largest} per phrase")
    return steps
