"""The component that an image is labelled in: the image, its objects as a list, and one line of keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import streamlit as st

from sam3_lora.data.records import ImageRecord
from sam3_lora.draw import MASK_OPACITY, Color, ink
from sam3_lora.errors import DataError
from sam3_lora.label.decisions import LabelObject
from sam3_lora.label.proposals import pixels_of
from sam3_lora.label.work import Answer, Doubt, Item, Work
from sam3_lora.masks import decode_resized, mask_area
from sam3_lora.ui.components.images import RECORD_KEY, data_url, fitted_hw
from sam3_lora.ui.components.javascript import component
from sam3_lora.ui.components.viewer import LONGEST, outline_of, viewer_object

_LABELLER = component("labeller", html='<div class="sam3-labeller"></div>', uses="image_stage")
KEY = "labeller"
_VIEW_HEIGHT = 560  # pixels on the screen, at most where the window is no larger
_DOUBTS: dict[tuple[Doubt, bool], str] = {  # of a label, or of what the model proposes
    ("missed", False): "Not in the labels",
    ("wrong-class", True): "Label: the model finds another phrase",
    ("wrong-class", False): "The model's phrase for it",
    ("poor-mask", True): "Label: the model's mask differs",
    ("poor-mask", False): "The model's mask for it",
    ("not-found", True): "Label: the model finds nothing",
}


def show(
    work: Work,
    path: Path,
    record: ImageRecord | None,
    colors: Mapping[str, Color],
    session: str,
    heard: int,
    progress: Sequence[str],
    can_go_back: bool,
    on_answer: Callable[[Answer], None],
) -> None:
    """Draws the image.

    Args:
        work: the image.
        path: of its file.
        record: its entry where a dataset is reviewed.
        colors: of all phrases, in the order of their keys.
        session: changes when the numbers of answers begin again.
        heard: the number of the last answer that was taken over.
        progress: lines that say how far the session is, the first in bold.
        can_go_back: whether there is an image before.
        on_answer: called with each answer, before the page is drawn again.

    Raises:
        DataError: the image cannot be read.
    """

    def hear() -> None:
        try:
            answer = msgspec.convert(dict(st.session_state[KEY]["answer"]), Answer)
        except (msgspec.ValidationError, TypeError):  # nothing that this component sends
            return
        on_answer(answer)

    names = list(colors)
    data = {
        "session": session,
        "heard": heard,
        "imageKey": work.image,
        "name": work.image,
        "progress": list(progress),
        "stage": {
            "image": _picture(path, record, _stamp(path)),
            "width": work.size_hw[1],
            "height": work.size_hw[0],
            "viewHeight": _VIEW_HEIGHT,
            "label": f"{work.image}, large",
            "show": {"masks": True, "boxes": True, "labels": True, "opacity": MASK_OPACITY},
            "focus": None,
        },
        "items": [_item(item, colors, work.size_hw) for item in work.items],
        "boxes": [msgspec.to_builtins(box) for box in work.boxes],
        "incomplete": work.incomplete,
        "phrases": [{"name": name, "color": _css(colors[name]), "ink": _css(ink(colors[name]))} for name in names],
        "canGoBack": can_go_back,
    }
    _LABELLER(key=KEY, data=data, default={"answer": None}, on_answer_change=hear, height="content")


@st.cache_data(max_entries=8, show_spinner=False, hash_funcs=RECORD_KEY)
def _picture(path: Path, record: ImageRecord | None, stamp: tuple[int, int]) -> str:
    """An image as a data URL; stamp: changes with the file. Raises DataError if it cannot be read."""
    return data_url(pixels_of(path.parent, path.name, record)[0], LONGEST)


def prepare(path: Path, record: ImageRecord | None) -> None:
    """Makes the picture of the image that probably comes next."""
    with suppress(DataError):  # it is told when its turn comes
        _picture(path, record, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _item(item: Item, colors: Mapping[str, Color], size_hw: tuple[int, int]) -> dict[str, Any]:
    """An object as labeller.js takes it."""
    one = item.object
    x0, y0, x1, y1 = one.box_xyxy
    area = None if one.rle is None else mask_area(one.rle, size_hw)
    outline = _outline(one.rle, size_hw) if one.rle is not None else ""
    shown = viewer_object(item.phrase, colors[item.phrase], (x0, y0, x1 - x0, y1 - y0), outline, area, size_hw)
    about = _DOUBTS[item.doubt, one.source == "annotation"] if item.doubt else ""
    return {
        "id": item.id,
        "phrase": item.phrase,
        "score": one.score,
        "state": item.state,
        "source": one.source,
        "rival": item.rival,
        "kept": item.kept,
        "about": about or _about(one),
        "corners": list(one.box_xyxy),
        "shown": shown | {"crowd": one.iscrowd},
    }


def _about(one: LabelObject) -> str:
    if one.iscrowd:
        return "A crowd, kept as it is"
    if one.source == "drawn":
        return "Drawn" if one.rle else "Drawn: SAM 3 has no mask for it, the box is kept"
    return "Label" if one.source == "annotation" else ""


def _css(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


@st.cache_data(max_entries=2_000, show_spinner=False)
def _outline(rle: dict[str, Any], size_hw: tuple[int, int]) -> str:
    """A mask as an SVG path in pixels of the image."""
    to_hw = fitted_hw(size_hw, LONGEST)
    try:
        mask = decode_resized(rle, size_hw, to_hw)
    except DataError:
        return ""
    if not mask.any():
        return ""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = size_hw[1] / to_hw[1], size_hw[0] / to_hw[0]
    return outline_of(inside, (int(columns[0]), int(rows[0])), scale)
