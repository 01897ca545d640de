"""One model's predictions on the screen: the image with its objects, to zoom into and to hover over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from sam3_lora.draw import MASK_OPACITY
from sam3_lora.text import plural
from sam3_lora.ui.components.images import fitted_hw
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.viewer import mount, outline_of, viewer_object
from sam3_lora.ui.inference.postprocess_form import lower_threshold, show_from
from sam3_lora.ui.inference.results import MIN_THRESHOLD, SENT_SIZE, Comparison, Predictions, best_hidden_score
from sam3_lora.ui.inference.view_state import ObjectColors, ViewState

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult

MAX_DRAWN = 200  # objects in one image, the best ones
_VIEW_HEIGHT = 430  # pixels on the screen, at most where the window is no larger


def show(
    title: str,
    key: str,
    comparison: Comparison,
    predictions: Predictions,
    shown: Mapping[str, PhraseResult],
    view: ViewState,
    explained: bool = True,
) -> None:
    """Draws one model's predictions under its title.

    Args:
        title: the model's name, with its strength.
        key: "base" or "adapter".
        comparison: which the predictions are part of.
        predictions: all of the model's.
        shown: what of them is drawn, by phrase.
        view: colors, and whether boxes are drawn.
        explained: whether to say what to try where no object is shown.
    """
    count = sum(len(result) for result in shown.values())
    st.markdown(f"**{escape(title)}** :gray[· {plural(count, 'object')} · {predictions.seconds:.2f} s]")
    height, width = comparison.image.shape[:2]
    data = {
        "image": comparison.image_url,
        "imageKey": f"{key} {id(comparison)}",
        "group": "predictions",
        "width": width,
        "height": height,
        "viewHeight": _VIEW_HEIGHT,
        "label": f"{title}: {plural(count, 'object')}",
        "alt": "",  # the whole viewer is one image, and has the label
        "objects": _objects(predictions, shown, view.colors),
        "show": {"masks": True, "boxes": view.boxes, "labels": True, "opacity": MASK_OPACITY},
        "focus": None,
    }
    with st.container(key=f"predictions-{key}"):
        mount(f"viewer-{key}", data)
    if count > MAX_DRAWN:
        st.caption(f"The {MAX_DRAWN} objects with the highest scores are drawn, of {count}.")
    if not count and explained:
        _explain_nothing(key, predictions, shown)


def _explain_nothing(key: str, predictions: Predictions, shown: Mapping[str, PhraseResult]) -> None:
    """Draws what to try where no object is shown: the highest score as a threshold, or another prompt."""
    best = best_hidden_score(predictions, shown)
    if best is None:
        from sam3_lora.structures import VISUAL

        fix = "draw another box" if VISUAL in predictions.results else "try other phrases"
        st.caption(f"No object scores {MIN_THRESHOLD:.2f} or more: {fix}.")
        return
    from_score = show_from(best)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"Highest score: {best:.2f}.", width="content")
        st.button(
            f"Show from {from_score:.2f}",
            key=f"show-from-{key}",
            type="tertiary",
            on_click=lower_threshold,
            args=(from_score,),
        )


def _objects(predictions: Predictions, shown: Mapping[str, PhraseResult], colors: ObjectColors) -> list[dict[str, Any]]:
    min_score = _min_drawn_score(shown)
    objects: list[dict[str, Any]] = []
    for phrase, result in shown.items():
        result = result.above(min_score)
        outlines = _outlines(predictions, result)
        for score, box, area, outline in zip(result.scores, result.boxes_xyxy, result.areas, outlines, strict=True):
            color, box_xywh = colors.of(phrase, len(objects)), (*box[:2], *(box[2:] - box[:2]))
            name = f"{phrase} {score:.2f}"
            objects.append(viewer_object(name, color, box_xywh, outline, int(area), result.size_hw))
    return objects


def _min_drawn_score(shown: Mapping[str, PhraseResult]) -> float:
    scores = np.sort(np.concatenate([result.scores for result in shown.values()]))[::-1]
    return float(scores[MAX_DRAWN - 1]) if len(scores) > MAX_DRAWN else 0.0


def _outlines(predictions: Predictions, result: PhraseResult) -> list[str]:
    """The masks as SVG paths in pixels of the image; each is made once."""
    height, width = result.size_hw
    size_hw = fitted_hw(result.size_hw, SENT_SIZE)
    to_image = width / size_hw[1], height / size_hw[0]
    keys = [(hashlib.blake2b(key, digest_size=16).digest(), size_hw) for key in result.mask_keys()]
    new = [index for index, key in enumerate(keys) if key not in predictions.outlines]
    at_size = replace(result.take(np.array(new, dtype=np.int64)), size_hw=size_hw)
    for index, piece in zip(new, at_size.mask_crops(), strict=True):
        empty = not piece.mask.size
        predictions.outlines[keys[index]] = "" if empty else outline_of(piece.mask, (piece.left, piece.top), to_image)
    return [predictions.outlines[key] for key in keys]
