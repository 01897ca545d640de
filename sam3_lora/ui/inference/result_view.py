"""An answer on the screen: the image with what was found, to zoom into and to hover over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from sam3_lora.draw import Color, category_colors, ink
from sam3_lora.text import plural
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.viewer import mount, outline_of
from sam3_lora.ui.inference.results import SENT_SIZE, Answer, Comparison, hint

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult

BY_PHRASE, BY_OBJECT = "By phrase", "By object"
MAX_DRAWN = 200  # objects in one picture, the best ones
_COLUMN = 610  # pixels of a picture beside another one, about
_MIN_HEIGHT, _MAX_HEIGHT = 240, 430
_OPACITY = 0.4


def show(
    title: str,
    key: str,
    comparison: Comparison,
    answer: Answer,
    shown: Mapping[str, PhraseResult],
    colors: ObjectColors,
) -> None:
    """One model's answer under its title.

    Args:
        key: "base" or "adapter".
        shown: what of the answer is drawn.
    """
    found = sum(len(result) for result in shown.values())
    st.markdown(f"**{escape(title)}** :gray[· {plural(found, 'object')} · {answer.seconds:.2f} s]")
    height, width = comparison.image.shape[:2]
    data = {
        "image": comparison.picture,
        "imageKey": f"{key} {id(comparison)}",
        "group": "answers",
        "width": width,
        "height": height,
        "viewHeight": int(min(max(_COLUMN * height / width, _MIN_HEIGHT), _MAX_HEIGHT)),
        "label": f"{title}: {plural(found, 'object')}",
        "alt": "",  # the whole viewer is one image, and has the label
        "objects": _objects(answer, shown, colors),
        "show": {"masks": True, "boxes": True, "labels": True, "opacity": _OPACITY},
        "focus": None,
    }
    with st.container(key=f"answer-{key}"):
        mount(f"viewer-{key}", data)
    if found > MAX_DRAWN:
        st.caption(f"The best {MAX_DRAWN} of {found} are drawn.")
    if text := hint(answer, shown):
        st.caption(text)


class ObjectColors:
    """The colour of each object: its phrase's, or one of its own by its place among all objects."""

    def __init__(self, phrases: PhraseColors, by: str) -> None:
        self._phrases, self._by = phrases, by

    def of(self, phrase: str, place: int) -> Color:
        if self._by == BY_PHRASE:
            return self._phrases.of(phrase)
        names = tuple(f"object {number}" for number in range(40))  # as many as there are distinct colours
        return category_colors(names)[names[place % len(names)]]


def _objects(answer: Answer, shown: Mapping[str, PhraseResult], colors: ObjectColors) -> list[dict[str, Any]]:
    least = _least_drawn(shown)
    objects: list[dict[str, Any]] = []
    for phrase, result in shown.items():
        result = result.above(least)
        outlines = _outlines(answer, result)
        for score, box, area, outline in zip(result.scores, result.boxes_xyxy, result.areas, outlines, strict=True):
            color = colors.of(phrase, len(objects))
            objects.append(_object(phrase, float(score), box, int(area), outline, color, result.size_hw))
    return objects


def _least_drawn(shown: Mapping[str, PhraseResult]) -> float:
    scores = np.sort(np.concatenate([result.scores for result in shown.values()]))[::-1]
    return float(scores[MAX_DRAWN - 1]) if len(scores) > MAX_DRAWN else 0.0


def _object(
    phrase: str, score: float, box_xyxy: np.ndarray, area: int, outline: str, color: Color, size_hw: tuple[int, int]
) -> dict[str, Any]:
    x, y, right, bottom = (float(side) for side in box_xyxy)
    return {
        "name": f"{phrase} {score:.2f}",
        "color": "#{:02x}{:02x}{:02x}".format(*color),
        "ink": "#{:02x}{:02x}{:02x}".format(*ink(color)),
        "box": [x, y, right - x, bottom - y],
        "outline": outline,
        "crowd": False,
        "lines": [
            f"Mask {area:,} px, {100 * area / (size_hw[0] * size_hw[1]):.2f} % of the image",
            f"Box {x:.0f}, {y:.0f}, {right - x:.0f} × {bottom - y:.0f} px",
        ],
    }


def _outlines(answer: Answer, result: PhraseResult) -> list[str]:
    """The masks as SVG paths in pixels of the image; each is made once."""
    height, width = result.size_hw
    scale = min(1.0, SENT_SIZE / max(height, width))
    size_hw = max(1, round(height * scale)), max(1, round(width * scale))
    to_image = width / size_hw[1], height / size_hw[0]
    keys = [(hashlib.blake2b(logits.tobytes(), digest_size=16).digest(), size_hw) for logits in result.mask_logits]
    new = [index for index, key in enumerate(keys) if key not in answer.outlines]
    at_size = replace(result.take(np.array(new, dtype=np.int64)), size_hw=size_hw)
    for index, piece in zip(new, at_size.pieces(), strict=True):
        empty = not piece.mask.size
        answer.outlines[keys[index]] = "" if empty else outline_of(piece.mask, (piece.left, piece.top), to_image)
    return [answer.outlines[key] for key in keys]
