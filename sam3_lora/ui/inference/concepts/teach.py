"""*Teach a word*: a concept is learned from a few examples in the background, then prompted by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from sam3_lora.errors import Cancelled, DataError
from sam3_lora.text import plural
from sam3_lora.ui import resources
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.background_job import BackgroundJob
from sam3_lora.ui.components.job_progress import show_job
from sam3_lora.ui.components.layout import action_button, choose_one, download, escape, kept_error, show_kept_error
from sam3_lora.ui.inference import exemplar_boxes
from sam3_lora.ui.inference.concepts import known

if TYPE_CHECKING:
    from sam3_lora.concepts.learn import Example
    from sam3_lora.model.concept import ConceptCard

FROM_CATEGORY, FROM_BOXES = "A category of the dataset", "Boxes that are drawn"
_PROBLEM, _NAME, _CATEGORY, _COUNT = "teach-problem", "teach-name", "teach-category", "teach-count"
_MAX_IMAGES = 10


@dataclass(frozen=True)
class TeachRequest:
    """What is learned."""

    name: str


TeachJob = BackgroundJob[TeachRequest, "ConceptCard"]


@st.cache_resource(show_spinner=False)
def teach_job() -> TeachJob:
    """The learning of this process."""
    return BackgroundJob("learning of a word")


def offer(model: ModelChoice, use: Callable[[str], None]) -> None:
    """Draws the button that opens the form.

    Args:
        model: that learns the concept: the base model, or it with an adapter.
        use: a callback that puts text into the phrases and prompts.
    """
    with st.popover("Teach a word", icon=":material/school:", key="teach"):
        st.caption(
            "Learns what you mean from a few examples, in seconds to minutes, without changing the model. It is then "
            "prompted by its name, such as <my crack>."
        )
        _show_form(model, teach_job())
        _show_known(use)


def show_progress(use: Callable[[str], None]) -> None:
    """Draws how far learning is, or that it has ended, until the word is prompted. use: see :func:`offer`."""
    job = teach_job()
    snapshot = job.snapshot()
    if not show_job(job, snapshot, "Stop", "teach-stop", "Nothing is kept") and snapshot.result is not None:
        _show_learned(job, snapshot.result, use)


def _show_form(model: ModelChoice, job: TeachJob) -> None:
    word = st.text_input("Name", key=_NAME, placeholder="my crack", max_chars=60)
    kind = choose_one("Examples", (FROM_CATEGORY, FROM_BOXES), "teach-from")
    drawn = exemplar_boxes.boxed_images()
    if kind == FROM_CATEGORY:
        dataset = resources.open_dataset(resources.current_dataset())
        st.selectbox("Category", dataset.categories, key=_CATEGORY)
        st.slider("Images with it", 1, _MAX_IMAGES, 5, key=_COUNT, help="As many without it teach what it is not")
        reason = None
    else:
        positive = sum(any(box.positive for box in one.boxes) for one in drawn)
        st.caption(
            f"{plural(positive, 'image')} with positive boxes, {len(drawn) - positive} with negative ones alone. Turn "
            "on *Draw exemplar boxes*; draw one around every object of an image. An image with negative boxes alone "
            "is an example of what it is not."
        )
        reason = None if positive else "Draw a positive box first"
    if not (word or "").strip():
        reason = "Give it a name"
    if job.snapshot().active:
        reason = "A word is being learned"

    def start() -> None:
        with kept_error(_PROBLEM):
            chosen = _from_category() if kind == FROM_CATEGORY else _from_boxes()
            _start(job, model, word, chosen)

    action_button("Learn", "school", "teach-start", reason, type="primary", on_click=start)
    show_kept_error(_PROBLEM)


def _from_category() -> list[Example]:
    from sam3_lora.concepts.references import examples_of_category

    dataset = resources.open_dataset(resources.current_dataset())
    names = [name for name, split in dataset.splits.items() if split.num_objects]
    if not names:
        raise DataError("The dataset has no annotated object", "Open another one, or draw boxes")
    split = dataset.split("train" if "train" in names else names[0])
    return examples_of_category(split, st.session_state[_CATEGORY], st.session_state[_COUNT], seed=0)


def _from_boxes() -> list[Example]:
    from sam3_lora.concepts.learn import Example

    examples = []
    for one in exemplar_boxes.boxed_images():
        positive = [box.box_xyxy for box in one.boxes if box.positive]
        examples.append(Example(one.image, np.array(positive, np.float64).reshape(-1, 4)))
    return examples


def _start(job: TeachJob, model: ModelChoice, name: str, examples: list[Example]) -> None:
    from sam3_lora.concepts.learn import LearnProgress, check_examples, learn
    from sam3_lora.model.concept import check_name, save

    name = check_name(name)
    check_examples(examples)
    shared = resources.get_predictor(adapter=model.folder, **model.loading)

    def report(step: LearnProgress) -> None:
        if job.is_cancelled():
            raise Cancelled
        job.report(step.step / step.steps, f"Step {step.step} of {step.steps}, loss {step.loss:.1f}")

    def work() -> ConceptCard:
        with shared.lock:
            before = shared.predictor.strength
            shared.predictor.strength = 1.0 if shared.predictor.has_adapter else 0.0
            try:
                concept = learn(shared.predictor, name, examples, progress=report)
            finally:
                shared.predictor.strength = before
        save(concept, known.path_of(name))
        return concept.card

    job.start(TeachRequest(name), work)


def _show_learned(job: TeachJob, card: ConceptCard, use: Callable[[str], None]) -> None:
    def prompt() -> None:
        job.forget()
        use(f"<{card.name}>")

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        counts = f"{plural(card.images, 'image')}, {plural(card.negatives, 'image')} without it"
        st.caption(f":green[:material/check:] Learned {escape(f'<{card.name}>')} from {counts}.", width="content")
        st.button("Prompt it", key="teach-use", type="tertiary", on_click=prompt)


def _show_known(use: Callable[[str], None]) -> None:
    found = known.cards()
    if not found:
        return
    st.markdown("**Known words**")
    for place, (path, card) in enumerate(found.items()):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                escape(f"<{card.name}>"),
                key=f"concept-{place}",
                type="tertiary",
                on_click=use,
                args=(f"<{card.name}>",),
            )
            st.caption(plural(card.images, "image"), width="stretch")
            download(
                "Download", path.read_bytes, path.name, f"concept-file-{place}", "The word as a file", type="tertiary"
            )
            st.button("Delete", key=f"concept-delete-{place}", type="tertiary", on_click=_delete, args=(path,))


def _delete(path: Path) -> None:
    with kept_error(_PROBLEM):
        known.delete(path)
