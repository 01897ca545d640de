"""A report as Markdown, to be read or handed on."""

from __future__ import annotations

from collections.abc import Iterable

from sam3_lora.evaluate.report import METRICS, Difference, Report
from sam3_lora.text import plural

_MAX_ROWS = 10  # leaks and images that are listed


def to_markdown(report: Report) -> str:
    """The whole report but the pictures."""
    who = f"adapter {report.adapter_name} beside base {report.base_name}" if report.adapter else report.base_name
    parts = [
        "# Evaluation\n",
        f"**{_cell(report.verdict)}**\n",
        f"{_cell(who)}; split {_cell(report.split)} of {_cell(report.dataset)}: {plural(report.images, 'image')}, "
        f"{plural(report.objects, 'object')}; {report.made.replace('T', ' ')}.\n",
        *_bullets("Got worse", (alarm.message for alarm in report.alarms)),
        *_bullets("To keep in mind", [*report.notes, *_not_defined(report)]),
        _changes("Metrics", report, "all"),
        _changes("By phrase", report, "phrase"),
        _changes("By object size", report, "size"),
        *_kept(report),
        *_leaks(report),
        *_thresholds(report),
        *_worst(report),
    ]
    return "\n".join(part for part in parts if part)


def number(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(one: Difference) -> str:
    return "–" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"


def changes(report: Report, subject: str) -> list[Difference]:
    """A subject's rows; without an adapter with the base's numbers alone."""
    if report.adapter is not None:
        return [one for one in report.differences if one.subject == subject]
    if subject == "all":
        return [Difference(subject, "", name, value, None, None) for name, value in report.base.metrics.items()]
    main = report.main_metric
    values = report.base.phrases if subject == "phrase" else report.base.sizes
    ap = main.replace("map_", "ap_")
    return [Difference(subject, name, main, one[ap], None, None) for name, one in values.items()]


def _not_defined(report: Report) -> list[str]:
    return [f"{METRICS[name][0]} is not defined, because {why}." for name, why in report.not_defined.items()]


def _changes(title: str, report: Report, subject: str) -> str:
    rows = changes(report, subject)
    first = "Metric" if subject == "all" else f"{METRICS[report.main_metric][0]} of"
    head = [first, "Base"] + (["Adapter", "Difference", "95 % interval"] if report.adapter else [])
    body = []
    for one in rows:
        row = [METRICS[one.metric][0] if subject == "all" else one.name, number(one.base)]
        body.append(
            row + ([number(one.adapter), number(one.difference, True), interval(one)] if report.adapter else [])
        )
    return _table(title, head, body)


def _kept(report: Report) -> list[str]:
    kept = report.kept
    if kept is None:
        return []
    if not kept.found:
        return ["## What the base knew\n", "The base model finds nothing by other words on these images.\n"]
    rows = [[word, str(found), str(still)] for word, (found, still) in kept.by_word.items()]
    share = f"Of {kept.found} things that the base finds by other words, the adapter finds {kept.kept}.\n"
    return [_table("What the base knew", ["Word", "Base finds", "Adapter finds of these"], rows), share]


def _leaks(report: Report) -> list[str]:
    rows = []
    leak, base = report.judged.leak, report.base.leak
    for row, phrase in enumerate(leak.rows):
        for column, of in enumerate(leak.columns):
            if share := leak.on_objects[row][column]:
                rows.append((share, [phrase, of, f"{base.on_objects[row][column] or 0:.0%}", f"{share:.0%}"]))
    rows.sort(key=lambda one: -one[0])
    head = ["Phrase", "marks objects of", "Base", "Adapter" if report.adapter else "Base again"]
    width = 4 if report.adapter else 3
    body = [row[:width] for _, row in rows[:_MAX_ROWS]]
    if not body:
        return ["## Prompt leak\n", "No phrase marks objects that it does not mean.\n"]
    return [_table("Prompt leak", head[:width], body)]


def _thresholds(report: Report) -> list[str]:
    rows = [
        [phrase, f"{one.threshold:.2f}", number(one.f1), number(one.f1_at_half)]
        for phrase, one in report.judged.thresholds.items()
        if one
    ]
    return [_table("Score thresholds that suit best", ["Phrase", "Threshold", "F1", "F1 at 0.5"], rows)] if rows else []


def _worst(report: Report) -> list[str]:
    rows = [[one.file_name, str(one.false), str(one.missed), str(one.poor)] for one in report.worst[:_MAX_ROWS]]
    return [_table("Worst images", ["Image", "False", "Missed", "Bad masks"], rows)] if rows else []


def _bullets(title: str, lines: Iterable[str]) -> list[str]:
    listed = [f"- {_cell(line)}" for line in lines]
    return [f"## {title}\n", *listed, ""] if listed else []


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
