"""Runs a prompt on one image, and shows the predictions of the base model and the adapter side by side."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sam3_lora.predict.export import found_image
from sam3_lora.ui import resources
from sam3_lora.ui.components.layout import choose_one, empty_state, escape, guarded
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.inference import downloads, result_view, results, share_link
from sam3_lora.ui.inference.image_source import Source
from sam3_lora.ui.inference.prompt_form import PromptForm
from sam3_lora.ui.inference.view_state import ViewState

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
        st.caption(
            f":material/history: Predictions for {image}. Changed since: {', '.join(changed)}. Press Prompt to update."
        )
    _show_both(comparison, view)
    _show_downloads(comparison, view, form.source)


def _changed(before: results.Prompt, now: results.Prompt) -> list[str]:
    """What of the form differs from the prompt whose predictions are shown."""
    changed = {
        "image": before.image_name != now.image_name,
        "phrases": before.phrases != now.phrases,
        "exemplar boxes": before.boxes != now.boxes,
        "adapter": (before.model.adapter, before.model.folder) != (now.model.adapter, now.model.folder),
        "base model": before.model.base != now.model.base,
    }
    return [name for name, differs in changed.items() if differs]


def _show_both(comparison: results.Comparison, view: ViewState) -> None:
    """Both models' predictions, and the table below them."""
    table = {"Base": (comparison.base, view.apply(comparison.base.results))}
    left, right = st.columns(2, gap="medium")
    with left:
        result_view.show("Base model", "base", comparison, *table["Base"], view.colors)
    with right, guarded():
        if adapter := comparison.prompt.model.adapter:
            predictions = _adapter_predictions(comparison, view.answering)
            table["Adapter"] = (predictions, view.apply(predictions.results))
            routed = ", routed by phrase" if view.routing else ""
            title = f"Adapter {adapter}{routed}" + (f", strength {view.strength:g}" if view.strength != 1 else "")
            result_view.show(title, "adapter", comparison, *table["Adapter"], view.colors)
        else:
            empty_state("layers", "No adapter selected", "Choose one above and press Prompt again.")
    show_table(
        results.counts_table(table, routed=view.routing is not None and "Adapter" in table),
        "Objects, area and best score of each phrase",
        {f"{model}: {what}": "%.2f" for model in table for what in ("best score", "area %")},
    )


def _adapter_predictions(comparison: results.Comparison, answering: results.Answering) -> results.Predictions:
    if answering in comparison.adapters:
        return comparison.adapters[answering]
    shared = resources.get_predictor(adapter=comparison.prompt.model.folder, **comparison.prompt.model.loading)
    with st.spinner("Running the model"):
        return results.with_adapter(shared, comparison, answering)


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
