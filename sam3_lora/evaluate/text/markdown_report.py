"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from sam3_lora.evaluate.gain_loss.points import measured
from sam3_lora.evaluate.metrics import METRICS
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.text.messages import (
    alert_sentence,
    change_rows,
    columns,
    found_by_phrase,
    found_sentence,
    gain_loss_meaning,
    gain_loss_rows,
    kept_sentence,
    not_defined_sentences,
    number,
    routed_sentence,
    weak_sentence,
)
from sam3_lora.evaluate.verdict import alerts_of
from sam3_lora.markdown import escape, table
from sam3_lora.text import plural

_MAX_ROWS = 10  # leaks and images that are listed


def to_markdown(report: Report) -> str:
    """The whole report but the pictures."""
    who = f"adapter {report.adapter_name} beside base {report.base_name}" if report.adapter else report.base_name
    head = columns(report)
    parts = [
        "# Evaluation\n",
        f"**{escape(found_sentence(report))}** {escape(report.verdict)} {escape(weak_sentence(report))}\n",
        f"At score 0.5 and IoU 0.5: {escape(found_by_phrase(report))}.\n" if report.objects else "",
        f"{escape(who)}; split {escape(report.split)} of {escape(report.dataset)}: {plural(report.images, 'image')}, "
        f"{plural(report.objects, 'object')}; {report.made.replace('T', ' ')}.\n",
        *_bullets("Got worse", map(alert_sentence, alerts_of(report))),
        *_bullets("Notes", [*report.notes, *not_defined_sentences(report)]),
        _table("Metrics", ["Metric", *head], change_rows(report, "all")),
        f"{escape(routed_sentence(report))}\n" if report.routed else "",
        _gain_loss(report),
        _table("By phrase", [f"{METRICS[report.main_metric][0]} of", *head], change_rows(report, "phrase")),
        _table("By object size", [f"{METRICS[report.main_metric][0]} of", *head], change_rows(report, "size")),
        *_retention(report),
        _leaks(report),
        _thresholds(report),
        _worst(report),
    ]
    return "\n".join(part for part in parts if part)


def _retention(report: Report) -> list[str]:
    retention = report.retention
    if retention is None:
        return []
    if not retention.found:
        return ["## Forgetting\n", "The base model finds nothing with other phrases on these images.\n"]
    head = ["Phrase", "Base finds", "Adapter still finds"]
    rows = [[phrase, str(found), str(kept)] for phrase, (found, kept) in retention.by_phrase.items()]
    if (routed := report.routed_retention) is not None:
        head.append("Routed finds")
        rows = [[*row, str(routed.by_phrase[phrase][1])] for row, phrase in zip(rows, retention.by_phrase, strict=True)]
    return [_table("Forgetting", head, rows), f"{kept_sentence(report)}\n"]


def _gain_loss(report: Report) -> str:
    shown = measured(report)
    rows = gain_loss_rows(shown.points)
    return _table("Gain and loss", ["Model", "F1", "Gain", "Kept"], rows) + (
        f"\n{escape(gain_loss_meaning(shown))}\n" if rows else ""
    )


def _leaks(report: Report) -> str:
    before, routed = (
        {(phrase, of): share for phrase, of, share in (model.leak.by_share() if model else ())}
        for model in (report.base, report.routed)
    )
    cells = report.judged.leak.by_share()[:_MAX_ROWS]
    if not cells:
        return "## Prompt leak\n\nNo phrase marks objects of another phrase.\n"
    rows = [
        [phrase, of, *(f"{value:.0%}" for value in (before.get((phrase, of), 0), share, routed.get((phrase, of), 0)))]
        for phrase, of, share in cells
    ]
    shown = 5 if report.routed else 4 if report.adapter else 3
    head = ["Phrase", "marks objects of", "Base", "Adapter", "Routed"]
    return _table("Prompt leak", head, [row[:shown] for row in rows])


def _thresholds(report: Report) -> str:
    rows = [
        [phrase, f"{best.threshold:.2f}", number(best.f1), number(best.f1_at_half)]
        for phrase, best in report.judged.thresholds.items()
        if best
    ]
    return _table("Best score thresholds", ["Phrase", "Threshold", "F1", "F1 at 0.5"], rows)


def _worst(report: Report) -> str:
    rows = [[one.file_name, str(one.fp), str(one.fn), str(one.low_iou)] for one in report.worst[:_MAX_ROWS]]
    return _table("Worst images", ["Image", "False positives", "Missed objects", "Inexact masks"], rows)


def _bullets(title: str, lines: Iterable[str]) -> list[str]:
    listed = [f"- {escape(line)}" for line in lines]
    return [f"## {title}\n", *listed, ""] if listed else []


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A section with a table, as wide as its rows; empty without rows."""
    if not rows:
        return ""
    return "\n".join([f"## {title}\n", *table(head[: len(rows[0])], rows), ""])
