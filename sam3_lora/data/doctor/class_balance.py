"""Checks how many objects each category has to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.text import plural, short_repr

MIN_OBJECTS = 10  # of a category
RAREST = 20  # times fewer objects than the most frequent category has
_TRAIN = "train"


def check(objects: Mapping[str, Mapping[str, int]], findings: FindingCollector) -> None:
    """Finds rare and untrained categories.

    Args:
        objects: split -> category -> objects, crowds left out. What counts is the split "train", in upper or lower
            case, or all splits if there is none of that name.
        findings: of the whole dataset.
    """
    total = sum((Counter(counts) for counts in objects.values()), Counter())
    train = next((split for split in objects if split.lower() == _TRAIN), None)
    learned = total if train is None else Counter(objects[train])
    if not total:
        return
    for category in total:
        if not learned[category]:
            detail = f"{short_repr(category)}, {plural(total[category], 'object')} elsewhere"
            findings.add("untrained-category", detail=detail)
        elif learned[category] < MIN_OBJECTS:
            detail = f"{short_repr(category)} with {learned[category]}"
            findings.add("few-objects", detail=detail, min_objects=MIN_OBJECTS)
    if not learned:
        return
    frequent, most = learned.most_common(1)[0]
    for category, count in learned.items():
        if 0 < count * RAREST < most:
            detail = f"{short_repr(category)} with {count:,}"
            findings.add("class-imbalance", detail=detail, most_frequent=(frequent,), most_objects=most)
