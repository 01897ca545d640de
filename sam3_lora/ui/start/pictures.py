"""The start page's slider: an image of the demo, and what is found in it; made by scripts/make_start_pictures.py."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import streamlit as st

from sam3_lora.config import ASSETS
from sam3_lora.files import MB, read_file
from sam3_lora.runs.samples import Sample
from sam3_lora.text import plural
from sam3_lora.ui import runs
from sam3_lora.ui.components.before_after import before_after, file_url
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.start.situation import RunFacts

FOLDER = ASSETS / "demo" / "start"
BEFORE, AFTER, FACTS = "before.webp", "after.webp", "pictures.json"
_MAX_SAMPLE = 3_000_000  # bytes of a picture


class Facts(msgspec.Struct, frozen=True):
    """What the two pictures show."""

    image: str  # its file name
    objects: list[str]  # the category of each object that is drawn
    predicted: bool  # by the adapter that ships with the app; otherwise the annotations are drawn
    base_found: int  # phrases for which the base model alone finds something


def read_facts() -> Facts:
    """What the pictures show. Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(read_file(FOLDER / FACTS, MB), type=Facts)


def show(best: RunFacts | None = None) -> None:
    """Draws the slider: with the sample predictions of a run if it has made some that show what it has learned.

    Args:
        best: the run.
    """
    pair = learned(best.run.samples(), best.status.best_step) if best else None
    if best is None or pair is None:
        _show_shipped()
        return
    before, after = pair
    about = escape(runs.run_title(best.run.name))
    st.caption(
        f"Sample predictions of {about} on {escape(after.image)}; thin outlines: the {plural(after.objects, 'object')} "
        "annotated."
    )
    before_after(
        f"samples-{best.run.name}",
        file_url(before.path),
        file_url(after.path),
        labels=(f"Base model: {before.found} predicted", f"Adapter: {after.found} predicted"),
        alts=("The predictions of the base model", "The predictions of the adapter on the same image"),
        name="Base model and adapter: drag, or use the arrow keys",
        start=15,
    )


def learned(samples: Sequence[Sample], step: int | None) -> tuple[Sample, Sample] | None:
    """The image whose predictions have come nearest to its annotations, by their number: before training and after.

    Args:
        samples: of a run.
        step: after which the adapter was saved; None for the last one with samples.

    Returns:
        None where no image has more objects found than by the base model, or where pictures are too large to send.
    """
    steps = {each.step for each in samples if step is None or each.step <= step}
    last = max(steps, default=0)
    before = {each.image: each for each in samples if each.step == 0}
    pairs = [(before[each.image], each) for each in samples if each.step == last and each.image in before]
    gained = [(one, other) for one, other in pairs if one.found < other.found <= other.objects]
    if not gained:
        return None
    pair = max(gained, key=lambda both: both[1].found - both[0].found)
    return pair if all(0 < _size(each.path) < _MAX_SAMPLE for each in pair) else None


def _size(path: Path) -> int:
    """Of a file in bytes; 0 where it cannot be read."""
    try:
        return path.stat().st_size if os.access(path, os.R_OK) else 0
    except OSError:
        return 0


def _show_shipped() -> None:
    facts = read_facts()
    found = plural(len(facts.objects), "object")
    named = ", ".join(dict.fromkeys(facts.objects))
    right = "With a LoRA adapter" if facts.predicted else "What an adapter learns to find"
    left = "The base model alone" if facts.base_found else "The base model finds nothing"
    before_after(
        "start-pictures",
        file_url(FOLDER / BEFORE),
        file_url(FOLDER / AFTER),
        labels=(left, right),
        alts=("A pavement, with nothing found on it", f"The same pavement with {found} outlined: {named}"),
        name="Before and after: drag, or use the arrow keys",
        start=38,
    )
