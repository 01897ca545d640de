"""The inference page: prompt an image or a folder; the base model and an adapter answer side by side."""

from pathlib import Path

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.prompts import split_phrases
from sam3_lora.errors import Sam3LoraError
from sam3_lora.predict.export import found_image
from sam3_lora.predict.postprocess import postprocess_all
from sam3_lora.ui import adapters, resources, state
from sam3_lora.ui.components.layout import empty_state, escape, guarded, page
from sam3_lora.ui.inference import (
    downloads,
    exemplar_boxes,
    folder_view,
    postprocess_form,
    prompt_form,
    result_view,
    results,
)
from sam3_lora.ui.inference.folder_job import FolderQuestion, folder_job

ANSWERS = "inference_answers"  # the last Comparison of this tab
SLIDER_MAX_STRENGTH = 1.5


def main() -> None:
    with page("Inference", "Name what to look for: the base model and your adapter answer side by side."):
        prompt_form.read_link()
        with st.container(border=True):
            left, right = st.columns(2, gap="large")
            adapter, phrases, pressed = None, [], False  # as long as the right side has a mistake to tell
            with left:
                source = prompt_form.choose_source()
                of_folder = source == prompt_form.FROM_FOLDER
                image = prompt_form.choose_image(source) if not of_folder else None
                folder = prompt_form.choose_folder() if of_folder else None
            drawing = False
            with right, guarded():
                adapter, phrases = choose_adapter_and_phrases()
                with st.container(horizontal=True, vertical_alignment="center"):
                    pressed = ask_button(not of_folder and image.pixels is None)
                    drawing = not of_folder and exemplar_boxes.switch(image.pixels is None)
                tell_of_the_base(adapter)
            boxes = exemplar_boxes.choose(image.name, image.pixels) if drawing else ()
        chosen, strength, colors = choose_how_to_show(phrases, adapter)
        asked = prompt_form.asks_by_itself() or pressed
        if of_folder:
            if asked:
                ask_folder(folder, phrases, adapter, strength, chosen, colors)
            folder_view.show(folder_job())
            return
        question = question_of(image.name, phrases, boxes, adapter)
        if asked and image.pixels is not None:
            ask(question, image.pixels, strength)
        comparison = st.session_state.get(ANSWERS)
        if comparison is None:
            empty_state("image_search", "No answers yet", "Choose an example, or an image, and press Prompt.")
            return
        show(comparison, question, chosen, strength, colors)
        take_away(comparison, chosen, strength, colors, image)


def choose_adapter_and_phrases() -> tuple[adapters.Adapter | None, list[str]]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        adapter = adapters.choose("adapter")
        adapters.upload("adapter")
    adapters.invite_to_train()
    return adapter, split_phrases(prompt_form.choose_phrases(adapter))


def ask_button(disabled: bool) -> bool:
    return st.button("Prompt", type="primary", key="prompt", icon=":material/play_arrow:", disabled=disabled)


def tell_of_the_base(adapter: adapters.Adapter | None) -> None:
    base = adapter.base if adapter else state.base_model()
    if base != DEMO:
        st.caption(f"Base model: {escape(base)}")
    if adapter is None:
        adapters.tell_of_the_demo(base)


def choose_how_to_show(
    phrases: list[str], adapter: adapters.Adapter | None
) -> tuple[postprocess_form.Chosen, float, result_view.ObjectColors]:
    """What of the answers is shown, the adapter's strength and the colours."""
    by_threshold, by_strength, by_color, by_steps = st.columns([3, 3, 2, 1.6], gap="large", vertical_alignment="bottom")
    with by_threshold:
        threshold = postprocess_form.choose_threshold()
    with by_strength:
        strength = st.slider(
            "Adapter strength",
            0.0,
            SLIDER_MAX_STRENGTH,
            1.0,
            0.1,
            key="strength",
            persist_state="session",
            disabled=adapter is None,
            help="0 is the base model, 1 the adapter as it was trained; beyond that what it learned is exaggerated.",
        )
    with by_color:
        by = st.segmented_control(
            "Colours",
            [result_view.BY_PHRASE, result_view.BY_OBJECT],
            default=result_view.BY_PHRASE,
            required=True,
            key="color-by",
            persist_state="session",
        )
    with by_steps:
        how = postprocess_form.clean_up(threshold)
    chosen = postprocess_form.Chosen(how, postprocess_form.choose_advised(phrases))
    postprocess_form.told(how)
    return chosen, round(strength, 2), result_view.ObjectColors(prompt_form.phrase_colors(), by)


def question_of(
    image_name: str, phrases: list[str], boxes: tuple[results.ExemplarBox, ...], adapter: adapters.Adapter | None
) -> results.Prompt:
    return results.Prompt(
        image_name,
        tuple(phrases),
        boxes,
        adapter.base if adapter else state.base_model(),
        adapter.name if adapter else None,
        adapter.folder if adapter else None,
    )


def ask(question: results.Prompt, pixels, strength: float) -> None:
    with guarded():
        shared = resources.get_predictor(question.base, question.folder)
        with st.spinner("Looking"):
            st.session_state[ANSWERS] = results.compare(shared, question, pixels, strength)


def ask_folder(
    folder: Path | None,
    phrases: list[str],
    adapter: adapters.Adapter | None,
    strength: float,
    chosen: postprocess_form.Chosen,
    colors: result_view.ObjectColors,
) -> None:
    with guarded():
        if not phrases:
            raise Sam3LoraError("Expected at least one phrase", 'Name what to look for, such as "pothole"')
        if folder is None:
            raise Sam3LoraError("Expected a folder of images", "Give its path")
        base = adapter.base if adapter else state.base_model()
        shared = resources.get_predictor(base, adapter.folder if adapter else None)
        model = f"adapter {adapter.name} at strength {strength:g}" if adapter else f"base model {base}"
        question = FolderQuestion(
            folder,
            tuple(phrases),
            model,
            strength if adapter else None,
            chosen.how,
            chosen.thresholds,
            chosen.in_words(),
            colors,
        )
        if not folder_job().start(shared, question):
            raise Sam3LoraError("Another folder is being asked", "Wait for it, or cancel it below")


def show(
    comparison: results.Comparison,
    question: results.Prompt,
    chosen: postprocess_form.Chosen,
    strength: float,
    colors: result_view.ObjectColors,
) -> None:
    """Both answers, and the table below them."""
    asked = comparison.question
    if asked != question:
        st.caption(f":material/history: {what_changed(asked, question)} Press Prompt to ask anew.")
    table = {"Base": shown_of(comparison.base, chosen)}
    left, right = st.columns(2, gap="medium")
    with left:
        result_view.show("Base model", "base", comparison, *table["Base"], colors)
    with right, guarded():
        if asked.adapter:
            answer = adapter_answer(comparison, strength)
            table["Adapter"] = shown_of(answer, chosen)
            title = f"Adapter {asked.adapter}" + (f", strength {strength:g}" if strength != 1 else "")
            result_view.show(title, "adapter", comparison, *table["Adapter"], colors)
        else:
            empty_state("layers", "No adapter was asked", "Choose one above and press Prompt again.")
    st.dataframe(
        results.counts_table(table),
        hide_index=True,
        placeholder="–",
        alt="Objects, their part of the image and the best score of each phrase",
        column_config={
            f"{who}: {what}": st.column_config.NumberColumn(format="%.2f")
            for who in ("Base", "Adapter")
            for what in ("best score", "area %")
        },
    )


def what_changed(asked: results.Prompt, question: results.Prompt) -> str:
    changed = [
        name
        for name, before, now in (
            ("image", asked.image_name, question.image_name),
            ("phrases", asked.phrases, question.phrases),
            ("example boxes", asked.boxes, question.boxes),
            ("adapter", asked.adapter, question.adapter),
            ("base model", asked.base, question.base),
        )
        if before != now
    ]
    verb = "have" if len(changed) > 1 or (changed and changed[0].endswith("s")) else "has"
    told = " and ".join([", ".join(changed[:-1]), changed[-1]] if len(changed) > 1 else changed or ["adapter"])
    return f"These answers are for {escape(asked.image_name)}; the {told} {verb} changed since."


def shown_of(answer: results.Answer, chosen: postprocess_form.Chosen):
    for result in answer.results.values():
        _ = result.areas  # counted once here, and handed on to whatever is left of it
    return answer, postprocess_all(answer.results, chosen.how, chosen.thresholds)


def adapter_answer(comparison: results.Comparison, strength: float) -> results.Answer:
    if strength in comparison.adapters:
        return comparison.adapters[strength]
    asked = comparison.question
    shared = resources.get_predictor(asked.base, asked.folder)
    with st.spinner("Looking"):
        return results.with_strength(shared, comparison, strength)


def take_away(
    comparison: results.Comparison,
    chosen: postprocess_form.Chosen,
    strength: float,
    colors: result_view.ObjectColors,
    image: prompt_form.ChosenImage,
) -> None:
    """Downloads of one of the answers, and the link to this page as it is."""
    asked = comparison.question
    answers = {"Adapter": comparison.adapters.get(strength), "Base model": comparison.base}
    names = [name for name, answer in answers.items() if answer is not None]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        whose = st.segmented_control("Download", names, default=names[0], required=True, key=f"whose-{len(names)}")

        def found():
            shown = postprocess_all(answers[whose].results, chosen.how, chosen.thresholds)
            return [found_image(Path(asked.image_name).name, comparison.image.shape[:2], shown)]

        downloads.buttons(
            f"{Path(asked.image_name).stem}-{whose.split()[0].lower()}",
            found,
            list(comparison.base.results),
            (
                "Picture",
                "png",
                "image/png",
                lambda: downloads.picture_png(found()[0], comparison.image, colors),
            ),
        )
        with st.popover("Link", icon=":material/link:", key="link"):
            if not asked.phrases:
                st.caption("A link holds no example boxes: only what is asked by words can be linked.")
            elif image.linked and asked.image_name == image.name:
                st.caption("Opens this page with this adapter, image and phrases, and asks; without example boxes.")
                address = prompt_form.link_to(
                    asked.image_name, ", ".join(asked.phrases), asked.adapter or adapters.NONE
                )
                st.code(address, language=None, wrap_lines=True)
            else:
                st.caption(
                    "A link leads to images of a dataset only: this one was uploaded, or is not chosen any more."
                )


main()
