"""The dataset page: open a dataset, see what is wrong with it, look at its images and their objects."""

from functools import partial

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.data.coco import Dataset, Split
from sam3_lora.ui import dataset_view as view
from sam3_lora.ui import findings, resources, state
from sam3_lora.ui.layout import empty_state, escape, page


def main() -> None:
    with page("Dataset", "Look at what the model will learn from, and at everything that is wrong with it."):
        path = choose_path()
        if not path:
            empty_state(
                "photo_library",
                "No dataset is open",
                "Give the folder of a COCO dataset above, or use the demo to look around.",
            )
            return
        dataset = resources.open_dataset(path)
        st.session_state[state.DATASET_PATH] = path
        show(dataset, resources.fingerprint(path))


def choose_path() -> str:
    """The path field with the demo beside it. A link's path wins over the one that was open last."""
    if view.PATH not in st.session_state and state.dataset_path() and view.PATH not in st.query_params:
        st.session_state[view.PATH] = state.dataset_path()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.text_input(
            "Dataset folder",
            key=view.PATH,
            bind="query-params",
            placeholder="A folder with train, valid and test inside",
            on_change=view.reset,
        )
        st.button("Use the demo", key="use_demo", on_click=use_demo, disabled=path == DEMO)
        st.button(
            "Read again",
            key="read_again",
            icon=":material/refresh:",
            on_click=resources.forget_datasets,
            disabled=not path,
            help="Read the files again after changing them",
        )
    return path.strip().strip("\"'")  # a path copied from a file manager may come in quotes


def use_demo() -> None:
    view.reset()
    st.session_state[view.PATH] = DEMO


def show(dataset: Dataset, fingerprint: tuple) -> None:
    summary = st.container()
    if not any(split.images for split in dataset.splits.values()):
        with summary:
            show_summary(dataset)
        empty_state("hide_image", "No split has an image", "Correct what is listed above, then read the dataset again.")
        return
    split, categories, label = choose_images(dataset)
    named = view.matching(view.labelled(split), categories)
    if label:
        st.session_state[state.CURRENT_IMAGE] = f"{split.name}/{label}"
        view.show_image(label, named, split, fingerprint, categories)
        return
    with summary:
        show_summary(dataset)
    if named:
        view.show_grid(named, split.name, fingerprint, categories)
    else:
        empty_state("filter_alt_off", "No image of this split matches", "Take a category out of the filter.")


def show_summary(dataset: Dataset) -> None:
    """The format in words, the splits in numbers and the findings, so that errors are in the first screen."""
    st.markdown(f":material/check: {escape(dataset.format)}")
    numbers, wrong = st.columns([5, 6], gap="large")
    with numbers:
        st.subheader("Splits", anchor=False)
        st.dataframe(view.split_table(dataset), hide_index=True, alt="Images and objects of each split")
        st.page_link("pages/configure.py", label="Configure a run on this dataset", icon=":material/arrow_forward:")
    with wrong:
        st.subheader("Findings", anchor=False)
        findings.show(dataset.findings, partial(view.open_named, dataset))
    st.subheader("Images", anchor=False)


def choose_images(dataset: Dataset) -> tuple[Split, tuple[str, ...], str | None]:
    """The row of filters: split, categories, and one image by name."""
    names = [name for name, split in dataset.splits.items() if split.images]
    view.keep_valid(view.SPLIT, names)
    if view.SPLIT not in st.session_state and view.SPLIT not in st.query_params:
        st.session_state[view.SPLIT] = names[0]
    by_split, by_category, by_name = st.columns([3, 4, 4])
    with by_split:
        name = st.segmented_control("Split", names, required=True, key=view.SPLIT, bind="query-params") or names[0]
    split = dataset.split(name)
    categories = [*split.categories, view.NO_OBJECTS]
    labels = list(view.labelled(split))
    view.keep_valid(view.CATEGORIES, categories)
    view.keep_valid(view.IMAGE, labels)
    with by_category:
        chosen = st.multiselect("Categories", categories, key=view.CATEGORIES, placeholder="All")
    with by_name:
        label = st.selectbox("Image", labels, None, key=view.IMAGE, bind="query-params", placeholder="Open one by name")
    return split, tuple(chosen), label


main()
