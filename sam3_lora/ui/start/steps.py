"""The three steps from images to an adapter, with their states."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from sam3_lora.text import plural
from sam3_lora.ui import resources, runs
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.start import actions
from sam3_lora.ui.start.situation import Situation

State = Literal["done", "now", "later"]
_BADGES: dict[State, str] = {
    "done": ":green-badge[:material/check: Done]",
    "now": ":blue-badge[:material/arrow_forward: Next]",
    "later": ":gray-badge[Later]",
}


def states(now: Situation) -> tuple[State, State, State]:
    """How far data, train and try are."""
    has_adapter = any(each.adapter and not runs.may_find_nothing(each.status, each.f1) for each in now.of_dataset)
    is_evaluated = any(each.evaluated for each in now.of_dataset)
    data: State = "done" if now.has_data else "now"
    train: State = "later" if data == "now" else "done" if has_adapter and not now.active else "now"
    return data, train, "done" if is_evaluated else "now" if has_adapter else "later"


def show(now: Situation) -> None:
    """Draws the steps, each with what it is, where it stands and a link to its page."""
    data, train, tried = states(now)
    with st.container(key="steps", gap="xsmall"):
        _show_one(1, "Data", data, _about_data(now), {"Dataset": actions.DATASET_PAGE, "Label": actions.LABEL_PAGE})
        _show_one(
            2, "Train", train, _about_training(now), {"Configure": actions.CONFIGURE_PAGE, "Train": actions.TRAIN_PAGE}
        )
        about = "Prompt images, and measure what your adapter gained."
        _show_one(3, "Try", tried, about, {"Inference": actions.INFERENCE_PAGE, "Evaluate": actions.EVALUATE_PAGE})


def _show_one(number: int, title: str, state: State, about: str, pages: dict[str, str]) -> None:
    with st.container(border=True, key=f"step-{number}", horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{number}. {title}** {_BADGES[state]}  \n:small[{about}]", width="stretch")
        with st.container(width=120, gap=None):
            for label, page in pages.items():
                st.page_link(page, label=label, icon=":material/arrow_forward:")


def _about_data(now: Situation) -> str:
    if now.dataset is None and now.has_data:
        return f"{escape(resources.dataset_title(now.path))} is open."
    if now.dataset is None:
        return "Open annotated images and see what is wrong, or label some."
    known = now.dataset
    problems = f", {plural(known.errors, 'error')} to fix" if known.errors else ""
    counts = f"{plural(known.images, 'image')}, {plural(known.objects, 'object')}{problems}"
    return f"{escape(resources.dataset_title(now.path))}: {counts}."


def _about_training(now: Situation) -> str:
    if now.active:
        return f"In progress: {100 * runs.share_done(now.active.status):.0f} %."
    if now.best:
        return f"{plural(len(now.of_dataset), 'run')} on this dataset, best F1 {now.best.f1:.2f}."
    return "Adapt SAM 3, with every loss term in view."
