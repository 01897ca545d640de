"""Runs a prompt on one image, and shows the predictions of the base model and the adapter side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.data.prompts import normalized
from sam3_lora.predict.export import found_image
from sam3_lora.text import first_names
from sam3_lora.ui import resources
from sam3_lora.ui.adapters import DEMO_ADAPTER, explain_demo_model, short_name, taught_phrases
from sam3_lora.ui.components.layout import choose_one, empty_state, escape, guarded
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.inference import before_after_view, downloads, result_view, results, share_link
from sam3_lora.ui.inference.image_source import Source
from sam3_lora.ui.inference.prompt_form import PromptForm, prompt_phrases
from sam3_lora.ui.inference.view_state import ViewState
from sam3_lora.ui.runs import all_runs

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult

_COMPARISON = "inference-comparison"  # the last Comparison of this tab


def show(form: PromptForm, view: ViewState) -> None:
    """Runs the form's prompt if it was submitted, and shows the last predictions."""
    if form.submitted and form.source.pixels is not None:
        with guarded():
            shared = resources.get_predictor(adapter=form.prompt.model.folder, **form.prompt.model.loading)
            with st.spinner("Running the model"):
                predicted = results.compare(shared, form.prompt, form.source.pixels, view.answering)
            st.session_state[_COMPARISON] = predicted
    comparison: results.Comparison | None = st.session_state.get(_COMPARISON)
    if comparison is None:
        empty_state("image_search", "No predictions yet", "Choose an example, or an image, and press Prompt.")
        return
    if changed := _changed(comparison.prompt, form.prompt):
        image = escape(comparison.prompt.image_name)
        update = "Choose an image" if form.source.pixels is None else "Press Prompt to update"
        st.caption(f":material/history: Predictions for {image}. Changed since: {', '.join(changed)}. {update}.")
    if comparison.prompt.model.adapter == DEMO_ADAPTER and not all_runs():
        _offer_training()
    _show_both(comparison, view)
    _show_downloads(comparison, view, form.source)
    if comparison.prompt.model.adapter:  # without one the form says it
        explain_demo_model(comparison.prompt.model.base)


def _offer_training() -> None:
    """Draws where the adapter that ships with the app comes from, and the way to one's own."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="train-your-own"):
        st.caption("This adapter learned from 64 images, in minutes on two CPU cores.", width="content")
        st.page_link("pages/train.py", label="Now train your own", icon=":material/arrow_forward:")


def _changed(before: results.Prompt, now: results.Prompt) -> list[str]:
    """What of the form differs from the prompt whose predictions are shown."""
    changed = {
        "image": before.image_name != now.image_name,
        "phrases": before.phrases != now.phrases,
        "exemplar boxes": before.boxes != now.boxes,
        "adapter": (before.model.adapter, before.model.folder) != (now.model.adapter, now.model.folder),
        "base model": before.model.base != now.model.base,
        "references": before.references != now.references,
        "tiles": before.tiles != now.tiles,
    }
    return [name for name, differs in changed.items() if differs]


def _show_both(comparison: results.Comparison, view: ViewState) -> None:
    """Both models' predictions, and the table below them."""
    table = {"Base": (comparison.base, view.apply(comparison.base.results))}
    adapter = comparison.prompt.model.adapter
    hint = st.container()
    if adapter and view.slider:
        with guarded():
            table["Adapter"] = _of_adapter(comparison, view)
            before_after_view.show(comparison, table["Base"][1], table["Adapter"][1], view)
    else:
        left, right = st.columns(2, gap="medium")
        with left:
            answered = comparison.adapters.get(view.answering) if adapter else None
            found = answered is not None and any(len(one) for one in view.apply(answered.results).values())
            result_view.show("Base model", "base", comparison, *table["Base"], view, explained=not found)
        with right, guarded():
            if adapter:
                table["Adapter"] = _of_adapter(comparison, view)
                title = adapter if adapter == DEMO_ADAPTER else f"Adapter: {short_name(adapter)}"
                title += ", routed by phrase" if view.routing else ""
                title += f", strength {view.strength:g}" if view.strength != 1 else ""
                result_view.show(title, "adapter", comparison, *table["Adapter"], view)
            else:
                empty_state("layers", "No adapter selected", "Choose one above and press Prompt again.")
    if "Adapter" in table and not any(len(result) for result in table["Adapter"][1].values()):
        with hint:
            _offer_taught_phrases(comparison.prompt)
    show_table(
        results.counts_table(table, routed=view.routing is not None and "Adapter" in table),
        "Objects, area and best score of each phrase",
        {f"{model}: {what}": "%.2f" for model in table for what in ("best score", "area %")},
    )


def _offer_taught_phrases(prompt: results.Prompt) -> None:
    """Says what the adapter was taught where none of it was asked for."""
    taught = taught_phrases(prompt.model)
    if not taught or {normalized(phrase) for phrase in prompt.phrases} & {normalized(phrase) for phrase in taught}:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"This adapter was taught {escape(first_names(taught, 8))}.", width="content")
        st.button("Prompt these", "prompt-taught", type="tertiary", on_click=prompt_phrases, args=(taught[:8],))


def _of_adapter(comparison: results.Comparison, view: ViewState) -> tuple[results.Predictions, dict[str, PhraseResult]]:
    """The adapter's predictions, and what of them is shown."""
    predictions = comparison.adapters.get(view.answering)
    if predictions is None:
        shared = resources.get_predictor(adapter=comparison.prompt.model.folder, **comparison.prompt.model.loading)
        with st.spinner("Running the model"):
            predictions = results.with_adapter(shared, comparison, view.answering)
    return predictions, view.apply(predictions.results)


def _show_downloads(comparison: results.Comparison, view: ViewState, source: Source) -> None:
    """Downloads of one model's predictions, and the link to this prompt."""
    prompt = comparison.prompt
    models = {"Base model": comparison.base}
    if view.answering in comparison.adapters:
        models = {"Adapter": comparison.adapters[view.answering], **models}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = choose_one("Download", list(models), f"download-of-{len(models)}")
        name = Path(prompt.image_name)
        downloads.of_one_image(
            f"{name.stem}-{'adapter' if model == 'Adapter' else 'base'}",
            lambda: found_image(name.name, comparison.image.shape[:2], view.apply(models[model].results)),
            comparison.image,
            list(comparison.base.results),
            view.colors,
        )
        share_link.show(prompt, view.routing, source.in_dataset and prompt.image_name == source.name)
