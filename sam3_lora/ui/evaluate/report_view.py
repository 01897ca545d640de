"""The result of an evaluation on the screen: verdict, large numbers, and the details of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import streamlit as st

from sam3_lora.errors import Sam3LoraError
from sam3_lora.evaluate.gain_loss.points import Measured
from sam3_lora.evaluate.metrics import METRICS
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import run_of, was_replaced
from sam3_lora.evaluate.text.messages import (
    REPLACED,
    alert_sentence,
    found_by_phrase,
    found_sentence,
    not_defined_sentences,
    number,
    routed_sentence,
    thresholds_sentence,
    weak_sentence,
)
from sam3_lora.evaluate.verdict import alerts_of
from sam3_lora.text import plural, short
from sam3_lora.ui.adapters import NONE
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.layout import action_button, bullets, choose_one, escape
from sam3_lora.ui.components.plots import show_figure
from sam3_lora.ui.components.refusal import show_repair
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.evaluate import charts, gain_loss_view, remedies, worst_images
from sam3_lora.ui.evaluate.tables import (
    CURVE_COLUMNS,
    PHRASE_COLUMNS,
    curve_table,
    leak_summary,
    leak_table,
    phrase_table,
    table,
    tiles,
)
from sam3_lora.ui.resources import has_dataset_folder
from sam3_lora.ui.runs import adapter_title
from sam3_lora.ui.state import ADVISED_THRESHOLDS

_VIEWS = ("Numbers", "Gain and loss", "Curves", "Prompt leak", "Worst images", "Thresholds")
_VIEW = "evaluation-view"
_COLUMNS = {
    **dict.fromkeys(("Base", "Adapter", "Routed", *PHRASE_COLUMNS), "%.3f"),
    "Difference": "%+.3f",
    "Change": st.column_config.TextColumn(width=130),
    "Meaning": st.column_config.TextColumn(width="large"),
}


def show(report: Report, key: str, others: Callable[[], Iterable[Measured]]) -> None:
    """Draws the whole result.

    Args:
        report: of the evaluation.
        key: of the report, unique among those that this tab opens.
        others: gain and loss of all stored reports, newest first.
    """
    _show_verdict(report)
    fires_more = any(alert.difference and alert.difference.metric == "false_firing" for alert in alerts_of(report))
    if fires_more:
        _offer_repair(report)
    shown = tiles(report)
    for column, tile in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(
            tile.label,
            tile.value,
            tile.delta,
            delta_color=tile.color,
            delta_arrow="off" if tile.color == "off" else "auto",
            border=True,
            height="stretch",
            help=tile.help,
        )
    categories = tuple(name for count in report.phrases.values() for name in count.categories)
    colors = PhraseColors(categories, report.category_phrases)
    view = choose_one(
        "Details", _VIEWS, _VIEW, bind="query-params", persist_state="session", label_visibility="collapsed"
    )
    if view == "Numbers":
        _show_numbers(report)
    elif view == "Gain and loss":
        gain_loss_view.show(report, others)
    elif view == "Curves":
        _show_curves(report, colors)
    elif view == "Prompt leak":
        _show_leak(report)
        if not fires_more:
            _offer_repair(report)
    elif view == "Worst images":
        worst_images.show(report, colors, key)
    else:
        _show_thresholds(report)


def _show_verdict(report: Report) -> None:
    step = "" if report.adapter_step is None else f"saved after step {report.adapter_step:,}, "
    size = f"{step}{plural(report.images, 'image')}, {plural(report.objects, 'object')}"
    created = report.made.replace("T", " ")[:16]
    st.caption(escape(f"{described(report.adapter_name, report.dataset, report.split)}: {size}, measured {created}"))
    st.subheader(escape(found_sentence(report)), anchor=False)
    st.markdown(escape(f"{report.verdict} {weak_sentence(report)}"))
    if named := found_by_phrase(report):
        counted = "An object is found by a prediction with a score and an IoU of 0.5 or more."
        st.caption(f"Found by phrase: {escape(named)}. {counted}")
    if _chosen_on(report):
        st.caption(":material/info: The best checkpoint was chosen on these images: expect a little less on new ones.")
    if was_replaced(report):
        st.warning(REPLACED, icon=":material/published_with_changes:")
    if sentence := thresholds_sentence(report):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":material/tune: {escape(sentence)}", width="content")
            _offer_thresholds(report, "Apply in Inference", "apply-thresholds")
    if alerts := [escape(alert_sentence(alert)) for alert in alerts_of(report)]:
        st.warning(bullets(alerts), icon=":material/warning:")
    remedies.show(report)
    for note in report.notes:
        st.caption(f":material/info: {escape(note)}")


def _chosen_on(report: Report) -> bool:
    """Whether the adapter is the best checkpoint of a run by the same images."""
    run = run_of(Path(report.adapter_folder)) if report.adapter_folder else None
    with suppress(Sam3LoraError):  # its settings are damaged
        if run and Path(report.adapter_folder or "").name == "best":
            data = run.config.data
            return (data.path, data.valid_split) == (report.dataset, report.split)
    return False


def _offer_repair(report: Report) -> None:
    if report.adapter_folder:
        show_repair(Path(report.adapter_folder))


def described(adapter: str | None, dataset: str, split: str) -> str:
    """ "potholes, 31 January 2026 at 17:59:02 (best), on the valid split of demo"."""
    model = adapter_title(adapter) if adapter else "Base model alone"
    return f"{model}, on the {split} split of {dataset}"


def _show_numbers(report: Report) -> None:
    show_table(table(report, "all"), "All metrics of the base model and the adapter", _COLUMNS)
    if report.routed:
        st.caption(escape(routed_sentence(report)))
    for sentence in not_defined_sentences(report):
        st.caption(escape(sentence))
    main = METRICS[report.main_metric][0]
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(f"**{main} by phrase**")
        show_table(table(report, "phrase"), f"{main} of each phrase", _COLUMNS)
    with right:
        st.markdown(f"**{main} by object size**")
        show_table(table(report, "size"), f"{main} of small, medium and large objects", _COLUMNS)
        st.caption("By mask area. Small: up to 32 × 32 pixels; medium: up to 96 × 96; large: above.")
    st.markdown("**Precision and recall at score 0.5 and IoU 0.5**")
    show_table(phrase_table(report), "Precision, recall and F1 of each phrase", _COLUMNS)
    if report.adapter:
        st.caption(
            f"95 % bootstrap intervals from {report.resamples} resamples of the images. "
            "If an interval contains zero, the difference may be due to chance."
        )


def _show_curves(report: Report, colors: PhraseColors) -> None:
    st.caption("Masks at IoU 0.5. A dot marks the score 0.5. A larger area under the curve is better.")
    phrases = [phrase for phrase in report.phrases if phrase in report.base.curves]
    with st.grid(2, gap="large"):
        for phrase in phrases:
            with st.container(gap="xxsmall"):
                ap = report.judged.phrases[phrase]["ap50_segm"]
                st.markdown(f"**{escape(short(phrase))}** :gray[average precision {number(ap)}]")
                figure = charts.curve_chart(report, phrase, colors.of(phrase))
                alt = f"Precision over recall of {short(phrase)}"
                show_figure(figure, alt, f"curve-{phrase}", partial(curve_table, report, phrase), CURVE_COLUMNS)


def _show_leak(report: Report) -> None:
    st.caption(
        "Does one phrase mark objects of another? Rows are prompts, columns the objects of other phrases: the share of "
        "those objects that the prompt marks. "
        "Anywhere: the share of images without the phrase in which it finds something. Unrelated words, such as "
        "walrus, should find nothing at all."
    )
    st.markdown(leak_summary(report))
    rows = charts.leak_rows(report)
    models = {"Base": report.base, "Adapter": report.adapter, "Routed": report.routed}
    panels = {name: model.leak for name, model in models.items() if model}
    # The first has the phrases' names beside it.
    for column, name in zip(st.columns([1.2, 1, 1][: len(panels)], gap="medium"), panels, strict=True):
        with column, st.container(gap="xxsmall"):
            st.markdown(f"**{name}**")
            figure = charts.leak_chart(panels[name], rows, with_names=name == "Base")
            show_figure(figure, f"Prompt leak: {name}", f"leak-{name}", partial(leak_table, panels[name], rows))


def _show_thresholds(report: Report) -> None:
    st.caption(
        "The score threshold with the highest F1 of masks on this split, for each phrase. Chosen and measured on the "
        "same images, they promise a little too much."
    )
    rows = [
        {
            "Phrase": phrase,
            "Threshold": best.threshold if best else None,
            "F1": best.f1 if best else None,
            "F1 at 0.5": best.f1_at_half if best else report.judged.phrases[phrase]["f1"],
        }
        for phrase, best in report.judged.thresholds.items()
    ]
    columns = {"Threshold": "%.2f", "F1": "%.3f", "F1 at 0.5": "%.3f"}
    show_table(rows, "The best score threshold of each phrase", columns, placeholder="none", width=560)
    _offer_thresholds(report, "Use in Inference", "use-thresholds")


def _offer_thresholds(report: Report, label: str, key: str) -> None:
    """Draws the button that opens the inference page with the best thresholds."""
    advised = report.best_thresholds()

    reason = None if advised else "No threshold gives a true positive"
    meaning = "Prompts an image on the inference page with these thresholds"
    if action_button(label, "image_search", key, reason, meaning):
        st.session_state.setdefault(ADVISED_THRESHOLDS, {})[report.adapter_name] = advised
        query = {"ask": "1", "adapter": report.adapter_name or NONE}
        dataset = {"dataset": report.dataset} if has_dataset_folder(report.dataset) else {}
        st.switch_page("pages/inference.py", query_params=query | dataset)
