"""Was it worth it? What got worse becomes an alarm, and everything together one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from sam3_lora.evaluate.report import LOWER_IS_BETTER, METRICS, Alarm, Difference, Kept

SAME = 0.0005  # what cannot be told apart with three decimals
MIN_KEPT, MIN_FOUND = 0.9, 5  # of what the base finds, the share that has to stay; fewer say nothing
FEW_IMAGES = 20
MIN_F1 = 0.05  # at a score of 0.5; an adapter below it is of no use, however surely it beats the base
_ALARMING = ("map_segm", "map_bbox", "cgf1", "false_firing")  # the other metrics are parts of these


def better(difference: Difference) -> bool | None:
    """Whether the adapter is surely better (True), surely worse (False), or neither (None): the interval holds 0, or
    what is told as 0 with three decimals."""
    if difference.low is None or difference.high is None:
        return None
    sign = -1 if difference.metric in LOWER_IS_BETTER else 1
    low, high = sorted((sign * difference.low, sign * difference.high))
    if abs(difference.difference or 0) < SAME:
        return None
    return True if low >= SAME else False if high <= -SAME else None


def alarms(differences: Sequence[Difference], kept: Kept | None, main: str) -> list[Alarm]:
    """What surely got worse, beside the main metric itself, which the verdict begins with."""
    found = []
    one_phrase = sum(one.subject == "phrase" for one in differences) == 1  # which is what the main metric tells of
    for one in differences:
        told_elsewhere = one.metric == main or one.metric not in _ALARMING
        if better(one) is not False or (one.subject == "all" and told_elsewhere):
            continue
        if one.subject == "phrase" and one_phrase:
            continue
        change = f"from {one.base:.3f} to {one.adapter:.3f} ({_interval(one)})"
        label = METRICS[one.metric][0]
        if one.subject == "phrase":
            found.append(Alarm("phrase", f"{one.name} got worse", f"{one.name}: {label} went {change}."))
        elif one.subject == "size":
            found.append(
                Alarm(
                    "size", f"{one.name} objects got worse", f"{one.name.capitalize()} objects: {label} went {change}."
                )
            )
        elif one.metric == "false_firing":
            short = "it fires more often on what is not there"
            found.append(Alarm("metric", short, f"False firing rose {change}: it learned to answer yes."))
        else:
            found.append(Alarm("metric", f"{label} fell", f"{label} fell {change}."))
    if kept is not None and kept.found >= MIN_FOUND and kept.high is not None and kept.high < MIN_KEPT:
        found.append(_forgotten(kept))
    return found


def _forgotten(kept: Kept) -> Alarm:
    words = [word for word, (found, still) in kept.by_word.items() if still < found]
    worst = sorted(words, key=lambda word: kept.by_word[word][1] - kept.by_word[word][0])[:3]
    lost = kept.found - kept.kept
    return Alarm(
        "forgotten",
        f"it forgot {lost} of {kept.found} other things that the base finds",
        f"Old concepts were forgotten: of {kept.found} things that the base finds by other words, "
        f"the adapter finds {kept.kept}; most are lost for {_listed(worst)}. "
        "Nothing is annotated for these words: look whether the things were really there.",
    )


def verdict(
    differences: Sequence[Difference], found_alarms: Sequence[Alarm], main: str, images: int, base: float | None
) -> str:
    """The result in one sentence. base: the main metric of the base model, for where there is no adapter."""
    label = METRICS[main][0][0].lower() + METRICS[main][0][1:]
    one = next((one for one in differences if one.subject == "all" and one.metric == main), None)
    if one is None:
        reached = "not defined" if base is None else f"{base:.3f}"
        return f"The base model reaches a {label} of {reached} on {images} images; there is no adapter to compare with."
    costs = _listed([alarm.short for alarm in found_alarms[:3]])
    if len(found_alarms) > 3:
        costs += f" and {len(found_alarms) - 3} more"
    if one.difference is None:
        return f"Not decided: {label} cannot be compared on these {images} images{_but(costs)}."
    change = f"from {one.base:.3f} to {one.adapter:.3f} ({_interval(one)})"
    if one.low is None:
        few = "1 image is" if images == 1 else f"{images} images are"
        return f"Not decided: {label} goes {change}, but {few} too few to tell{_but(costs)}."
    f1 = next((one.adapter for one in differences if one.subject == "all" and one.metric == "f1_50"), None)
    if one.difference > 0 and f1 is not None and f1 < MIN_F1:
        return (
            f"Too little learned: the adapter brings {label} {change}, but at a score of 0.5 it finds next to nothing "
            f"(F1 {f1:.3f}){_and(costs)}. Train longer, or try lower thresholds."
        )
    if abs(one.difference) < SAME and max(abs(one.low), abs(one.high)) < SAME:
        return f"No difference: {label} stays at {one.adapter:.3f} with the adapter{_but(costs)}."
    if better(one):
        rest = _but(costs) or ", and nothing else that was measured got worse"
        return f"{'Mixed' if costs else 'Worth it'}: the adapter raises {label} {change}{rest}."
    if better(one) is False:
        return f"Not worth it: the adapter lowers {label} {change}{_and(costs)}."
    return f"Not decided: {label} goes {change}, which {images} images cannot tell from chance{_but(costs)}."


def _but(costs: str) -> str:
    return f", but {costs}" if costs else ""


def _and(costs: str) -> str:
    return f", and {costs}" if costs else ""


def _interval(one: Difference) -> str:
    if one.low is None or one.high is None:
        return f"{one.difference:+.3f}"
    return f"{one.difference:+.3f}, 95 % interval {one.low:+.3f} to {one.high:+.3f}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
