"""Gain and loss on the evaluate page: one chart, its table, and what is kept of each phrase."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import streamlit as st

from sam3_lora.evaluate.evaluation import OTHER_STRENGTHS
from sam3_lora.evaluate.gain_loss.points import GainLoss, Kind, LeftOut, Measured, Missing, Point, compare, measured
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.text.messages import gain_loss_meaning, kept_sentence, point_name
from sam3_lora.text import plural
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.components.plots import show_figure
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.evaluate import charts
from sam3_lora.ui.runs import adapter_title

# What would give a picture where there is none.
_NEXT_STEPS = {
    Missing.NO_ADAPTER: "Choose an adapter under *New evaluation* and press *Evaluate*: this then shows what it gains "
    "over the base model, and what it forgets.",
    Missing.NOT_MEASURED: "This evaluation did not measure forgetting: evaluate the adapter again.",
    Missing.NOTHING_FOUND: "The base model finds nothing with other phrases on these images, so forgetting cannot be "
    "measured: name what it finds under *Phrases to preserve*, then evaluate again.",
    Missing.NO_F1: "F1 is not defined on these images: choose a split with annotated objects, then evaluate again.",
}
_REASONS = {
    LeftOut.IMAGES: "of other images",
    LeftOut.PHRASES: "with other phrases for forgetting",
    LeftOut.BASE: "with another base model",
    LeftOut.MISSING: "without forgetting",
}
_COLUMNS = {"F1": "%.3f", "Gain": "%+.3f", "Kept": "%.1f%%"}


def choose_measured(has_adapter: bool) -> tuple[str, tuple[float, ...]]:
    """Draws the choice of phrases to preserve, as typed, and of the strengths that an adapter is also measured at."""
    by_phrase, by_strength = st.columns([3, 2], gap="large")
    preserved = by_phrase.text_input(
        "Phrases to preserve",
        key="preserve",
        placeholder="person, car",
        persist_state="session",
        help="Separated by commas. What the base model finds by these phrases, the adapter should still find. "
        "Some everyday phrases are always included.",
    )
    if not has_adapter:
        return preserved or "", ()
    strengths = by_strength.segmented_control(
        "Also at strength",
        OTHER_STRENGTHS,
        selection_mode="multi",
        format_func=lambda strength: f"{strength:g}",
        key="strengths",
        persist_state="session",
        help="0 is the base model, 1 the adapter as trained. *Gain and loss* shows what lies between them as a line. "
        "Each strength takes nearly as long as the adapter.",
    )
    return preserved or "", tuple(strengths)


def show(report: Report, others: Callable[[], Iterable[Measured]]) -> None:
    """Draws the chart and its tables, or how to get them.

    Args:
        report: that is shown.
        others: the points of all stored reports, newest first.
    """
    shown = measured(report)
    if shown.missing is not None:
        st.caption(f":material/info: {_NEXT_STEPS[shown.missing]}")
        return
    both = compare(shown, others())
    show_figure(charts.gain_loss_chart(both), "F1 and what is kept, of each model", "gain-loss")
    st.caption(escape(gain_loss_meaning(shown)))
    show_table(rows(both), "F1 and what is kept, of each model", _COLUMNS)
    if left_out := left_out_sentence(both):
        st.caption(f":material/info: {left_out}")
    _show_forgetting(report)


def rows(both: GainLoss) -> list[dict[str, str | float | None]]:
    """The rows of the chart's table: the points of the report, then those of other adapters, by their numbers."""
    named = [(point, point_name(point)) for point in both.shown]
    for number, points in enumerate(both.others, 1):
        named += [(point, f"{number}: {_other_name(point)}") for point in points]
    return [
        {
            "Model": name,
            "F1": point.f1,
            "Gain": None if point.kind is Kind.BASE else point.gain,
            "Kept": 100 * point.kept,
        }
        for point, name in named
    ]


def _other_name(point: Point) -> str:
    """An earlier adapter's point by the name of the adapter."""
    how = {Kind.ROUTED: ", routed by phrase", Kind.STRENGTH: f", strength {point.strength:g}"}.get(point.kind, "")
    trained_on = f", trained on {plural(point.trained_on, 'of these images')}" if point.trained_on else ""
    return adapter_title(point.adapter) + how + trained_on


def left_out_sentence(both: GainLoss) -> str:
    """How many evaluations of other adapters are not shown, and why; empty if all are."""
    parts = [f"{plural(count, 'evaluation')} {_REASONS[why]}" for why, count in both.left_out]
    return f"Not comparable, so not shown: {', '.join(parts)}." if parts else ""


def _show_forgetting(report: Report) -> None:
    retention = report.retention
    assert retention is not None, "it was measured"
    st.markdown("**Forgetting**")
    st.caption(escape(kept_sentence(report)))
    rows: list[dict[str, str | int]] = [
        {"Phrase": phrase, "Base": found, "Adapter": kept} for phrase, (found, kept) in retention.by_phrase.items()
    ]
    if (routed := report.routed_retention) is not None:  # of the same phrases: those by which the base finds something
        for row, (_, kept) in zip(rows, routed.by_phrase.values(), strict=True):
            row["Routed"] = kept
    show_table(rows, "Objects found with other phrases, by model", width=420)
