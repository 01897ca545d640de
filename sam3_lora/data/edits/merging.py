"""Merging two datasets: which category of one is which of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.kinds import EditList, ExcludeCategories, RenameCategories
from sam3_lora.data.prompts import joined_singular, phrase_of
from sam3_lora.data.records import Dataset


@dataclass(frozen=True, slots=True)
class CategoryMatch:
    """What a category of another dataset becomes.

    Attributes:
        name: there.
        objects: how many there are.
        becomes: its new name; None leaves it out.
    """

    name: str
    objects: int
    becomes: str | None


def match_categories(dataset: Dataset, other: Dataset) -> list[CategoryMatch]:
    """Finds a category of a dataset for each of another one: of the same name, or spelled otherwise; else it is new.

    Spelled otherwise is what differs in case, number, hyphens and spaces only: "Potholes" is "pothole".

    Args:
        dataset: that gives the names.
        other: that is merged with it.
    """
    spelled: dict[str, list[str]] = {}
    for name in dataset.categories:
        spelled.setdefault(_spelling(name), []).append(name)
    counts: Counter[str] = Counter()
    for split in other.splits.values():
        counts.update(split.objects_per_category())
    taken = set(dataset.categories)
    found = []
    for name in other.categories:
        alike = spelled.get(_spelling(name), [])
        becomes = name if name in taken or len(alike) != 1 else alike[0]
        found.append(CategoryMatch(name, counts[name], becomes))
    return found


def edits_of(matches: Iterable[CategoryMatch]) -> EditList:
    """The edits that give the other dataset its new categories."""
    names = {match.name: match.becomes for match in matches}
    out = tuple(name for name, becomes in names.items() if becomes is None)
    renamed = {name: becomes for name, becomes in names.items() if becomes not in (None, name)}
    excluded = (ExcludeCategories(out),) if out else ()
    return EditList((*excluded, RenameCategories(renamed)) if renamed else excluded)


def open_matched(dataset: Dataset, path: str | Path) -> tuple[Dataset, list[CategoryMatch]]:
    """Opens another dataset with the names that :func:`match_categories` finds; returns it, and them.

    Raises:
        DataError: it cannot be opened.
    """
    matches = match_categories(dataset, open_dataset(path))
    return open_dataset(path, edits=edits_of(matches)), matches


def _spelling(name: str) -> str:
    return joined_singular(phrase_of(name).lower())
