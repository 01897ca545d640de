"""The large numbers, tables and sentences of an evaluation's report; pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from sam3_lora.evaluate.metrics import LOWER_IS_BETTER, METRICS
from sam3_lora.evaluate.prompt_leak import Leak
from sam3_lora.evaluate.report import Difference, Report
from sam3_lora.evaluate.text.messages import changes, interval, number, reason, routed_value
from sam3_lora.evaluate.verdict import NEGLIGIBLE, improvement
from sam3_lora.text import short
from sam3_lora.ui.components.layout import escape

_TILES = ("f1_50", "cgf1", "false_firing")  # after the main metric
CURVE_COLUMNS = dict.fromkeys(("Recall", "Base precision", "Base score", "Adapter precision", "Adapter score"), "%.2f")
PHRASE_COLUMNS = {"Precision": "precision", "Recall": "recall", "F1": "f1", "Mask AP at IoU 0.5": "ap50_segm"}
_FIRST = {"all": "Metric", "phrase": "Phrase", "size": "Object size"}


DeltaColor: TypeAlias = Literal["normal", "inverse", "off"]


@dataclass(frozen=True)
class Tile:
    """One large number: the adapter's (or the base model's) and its difference to the base."""

    label: str
    value: str
    delta: str | None
    color: DeltaColor
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
    delta: str | None = None
    color: DeltaColor = "off"
    if one.difference is not None and abs(one.difference) < NEGLIGIBLE:
        delta = "same as the base"
    elif one.difference is not None:
        delta = f"{one.difference:+.3f}" + ("" if one.low is None else f" ({interval(one)})")
        if improvement(one) is not None:
            color = "inverse" if one.metric in LOWER_IS_BETTER else "normal"
    return Tile(label, shown, delta, color, help_text)


def table(report: Report, subject: str) -> pd.DataFrame:
    """One row per metric, phrase or size: base, adapter, difference, its interval, and the change in words.

    Args:
        report: of the evaluation.
        subject: "all", "phrase" or "size".
    """
    rows = []
    for one in changes(report, subject):
        row: dict[str, object] = {_FIRST[subject]: METRICS[one.metric][0] if subject == "all" else one.name}
        if subject == "phrase":
            row["Objects"] = report.phrases[one.name].objects
        if subject == "size":
            row["Objects"] = report.sizes[one.name]
        row["Base"] = one.base
        if report.adapter:
            row["Adapter"] = one.adapter
            # A phrase's is the base's or the adapter's, and its table is narrow.
            if report.routed and subject == "all":
                row["Routed"] = routed_value(report, one)
            row |= {"Difference": one.difference, "95 % interval": interval(one), "Change": change(one)}
        if subject == "all":
            row["Meaning"] = METRICS[one.metric][1]
        rows.append(row)
    return pd.DataFrame(rows)


def change(one: Difference) -> str:
    """ "better", "worse", "unchanged", "unclear", or why that cannot be decided."""
    if one.difference is None:
        return "undefined"
    if abs(one.difference) < NEGLIGIBLE:
        return "unchanged"
    if one.low is None and one.metric in ("il_mcc", "cgf1"):
        return "too few prompts"
    if one.low is None and one.metric == "validation_loss":  # which has no interval
        return "better" if one.difference < 0 else "worse"
    if one.low is None:
        return "too few images" if one.subject == "all" else "too few objects"
    return {True: "better", False: "worse", None: "unclear"}[improvement(one)]


def phrase_table(report: Report) -> pd.DataFrame:
    """One row per phrase and model: precision, recall, F1, AP at IoU 0.5."""
    rows = []
    for phrase in report.phrases:
        for model, numbers in (("Base", report.base), ("Adapter", report.adapter)):
            values = numbers.phrases.get(phrase) if numbers else None
            if values:
                by_label = {label: values[name] for label, name in PHRASE_COLUMNS.items()}
                rows.append({"Phrase": phrase, "Model": model, **by_label})
    return pd.DataFrame(rows)


def curve_table(report: Report, phrase: str) -> list[dict[str, float]]:
    """Precision, and the score it takes, at the recalls 0, 0.1, ... 1: a row per recall, columns for each model."""
    rows: list[dict[str, float]] = [{"Recall": place / 10} for place in range(11)]
    for model, numbers in (("Base", report.base), ("Adapter", report.adapter)):
        if numbers and (curve := numbers.curves.get(phrase)):
            for place, row in enumerate(rows):
                row |= {f"{model} precision": curve.precision[10 * place], f"{model} score": curve.scores[10 * place]}
    return rows


def leak_table(leak: Leak, rows: list[int]) -> list[dict[str, str | None]]:
    """The shares of the matrix of one model: a row per prompt, a column per kind of object.

    Args:
        leak: of the model.
        rows: which are shown.
    """
    columns = ["Prompt", *(f"on {name}" for name in leak.columns), "anywhere"]
    lines = [(leak.rows[row], map(_percent, (*leak.on_objects[row], leak.anywhere[row]))) for row in rows]
    return [dict(zip(columns, (phrase, *shares), strict=True)) for phrase, shares in lines]


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.0%}"


def leak_summary(report: Report) -> str:
    """The false positive rate and the worst confusion of two phrases, as Markdown."""
    rate, leaks = report.judged.metrics["false_firing"], report.judged.leak.by_share()
    sentences = []
    if rate is not None:
        sentences.append(
            f"**{rate:.0%}** of the prompts with an absent phrase find something."
            if rate
            else "No phrase finds anything in images without its category."
        )
    if leaks:
        phrase, name, share = leaks[0]
        beside = ""
        if report.adapter:
            of_base = next((cell[2] for cell in report.base.leak.by_share() if cell[:2] == (phrase, name)), 0.0)
            beside = f"; the base model marks {of_base:.0%}"
        marked = (
            f"Prompted with **{escape(short(phrase))}**, it marks **{share:.0%}** of **{escape(short(name))}** objects"
        )
        sentences.append(f"{marked}{beside}.")
    else:
        sentences.append("No phrase marks objects of another one.")
    return " ".join(sentences)
