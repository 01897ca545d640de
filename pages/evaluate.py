"""The evaluate page: what an adapter gained over the base model on a split of the dataset."""

import streamlit as st

from sam3_lora.data.coco import Dataset, Split
from sam3_lora.errors import DataError
from sam3_lora.ui import adapters, measures, resources, state
from sam3_lora.ui.dataset_view import keep_valid
from sam3_lora.ui.layout import empty_state, escape, page

MEASURED = "measured"  # the last Measured of this tab


def main() -> None:
    with page("Evaluate", "Measure on annotated images what your adapter gained over the base model."):
        path = resources.current_dataset()
        dataset = resources.open_dataset(path)
        with st.container(border=True):
            by_adapter, by_split = st.columns([3, 2], gap="large")
            with by_split:
                split = choose_split(dataset)
            with by_adapter:
                adapter = adapters.choose("adapter")
                adapters.invite_to_train()
            with st.container(horizontal=True, vertical_alignment="center"):
                asked = st.button("Evaluate", type="primary", key="evaluate", icon=":material/straighten:")
                st.caption(f"Dataset: {escape(path)}", width="content")
            adapters.tell_of_the_demo(adapter.base if adapter else state.base_model())
        if asked:
            measure(adapter, path, split)
        measured = st.session_state.get(MEASURED)
        if measured is None:
            empty_state("straighten", "Nothing is measured yet", "Choose an adapter and a split, then press Evaluate.")
        else:
            show(measured)


def choose_split(dataset: Dataset) -> Split:
    """One of the splits that can be measured on. Raises DataError if there is none."""
    names = [split.name for split in dataset.splits.values() if split.num_objects]
    if not names:
        raise DataError("Expected a split with objects to measure on, but there is none", "See the dataset page")
    keep_valid("measured_split", names)
    preferred = names.index("valid") if "valid" in names else 0
    return dataset.split(st.selectbox("Split", names, preferred, key="measured_split", bind="query-params"))


def measure(adapter: adapters.Adapter | None, path: str, split: Split) -> None:
    base = adapter.base if adapter else state.base_model()
    shared = resources.get_predictor(base, adapter.folder if adapter else None)
    bar = st.progress(0.0, "Starting")
    name = adapter.name if adapter else None
    st.session_state[MEASURED] = measures.measure(
        shared, split, path, name, lambda share, text: bar.progress(share, text), adapters.phrases_for(adapter, path)
    )
    bar.empty()


def show(measured: measures.Measured) -> None:
    st.subheader(measures.headline(measured), anchor=False)
    who = f"adapter {measured.adapter_name}" if measured.adapter_name else "the base model alone"
    st.caption(escape(f"{who}, split {measured.split} of {measured.dataset}, {measured.images} images"))
    for column, tile in zip(st.columns(4), measures.tiles(measured), strict=False):
        arrow = "off" if tile.color == "off" else "auto"
        column.metric(
            tile.label,
            tile.value,
            tile.delta,
            delta_color=tile.color,
            delta_arrow=arrow,
            border=True,
            height="stretch",
        )
    st.dataframe(
        measures.table(measured),
        hide_index=True,
        placeholder="–",
        alt="All metrics of the base model and the adapter",
        column_config={
            "Meaning": st.column_config.TextColumn(width="large"),
            **dict.fromkeys(("Base", "Adapter"), st.column_config.NumberColumn(format="%.3f")),
            "Difference": st.column_config.NumberColumn(format="%+.3f"),
        },
    )
    if None in measured.base.values():
        st.caption("A dash: not defined on this split, as cgF1 is not where every image holds every phrase.")


main()
