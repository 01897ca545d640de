"""The evaluate page: measures an adapter and the base model on annotated images, and compares them."""

import streamlit as st

from sam3_lora.config import HOLDOUT
from sam3_lora.data.dataset import Dataset, Split
from sam3_lora.data.phrase_list import split_phrases
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.splits.names import VALID_NAMES
from sam3_lora.errors import DataError
from sam3_lora.evaluate import EvaluationRequest
from sam3_lora.evaluate.store import folder_of, run_of
from sam3_lora.evaluate.text.messages import trained_on as trained_on_sentence
from sam3_lora.runs.held_out import count_trained_on, held_out_split
from sam3_lora.runs.run import Run
from sam3_lora.text import first_names
from sam3_lora.ui import adapters, resources
from sam3_lora.ui.components.layout import empty_state, escape, guarded, page
from sam3_lora.ui.components.tiles_choice import choose_tiles, chosen_tiles
from sam3_lora.ui.evaluate import gain_loss_view, history, report_view
from sam3_lora.ui.evaluate.job import EvaluationJob, evaluation_job, show_progress, start_evaluation
from sam3_lora.ui.state import keep_valid

TILES = "measured_tiles"  # key of the choice of tiles
AWAITED = "evaluation-awaited"  # bool: this tab started the evaluation in progress, and opens its result


def main() -> None:
    with page(
        "Evaluate", "Measure on annotated images what your adapter gains over the base model, and what it loses."
    ):
        job, known = evaluation_job(), history.all_stored()
        open_awaited(job, known)
        shown = history.choose(known)
        with guarded():  # a dataset without annotations hides no earlier result
            request_evaluation(job, shown.name if shown else "")
        if job.snapshot().active:
            show_progress(job)
        if (unstored := history.unstored()) is not None:
            report, name = unstored.report, "unstored"
        elif shown is not None:
            report, name = history.report_of(shown), shown.name
        else:
            if not job.snapshot().active:
                empty_state("straighten", "No evaluations yet", "Choose an adapter and a split, then press Evaluate.")
            return
        with st.container(key="evaluation-report"):
            report_view.show(report, name, lambda: history.gain_and_loss(known))
        st.divider()
        with st.container(horizontal=True):
            history.downloads(report, name)
        history.show(known, shown)


def open_awaited(job: EvaluationJob, known: list[history.StoredReport]) -> None:
    """Opens the result of the evaluation that this tab started, or shows why there is none."""
    snapshot = job.snapshot()
    if snapshot.active or not st.session_state.get(AWAITED):
        return
    st.session_state[AWAITED] = False
    if snapshot.error:
        st.error(escape(snapshot.error), icon=":material/error:")
    elif snapshot.result is not None:
        history.open_result(snapshot.result, known)
        if (problem := snapshot.result.card_problem) is not None:
            st.info(f"{escape(problem.message)}. {escape(problem.fix)}.", icon=":material/info:")
    elif snapshot.state == "cancelled":
        st.toast("Evaluation cancelled. Nothing was saved.", icon=":material/info:")


def request_evaluation(job: EvaluationJob, shown: str) -> None:
    """Draws the form of a new evaluation and starts it; folded up while a result is shown.

    Args:
        job: of this process.
        shown: name of the result that the page shows, or empty.
    """
    path = resources.current_dataset()
    dataset = resources.open_dataset(path)
    with st.expander("New evaluation", expanded=not shown, icon=":material/straighten:", key=f"new-evaluation-{shown}"):
        by_adapter, by_split = st.columns([3, 2], gap="large")
        with by_adapter:
            model = adapters.choose("adapter")
            adapters.explain_choice(model)
        run = run_of(model.folder)
        with by_split:
            split = choose_split(dataset, run)
            choose_tiles(TILES, model.base)
            if trained_on := count_trained_on(dataset, path, split, run):
                st.caption(f":orange[:material/warning:] {trained_on_sentence(trained_on)}")
        preserved, strengths = gain_loss_view.choose_measured(has_adapter=model.folder is not None)
        with st.container(horizontal=True, vertical_alignment="center"):
            busy = job.snapshot().active
            help_text = "Another evaluation is in progress" if busy else None
            pressed = st.button("Evaluate", type="primary", key="evaluate", disabled=busy, help=help_text)
            st.caption(f"Dataset: {escape(path)}", width="content")
        adapters.explain_demo_model(model.base)
        routing = adapters.explain_routing(model)
    if not pressed:
        return
    shared = resources.get_predictor(adapter=model.folder, **model.loading)
    phrases = adapters.phrases_for(model.folder, path)
    known = [phrase_of(category, phrases) for category in dataset.categories]
    request = EvaluationRequest(
        split,
        dataset=path,
        base_name=model.base,
        adapter_name=model.adapter,
        adapter_folder=model.folder,
        category_phrases=phrases,
        trained_on=trained_on,
        retention_phrases=tuple(split_phrases(preserved, known)),
        routing=routing,
        tiles=chosen_tiles(TILES, model.base),
        strengths=strengths,
    )
    reports = folder_of(model.folder, resources.runs_folder())
    st.session_state[AWAITED] = start_evaluation(job, shared, request, reports)
    st.rerun()


def choose_split(dataset: Dataset, run: Run | None) -> Split:
    """Draws the choice of annotated images: a split, or what the adapter's run held out. Raises DataError without."""
    splits = {split.name: split for split in dataset.splits.values() if split.num_objects}
    if (held_out := held_out_split(dataset, run)) is not None:
        splits = {HOLDOUT: held_out, **splits}
    if not splits:
        raise DataError("Expected a split with annotated objects, but there is none", "Check the dataset page")
    names = list(splits)
    if empty := [split.name for split in dataset.splits.values() if len(split.images) and not split.num_objects]:
        st.caption(f"Nothing can be measured without annotated objects: {escape(first_names(empty))}.")
    keep_valid("measured_split", names)
    preferred = next((place for place, name in enumerate(names) if name in (HOLDOUT, *VALID_NAMES)), 0)
    chosen = st.selectbox(
        "Split",
        names,
        preferred,
        format_func=lambda name: splits[name].name if name in splits else name,
        key="measured_split",
        bind="query-params",
    )
    return splits[chosen]


main()
