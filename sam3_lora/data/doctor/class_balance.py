"""Checks how many objects each category has to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.prompts import phrase_of
from sam3_lora.text import plural, short_repr

MIN_OBJECTS = 10  # of a category
RAREST = 20  # times fewer objects than the most frequent category has
_TRAIN = "train"


def check(objects: Mapping[str, Mapping[str, int]], findings: FindingCollector) -> None:
    """Finds rare and untrained categories; those that are one phrase count as one.

    Args:
        objects: split -> category -> objects, crowds left out. What counts is the split "train", in upper or lower
            case, or all splits if there is none of that name.
        findings: of the whole dataset.
    """
    names: dict[str, str] = {}  # phrase -> the category that it is written as first
    counts = {split: _by_phrase(of_split, names) for split, of_split in objects.items()}
    total = sum(counts.values(), Counter[str]())
    train = next((split for split in objects if split.lower() == _TRAIN), None)
    learned = total if train is None else counts[train]
    if not total:
        return
    for phrase in total:
        if not learned[phrase]:
            detail = f"{short_repr(names[phrase])}, {plural(total[phrase], 'object')} elsewhere"
            findings.add("untrained-category", detail=detail)
        elif learned[phrase] < MIN_OBJECTS:
            detail = f"{short_repr(names[phrase])} with {learned[phrase]}"
            findings.add("few-objects", detail=detail, min_objects=MIN_OBJECTS)
    if not learned:
        return
    frequent, most = learned.most_common(1)[0]
    for phrase, count in learned.items():
        if 0 < count * RAREST < most:
            detail = f"{short_repr(names[phrase])} with {count:,}"
            findings.add("class-imbalance", detail=detail, most_frequent=(names[frequent],), most_objects=most)


def _by_phrase(objects: Mapping[str, int], names: dict[str, str]) -> Counter[str]:
    """Objects by phrase, as they are learned: categories that differ in case or spaces are one."""
    counts = Counter[str]()
    for category, count in objects.items():
        names.setdefault(phrase_of(category), category)
        counts[phrase_of(category)] += count
    return +counts
