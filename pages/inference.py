"""The inference page: prompt an image with phrases; the base model and an adapter answer side by side."""

import numpy as np
import streamlit as st

from sam3_lora.data.coco import load_image
from sam3_lora.data.health import plural
from sam3_lora.data.prompts import phrase_of
from sam3_lora.errors import DataError
from sam3_lora.ui import adapters, images, resources, results, state
from sam3_lora.ui.colors import PhraseColors
from sam3_lora.ui.dataset_view import keep_valid
from sam3_lora.ui.layout import empty_state, escape, guarded, page
from sam3_lora.ui.next_run import phrases_of_dataset
from sam3_lora.ui.split_index import labelled

FROM_DATASET, FROM_FILE = "From the dataset", "Upload"
ANSWERS = "inference_answers"  # the last Comparison of this tab
DEFAULT_PHRASES = 8  # at most so many of the dataset's categories are proposed


def main() -> None:
    with page("Inference", "Name what to look for: the base model and your adapter answer side by side."):
        with st.container(border=True):
            left, right = st.columns(2, gap="large")
            with left:
                name, image, threshold = choose_image()
            with right, guarded():
                ask(name, image)
        comparison = st.session_state.get(ANSWERS)
        if comparison is None:
            empty_state("image_search", "No answers yet", "Choose an image and phrases above, then press Prompt.")
        else:
            show(comparison, name, threshold)


def choose_image() -> tuple[str, np.ndarray | None, float]:
    """The image's name, its pixels (None while there is none: the reason is on the screen) and the threshold."""
    source = st.segmented_control(
        "Image", [FROM_DATASET, FROM_FILE], default=FROM_DATASET, required=True, key="image_source"
    )
    name, image = "", None
    choice, preview = st.columns([3, 1])
    with choice:
        with guarded():
            name, image = image_of_dataset() if source == FROM_DATASET else uploaded_image()
        threshold = choose_threshold()
    if image is not None:
        preview.image(images.fit(image, 240), width="stretch", alt=f"The chosen image, {name}")
    return name, image, threshold


def image_of_dataset() -> tuple[str, np.ndarray]:
    path = resources.current_dataset()
    dataset = resources.open_dataset(path)
    records = {
        f"{split.name}/{label}": image
        for split in dataset.splits.values()
        for label, image in labelled(split).items()
        if not image.missing
    }
    if not records:
        raise DataError(f"Expected images in the dataset {path}, but it has none", "Open another on the dataset page")
    if state.CURRENT_IMAGE in st.session_state:
        st.session_state["on_image"] = st.session_state.pop(state.CURRENT_IMAGE)
    keep_valid("on_image", list(records))
    name = st.selectbox(
        "Image of the dataset", list(records), key="on_image", bind="query-params", label_visibility="collapsed"
    )
    return name, load_image(records[name])


def uploaded_image() -> tuple[str, np.ndarray | None]:
    file = st.file_uploader(
        "Image file", ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff"], label_visibility="collapsed"
    )
    return (file.name, images.decode(file.getvalue(), file.name)) if file else ("", None)


def ask(name: str, image: np.ndarray | None) -> None:
    """The adapter, the phrases and the button that asks."""
    adapter = adapters.choose("adapter")
    adapters.invite_to_train()
    phrases = results.split_phrases(choose_phrases(adapter))
    base = adapter.base if adapter else state.base_model()
    with st.container(horizontal=True, vertical_alignment="center"):
        asked = st.button("Prompt", type="primary", key="prompt", icon=":material/play_arrow:", disabled=image is None)
        st.caption(f"Base model: {escape(base)}", width="content")
    adapters.tell_of_the_demo(base)
    if asked:
        shared = resources.get_predictor(base, adapter.folder if adapter else None)
        with st.spinner("Looking"):
            answers = results.compare(shared, image, phrases, name, adapter.name if adapter else None)
        st.session_state[ANSWERS] = answers


def choose_phrases(adapter: adapters.Adapter | None) -> str:
    """The phrases as typed; the words of the dataset's categories are proposed, anew for each dataset."""
    path = resources.current_dataset()
    before = st.session_state.get("phrases_of")
    with guarded():
        names = resources.open_dataset(path).categories[:DEFAULT_PHRASES]
        own = adapters.phrases_for(adapter, path)
        proposed = ", ".join(dict.fromkeys(phrase_of(name, own) for name in names))
        untouched = st.session_state.get("phrases") == st.session_state.get("phrases_proposed")
        # A link's phrases stand on the first visit, typed ones until another dataset is opened.
        if untouched if before == path else before or "phrases" not in st.query_params:
            st.session_state["phrases"] = proposed
        st.session_state["phrases_proposed"] = proposed
    st.session_state["phrases_of"] = path
    return st.text_input(
        "Phrases", key="phrases", bind="query-params", placeholder="pothole, crack", help="Separated by commas"
    )


def choose_threshold() -> float:
    return st.slider(
        "Score threshold",
        results.LOWEST_THRESHOLD,
        0.95,
        0.5,
        0.05,
        key="threshold",
        persist_state="session",
        help="Moving it asks the model nothing: every object that scores 0.05 or more is at hand.",
    )


def show(comparison: results.Comparison, name: str, threshold: float) -> None:
    if comparison.image_name != name:
        st.caption(f":material/history: These answers are for {escape(comparison.image_name)}.")
    left, right = st.columns(2, gap="medium")
    with left:
        show_answer("Base model", comparison.image, comparison.base, threshold)
    with right:
        if comparison.adapter:
            show_answer(f"Adapter {comparison.adapter_name}", comparison.image, comparison.adapter, threshold)
        else:
            empty_state("layers", "No adapter was asked", "Choose one above and press Prompt again.")
    st.dataframe(
        results.counts_table(comparison, threshold),
        hide_index=True,
        placeholder="–",
        alt="Objects and best score of each phrase",
        column_config={
            f"{who}: best score": st.column_config.NumberColumn(format="%.2f") for who in ("Base", "Adapter")
        },
    )


def phrase_colors() -> PhraseColors:
    """As the open dataset's categories are coloured on its page; without a dataset each phrase has its own."""
    path = resources.current_dataset()
    try:
        categories = resources.open_dataset(path).categories
    except DataError:
        return PhraseColors((), {})
    return PhraseColors(categories, phrases_of_dataset(path))


def show_answer(title: str, image: np.ndarray, answer: results.Answer, threshold: float) -> None:
    found = sum(len(result) for result in answer.above(threshold).values())
    st.markdown(f"**{escape(title)}** :gray[· {plural(found, 'object')} · {answer.seconds:.2f} s]")
    with st.container(key=f"answer-{title.split()[0].lower()}"):
        st.image(
            results.picture(image, answer, threshold, phrase_colors()),
            width="stretch",
            alt=f"{title}: {plural(found, 'object')}",
        )
    if hint := results.hint(answer, threshold):
        st.caption(hint)


main()
