"""What an evaluation's report says in large numbers, tables and sentences; pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sam3_lora.evaluate.metrics import LOWER_IS_BETTER, METRICS
from sam3_lora.evaluate.report import Difference, Report
from sam3_lora.evaluate.verdict import NEGLIGIBLE, improvement
from sam3_lora.evaluate.words import changes, interval, number, reason
from sam3_lora.ui.components.layout import escape

_TILES = ("f1_50", "cgf1", "false_firing")  # after the main metric
PHRASE_COLUMNS = {"Precision": "precision", "Recall": "recall", "F1": "f1", "Mask AP at IoU 0.5": "ap50_segm"}
_FIRST = {"all": "Metric", "phrase": "Phrase", "size": "Object size"}


@dataclass(frozen=True)
class Tile:
    """One large number: the adapter's (or the base model's) and its difference to the base."""

    label: str
    value: str
    delta: str | None
    color: str
    help: str


def tiles(report: Report) -> list[Tile]:
    """The metrics that matter most, as large numbers."""
    by_metric = {one.metric: one for one in changes(report, "all")}
    return [_tile(by_metric[name], report) for name in (report.main_metric, *_TILES)]


def _tile(one: Difference, report: Report) -> Tile:
    label, meaning = METRICS[one.metric]
    value = one.adapter if report.adapter else one.base
    why = report.not_defined.get(one.metric)
    help_text = f"{meaning}. Not defined, because {reason(why)}." if why else f"{meaning}."
    shown = "not defined" if value is None else number(value)
    if one.difference is None:
        return Tile(label, shown, None, "off", help_text)
    if abs(one.difference) < NEGLIGIBLE:
        return Tile(label, shown, "same as the base", "off", help_text)
    between = "" if one.low is None else f" ({interval(one)})"
    color = "inverse" if one.metric in LOWER_IS_BETTER else "normal"
    return Tile(
        label, shown, f"{one.difference:+.3f}{between}", color if improvement(one) is not None else "off", help_text
    )


def table(report: Report, subject: str) -> pd.DataFrame:
    """One row per metric, phrase or size: base, adapter, difference, its interval, and that in words."""
    rows = []
    for one in changes(report, subject):
        row: dict[str, object] = {_FIRST[subject]: METRICS[one.metric][0] if subject == "all" else one.name}
        if subject == "phrase":
            row["Objects"] = report.phrases[one.name].objects
        if subject == "size":
            row["Objects"] = report.sizes[one.name]
        row["Base"] = one.base
        if report.adapter:
            row |= {"Adapter": one.adapter, "Difference": one.difference, "95 % interval": interval(one)}
            row["In words"] = in_words(one)
        if subject == "all":
            row["Meaning"] = METRICS[one.metric][1]
        rows.append(row)
    return pd.DataFrame(rows)


def in_words(one: Difference) -> str:
    """ "better", "worse", "the same", or why nobody can tell."""
    if one.difference is None:
        return "not comparable"
    if abs(one.difference) < NEGLIGIBLE:
        return "the same"
    improved = (one.difference < 0) == (one.metric in LOWER_IS_BETTER)
    if one.low is None and one.metric in ("il_mcc", "cgf1"):
        return "too few questions"
    if one.low is None and one.metric == "validation_loss":  # which has no interval
        return "better" if improved else "worse"
    if one.low is None:
        return "too few images" if one.subject == "all" else "too few objects"
    return {True: "better", False: "worse", None: "may be chance"}[improvement(one)]


def phrase_table(report: Report) -> pd.DataFrame:
    """One row per phrase and model: precision, recall, F1, AP at IoU 0.5."""
    rows = []
    for phrase in report.phrases:
        for model, numbers in (("Base", report.base), ("Adapter", report.adapter)):
            values = numbers.phrases.get(phrase) if numbers else None
            if values:
                numbered = {label: values[name] for label, name in PHRASE_COLUMNS.items()}
                rows.append({"Phrase": phrase, "Model": model, **numbered})
    return pd.DataFrame(rows)


def leak_sentence(report: Report) -> str:
    """The worst of the matrix in words, as Markdown."""
    firing, worst = report.judged.metrics["false_firing"], report.judged.leak.worst()
    parts = [] if firing is None else [f"**{firing:.0%}** of the questions for what is not there find something"]
    if worst:
        parts.append(
            f"asked for **{escape(worst[0])}**, it marks **{worst[2]:.0%}** of the objects **{escape(worst[1])}**"
        )
    else:
        parts.append("no phrase marks objects that it does not mean")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."
