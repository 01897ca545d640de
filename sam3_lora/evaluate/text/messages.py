"""An evaluation in words: sentences for verdicts, alerts and notes, numbers in print, and the report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sam3_lora.evaluate.cgf1 import NO_NEGATIVES, NO_POSITIVES
from sam3_lora.evaluate.gain_loss.points import F1, Kind, Measured, Missing, Point
from sam3_lora.evaluate.metrics import METRICS
from sam3_lora.evaluate.object_counts import count_objects, total
from sam3_lora.evaluate.report import Difference, Report, Retention
from sam3_lora.evaluate.verdict import Alert, Verdict, VerdictKind
from sam3_lora.text import first_names, plural, short
from sam3_lora.tiles import Tiling

_MIN_GAIN = 0.02  # in F1, for which other score thresholds are worth a word
_MIN_OBJECTS = 5  # of a phrase, below which its share says little
_MAX_COUNTED = 8  # phrases whose objects are counted in a sentence
_MAX_ROWS = 10  # leaks and images that are listed
_REASONS = {
    NO_NEGATIVES: "every image contains every phrase, so there are no negatives",
    NO_POSITIVES: "no image contains any of the phrases",
}
BOXES_ONLY = "No object has an outline, so masks are measured against boxes and box mAP decides."


def number(value: float | None, signed: bool = False) -> str:
    """A metric with three decimals, "–" for None; signed: "+0.100" for a difference."""
    return "–" if value is None else f"{value:+z.3f}" if signed else f"{value:z.3f}"  # z: no "-0.000"


def interval(one: Difference) -> str:
    """The confidence interval of a difference, "–" without one."""
    return "–" if one.low is None or one.high is None else f"{one.low:+z.3f} to {one.high:+z.3f}"


def verdict_sentence(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    label = METRICS[verdict.metric][0]
    label = label[0].lower() + label[1:]
    images, change = plural(verdict.images, "image"), verdict.change
    if change is None:
        reached = "undefined" if verdict.base is None else f"{verdict.base:.3f}"
        return f"The base model reaches a {label} of {reached} on {images}; there is no adapter to compare with."
    costs = _joined([alert_phrase(alert) for alert in verdict.alerts[:3]])
    if len(verdict.alerts) > 3:
        costs += f" and {len(verdict.alerts) - 3} more"
    but, also = (f", {word} {costs}" if costs else "" for word in ("but", "and"))
    by = _change(change)
    match verdict.kind:
        case VerdictKind.UNDEFINED:
            return f"Not decided: {label} is undefined on {images}{but}."
        case VerdictKind.TOO_FEW_IMAGES:
            few = "is" if verdict.images == 1 else "are"
            return f"Not decided: {label} goes {by}, but {images} {few} too few to tell{but}."
        case VerdictKind.TOO_LITTLE_LEARNED:
            return (
                f"Too little learned: the adapter raises {label} {by}, but at a score of 0.5 it finds almost nothing "
                f"(F1 {number(verdict.f1)}){also}. Train longer, or try lower thresholds."
            )
        case VerdictKind.NO_DIFFERENCE:
            return f"No difference: {label} stays at {number(change.adapter)} with the adapter{but}."
        case VerdictKind.WORTH_IT:
            rest = f". Route it by phrase: on its own {costs}" if costs else ", and nothing else got worse"
            return f"Worth it: the adapter raises {label} {by}{rest}."
        case VerdictKind.MIXED:
            return f"Mixed: the adapter raises {label} {by}{but}."
        case VerdictKind.NOT_WORTH_IT:
            return f"Not worth it: the adapter lowers {label} {by}{also}."
    return f"Not decided: {label} goes {by}, which may be chance on {images}{but}."


def found_sentence(report: Report) -> str:
    """What is found of what is annotated: "The adapter finds 24 of 45 objects, 6 of its 30 predictions are ..."."""
    count = total(report)
    who = "The adapter" if report.adapter else "The base model"
    wrong = "" if count.false_positives is None else f", {_wrong(count.false_positives, count.found)}"
    beside = f"; the base model alone finds {count.base_found}" if report.adapter else ""
    return f"{who} finds {count.found} of {plural(count.objects, 'object')}{wrong}{beside}."


def _wrong(wrong: int, right: int) -> str:
    if not wrong:
        return "no prediction is wrong"
    return f"{wrong} of its {plural(wrong + right, 'prediction')} {'is' if wrong == 1 else 'are'} wrong or inexact"


def weak_sentence(report: Report) -> str:
    """Which phrases find less than half of their objects, and what helps; "" where there are none."""
    weak = [one for one in count_objects(report) if one.objects >= _MIN_OBJECTS and 2 * one.found < one.objects]
    if not weak or not report.adapter:
        return ""
    named = _joined([f"{short(one.phrase)} ({one.found} of {one.objects} found)" for one in weak[:3]])
    return f"Still weak: {named}. More images with such objects help."


def found_by_phrase(report: Report) -> str:
    """The same by phrase: "pothole 8 of 13, crack 3 of 13 and 5 more phrases"."""
    counts = count_objects(report)
    more = len(counts) - _MAX_COUNTED
    named = ", ".join(f"{short(one.phrase)} {one.found} of {one.objects}" for one in counts[:_MAX_COUNTED])
    return named + (f" and {plural(more, 'more phrase')}" if more > 0 else "")


def alert_phrase(alert: Alert) -> str:
    """The alert as a part of the verdict's sentence."""
    one = alert.difference
    if alert.kind == "trained-on":
        return f"it was trained on {alert.images:,} of these images"
    if one is None:
        assert alert.retention is not None, "an alert is about a difference or about retention"
        lost = alert.retention.found - alert.retention.kept
        of = f"{alert.retention.found} other objects that the base model finds, rightly or not"
        return f"it no longer finds {lost} of {of}"
    if one.metric == "false_firing":
        return "it fires more often on absent objects"
    if alert.kind == "metric":
        return f"{METRICS[one.metric][0]} fell"
    return f"{short(one.name)}{' objects' if alert.kind == 'size' else ''} got worse"


def alert_sentence(alert: Alert) -> str:
    """The alert with its numbers, and what helps."""
    fix = _FIXES.get("false_firing" if _is_false_firing(alert) else alert.kind, "")
    return f"{_described(alert)} {fix}".strip()


_FIXES = {
    "false_firing": "Repair refusal, or train with more negative phrases (data.num_negatives).",
    "forgotten": (
        "Route by phrase (the adapter answers what it was taught, the base model all else), or train with replay "
        "at a higher weight (replay.weight)."
    ),
    "phrase": "Add images with such objects, or give the category a phrase that says more.",
    "size": "Add images with such objects, or train at a larger image size.",
}


def _is_false_firing(alert: Alert) -> bool:
    return alert.difference is not None and alert.difference.metric == "false_firing"


def _described(alert: Alert) -> str:
    one = alert.difference
    if alert.kind == "trained-on":
        return trained_on(alert.images)
    if one is None:
        assert alert.retention is not None, "an alert is about a difference or about retention"
        return _forgotten(alert.retention, alert.routed)
    label, by = METRICS[one.metric][0], _change(one)
    if _is_false_firing(alert):
        return f"The false positive rate rose {by}: the adapter predicts objects that are not there more often."
    if alert.kind == "metric":
        return f"{label} fell {by}."
    name = short(one.name) if alert.kind == "phrase" else f"{one.name.capitalize()} objects"
    return f"{name}: {label} fell {by}."


def _forgotten(retention: Retention, routed: Retention | None) -> str:
    by_route = "" if routed is None else f" Routed by phrase, {routed.kept} are found."
    lost = {phrase: found - kept for phrase, (found, kept) in retention.by_phrase.items() if kept < found}
    worst = [short(phrase) for phrase in sorted(lost, key=lambda phrase: -lost[phrase])[:3]]
    return (
        f"Forgetting: of {retention.found} objects that the base model finds with other phrases, the adapter finds "
        f"{retention.kept}; most are lost for {_joined(worst)}. These phrases are not annotated, so check whether the "
        f"base model was right.{by_route}"
    )


def trained_on(images: int) -> str:
    """A warning that an adapter knows images that it is measured on."""
    return (
        f"The adapter was trained on {images:,} of these images, so the result says little about new ones: measure on "
        "images that it was not trained on."
    )


def in_tiles(tiling: Tiling) -> str:
    """A note on an evaluation in tiles."""
    return (
        f"Images larger than {tiling.size} pixels were cut into tiles of that size. Metrics are of whole images, the "
        "loss is the mean over tiles, of which a quarter, at most, have no object."
    )


def few_images(images: int) -> str:
    """A note on a small split."""
    return f"Only {plural(images, 'image')}: treat the numbers and their intervals with caution."


def not_exhaustive(prompts: int) -> str:
    """A note on prompts whose objects are not all annotated."""
    return (
        f"For {plural(prompts, 'prompt')} (an image and a phrase) not every object is annotated: predictions without "
        "an object are no false positives there."
    )


def left_out(count: int, names: Sequence[str] = ()) -> str:
    """A note on images that were left out: unreadable ones, given by their names, or else missing files."""
    images = f"{plural(count, 'image')} {'was' if count == 1 else 'were'} left out"
    if not names:
        return f"{images} because the files are missing."
    return f"{images} because they cannot be read: {first_names(names, 3)}."


def not_defined_sentences(report: Report) -> list[str]:
    """Why metrics of a report are not defined."""
    return [f"{METRICS[name][0]} is not defined, because {reason(why)}." for name, why in report.not_defined.items()]


def reason(why: str) -> str:
    """A reason of :attr:`Report.not_defined` in words; reports of earlier versions hold the words themselves."""
    return _REASONS.get(why, why)


def changes(report: Report, subject: str) -> list[Difference]:
    """A report's rows of one subject ("all", "phrase" or "size"); without an adapter only the base's numbers."""
    if report.adapter is not None:
        return [one for one in report.differences if one.subject == subject]
    if subject == "all":
        return [Difference(subject, "", name, value, None, None) for name, value in report.base.metrics.items()]
    main = report.main_metric
    values = report.base.phrases if subject == "phrase" else report.base.sizes
    ap = main.replace("map_", "ap_")
    return [Difference(subject, name, main, one[ap], None, None) for name, one in values.items()]


def columns(report: Report) -> list[str]:
    """The heads of the numbers in :func:`change_rows`."""
    if not report.adapter:
        return ["Base"]
    return ["Base", "Adapter", *(["Routed"] if report.routed else []), "Difference", "95 % interval"]


def routed_value(report: Report, one: Difference) -> float | None:
    """The number of the adapter routed by phrase beside those of a row of :func:`changes`."""
    if report.routed is None:
        return None
    if one.subject == "all":
        return report.routed.metrics.get(one.metric)
    values = report.routed.phrases if one.subject == "phrase" else report.routed.sizes
    return values[one.name][one.metric.replace("map_", "ap_")]


def thresholds_sentence(report: Report) -> str | None:
    """What the best score thresholds would gain, as a mean over phrases; None where that is little."""
    known = [best for best in report.judged.thresholds.values() if best]
    if not known:
        return None
    at_half, best = (
        sum(values) / len(known) for values in zip(*((one.f1_at_half, one.f1) for one in known), strict=True)
    )
    if best - at_half < _MIN_GAIN:
        return None
    return f"Mean F1 of the phrases: {at_half:.2f} at score 0.5, {best:.2f} at the best thresholds of this split."


REPLACED = "The adapter has been replaced since this evaluation, so these numbers are not its own: evaluate it again."


def routed_sentence(report: Report) -> str:
    """How the routed numbers were made."""
    return (
        f"Routed by phrase: the adapter answers what it was taught ({first_names(report.taught, _MAX_ROWS)}), the base "
        "model all other phrases. Difference and interval are those of the adapter without routing."
    )


def change_rows(report: Report, subject: str) -> list[list[str]]:
    """:func:`changes` in print: the name, and the numbers under :func:`columns`."""
    rows = []
    for one in changes(report, subject):
        row = [METRICS[one.metric][0] if subject == "all" else short(one.name), number(one.base)]
        if report.adapter:
            routed = [number(routed_value(report, one))] if report.routed else []
            row += [number(one.adapter), *routed, number(one.difference, True), interval(one)]
        rows.append(row)
    return rows


def kept_sentence(report: Report) -> str:
    """How many of the base model's objects the adapter still finds, for a report with an adapter."""
    retention, routed = report.retention, report.routed_retention
    assert retention is not None, "there is an adapter"
    between = "" if retention.low is None else f" (95 % interval {retention.low:.0%} to {retention.high:.0%})"
    by_route = "" if routed is None else f", routed by phrase {routed.kept}"
    return (
        f"Of {plural(retention.found, 'object')} that the base model finds with other phrases, the adapter still finds "
        f"{retention.kept}{between}{by_route}."
    )


def gain_loss_rows(points: Iterable[Point]) -> list[list[str]]:
    """Points in print: the model's name, F1, its gain over the base model, and the share that is kept."""
    return [
        [point_name(one), number(one.f1), "–" if one.kind is Kind.BASE else number(one.gain, True), f"{one.kept:.1%}"]
        for one in points
    ]


def point_name(point: Point) -> str:
    """What a point is called in a table: "Base", "Adapter", "Routed by phrase", "Adapter at strength 0.5"."""
    match point.kind:
        case Kind.BASE:
            return "Base"
        case Kind.ADAPTER:
            return "Adapter"
        case Kind.ROUTED:
            return "Routed by phrase"
    return f"Adapter at strength {point.strength:g}"


def gain_loss_meaning(shown: Measured) -> str:
    """What F1 and kept are, or why there are no points."""
    phrases = first_names(sorted(shown.basis.phrases), _MAX_ROWS)
    match shown.missing:
        case Missing.NO_ADAPTER:
            return "There is no adapter that could gain or forget."
        case Missing.NOT_MEASURED:
            return "Forgetting was not measured."
        case Missing.NO_F1:
            return "F1 is not defined on these images."
        case Missing.NOTHING_FOUND:
            return f"Forgetting cannot be measured: the base model finds nothing by other phrases ({phrases})."
    return (
        f"{METRICS[F1][0]}: {METRICS[F1][1][0].lower()}{METRICS[F1][1][1:]}, of the dataset's phrases. Kept: of the "
        f"{plural(shown.found, 'object')} that the base model finds with other phrases ({phrases}), the share that is "
        "still found."
    )


def _change(one: Difference) -> str:
    between = "" if one.low is None else f", 95 % interval {interval(one)}"
    return f"from {number(one.base)} to {number(one.adapter)} ({number(one.difference, True)}{between})"


def _joined(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)
