"""Looks at how many objects each category has to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sam3_lora.data.findings.findings import FindingCollector, shown
from sam3_lora.text import plural

MIN_OBJECTS = 10  # of a category
RAREST = 20  # times fewer objects than the most frequent category has
_TRAIN = "train"


def note(objects: Mapping[str, Mapping[str, int]], faults: FindingCollector) -> None:
    """Writes rare and untrained categories into the faults of the whole dataset.

    Args:
        objects: split -> category -> objects, crowds left out. What counts is the split "train", in
            capitals or not, or all splits where none is called so.
        faults: of the whole dataset.
    """
    total = sum((Counter(counts) for counts in objects.values()), Counter())
    train = next((split for split in objects if split.lower() == _TRAIN), None)
    learned = total if train is None else Counter(objects[train])
    if not total:
        return
    for category in total:
        if not learned[category]:
            faults.add("untrained-category", detail=f"{shown(category)}, {plural(total[category], 'object')} elsewhere")
        elif learned[category] < MIN_OBJECTS:
            faults.add("few-objects", detail=f"{shown(category)} with {learned[category]}")
    if not learned:
        return
    frequent, most = learned.most_common(1)[0]
    faults.facts["most_frequent"] = f"{shown(frequent)} with {most:,}"
    for category, count in learned.items():
        if 0 < count * RAREST < most:
            faults.add("class-imbalance", detail=f"{shown(category)} with {count:,}")
