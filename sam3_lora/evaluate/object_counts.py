"""How many annotated objects each phrase finds, at the score threshold: the plainest numbers of a report."""

from __future__ import annotations

from dataclasses import dataclass

from sam3_lora.evaluate.report import ModelMetrics, Report


@dataclass(frozen=True)
class ObjectCount:
    """What one phrase, or all, find with the judged model: masks at IoU 0.5 and score 0.5."""

    phrase: str  # "" for all phrases
    objects: int
    found: int
    base_found: int
    false_positives: int | None  # None in reports of earlier versions


def count_objects(report: Report) -> list[ObjectCount]:
    """The counts of each phrase that has objects, those with most of them first."""
    counts = [_of_phrase(report, phrase) for phrase, count in report.phrases.items() if count.objects]
    return sorted(counts, key=lambda one: -one.objects)


def total(report: Report) -> ObjectCount:
    """The counts of all phrases, also of those without objects."""
    counts = [_of_phrase(report, phrase) for phrase in report.phrases]
    false_positives = [one.false_positives for one in counts]
    return ObjectCount(
        "",
        objects=sum(one.objects for one in counts),
        found=sum(one.found for one in counts),
        base_found=sum(one.base_found for one in counts),
        false_positives=None if None in false_positives else sum(value or 0 for value in false_positives),
    )


def _of_phrase(report: Report, phrase: str) -> ObjectCount:
    objects = report.phrases[phrase].objects
    found, predicted = _found(report.judged, phrase, objects)
    return ObjectCount(
        phrase,
        objects,
        found,
        base_found=_found(report.base, phrase, objects)[0],
        false_positives=None if predicted is None else predicted - found,
    )


def _found(model: ModelMetrics, phrase: str, objects: int) -> tuple[int, int | None]:
    """True positives of a model, and how many objects it predicts; None in reports of earlier versions."""
    values = model.phrases.get(phrase, {})
    tp, predicted = values.get("tp"), values.get("predicted")
    if tp is None or predicted is None:
        return round((values.get("recall") or 0.0) * objects), None
    return round(tp), round(predicted)
