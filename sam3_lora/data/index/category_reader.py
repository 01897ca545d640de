"""Reads the list 'categories' of a split."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from sam3_lora.data.edits.reading import SplitEdits
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.entries import identifier
from sam3_lora.data.index.objects.notation import KnownIds
from sam3_lora.data.prompts import joined_singular, phrase_of
from sam3_lora.text import short_repr, type_in_words, valid_text

PARENTS = ("supercategory", "super_category", "parent", "parent_id")  # keys under which tools write it


class CategoryReader:
    """The categories of one split.

    Attributes:
        index: name -> its index, in the file's order, each name once.
        names: id -> name.
        index_by_id: id -> index, without the ids that categories share.
        shared: id -> the names that share it.
        nameless: the ids of entries without a usable name.
        ids: finds the ids that are written otherwise.

    Args:
        findings: of the split.
        edits: of the split; a category that they leave out keeps its id and its name, but has no index.
    """

    def __init__(self, findings: FindingCollector, edits: SplitEdits) -> None:
        self._findings, self._edits = findings, edits
        self.index: dict[str, int] = {}
        self.names: dict[int | str, str] = {}
        self.index_by_id: dict[int | str, int] = {}
        self.shared: dict[int | str, set[str]] = {}
        self.nameless: set[int | str] = set()
        self.ids = KnownIds(self.names, self.names.get)
        self._above: dict[str, list[Any]] = {}  # name -> what its entry gives as the category above it

    def read(self, entries: Any) -> None:
        """Reads the whole list, of any type; entries that cannot be used become findings."""
        if not isinstance(entries, list):
            self._findings.add("bad-category", detail=type_in_words(entries))
            self._findings.describe("bad-category", variant="no-list")
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            key = identifier(entry.get("id")) if isinstance(entry, dict) else None
            name = str(name) if type(name) is int and abs(name) < 2**63 else name
            if key is None or not isinstance(name, str) or not any(map(_is_sign, name)):
                self._findings.add("bad-category", value=entry)
                self.nameless |= set() if key is None else {key}
            else:
                name = self._add(key, valid_text(name))
                for value in (entry[key] for key in PARENTS if entry.get(key) is not None):
                    self._above.setdefault(name, []).extend(value if isinstance(value, list) else [value])

    def add(self, names: Iterable[str]) -> None:
        """Takes in categories that edits give to objects, and that may be new."""
        for name in names:
            self.index.setdefault(name, len(self.index))

    def _add(self, key: int | str, written: str) -> str:
        """Takes in a category and returns its name after all edits."""
        name = self._edits.category(written)
        if name is None:
            self.names.setdefault(key, written)
            return written
        index = self.index.setdefault(name, len(self.index))
        known = self.names.setdefault(key, name)
        if known == name:
            self.index_by_id[key] = index
            return name
        self.index_by_id.pop(key, None)
        self.shared.setdefault(key, {known}).add(name)
        detail = f"id {key} of {short_repr(known)} and {short_repr(name)}"
        self._findings.add("duplicate-category-id", detail=detail)
        return name

    def ancestors(self) -> dict[str, tuple[str, ...]]:
        """name -> the categories above it, nearest first: its supercategory, the one of that, and so on.

        Only of those that have any. A supercategory that is no category itself, or reads like the category's own name,
        says nothing about phrases.
        """
        if not self._above:
            return {}
        by_phrase: dict[str, str] = {}
        for spelled in (phrase_of, lambda name: joined_singular(phrase_of(name))):
            for name in self.index:
                by_phrase.setdefault(spelled(name), name)
        found = {}
        for name in self.index:
            above, now = [], name
            while (parent := self._parent(now, by_phrase)) and parent != name and parent not in above:
                above.append(now := parent)
            if above:
                found[name] = tuple(above)
        return found

    def _parent(self, name: str, by_phrase: dict[str, str]) -> str | None:
        for value in self._above.get(name, ()):
            if type(value) is int:
                parent = self.names.get(value)
            else:
                above = self._edits.category(valid_text(value)) if isinstance(value, str) else None
                phrase = phrase_of(above) if above else ""
                parent = by_phrase.get(phrase) or by_phrase.get(joined_singular(phrase))
            if parent in self.index and phrase_of(parent) != phrase_of(name):
                return parent
        return None

    def name_of(self, value: Any) -> str | None:
        """The name of the category that a value gives by its id or its name; None if it is unclear."""
        key = identifier(value)
        if key is not None and key not in self.names:
            key = self.ids.find(key)
        return None if key is None or key in self.shared else self.names.get(key)


def _is_sign(character: str) -> bool:
    """A letter, a digit or an emoji, rather than punctuation alone."""
    return character.isalnum() or unicodedata.category(character) == "So"
