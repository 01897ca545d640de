"""Reads the list 'categories' of a split."""

from __future__ import annotations

import unicodedata
from typing import Any

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.entries import identifier
from sam3_lora.data.prompts import phrase_of
from sam3_lora.text import short_repr, valid_text


class CategoryReader:
    """The categories of one split.

    Attributes:
        index: name -> its index, in the file's order, each name once.
        names: id -> name.
        index_by_id: id -> index, without the ids that categories share.
        shared: id -> the names that share it.
        nameless: the ids of entries without a usable name.
    """

    def __init__(self, findings: FindingCollector) -> None:
        self._findings = findings
        self.index: dict[str, int] = {}
        self.names: dict[int | str, str] = {}
        self.index_by_id: dict[int | str, int] = {}
        self.shared: dict[int | str, set[str]] = {}
        self.nameless: set[int | str] = set()
        self._supercategories: dict[str, str] = {}

    def read(self, entries: Any) -> None:
        """Reads the whole list, of any type; entries that cannot be used become findings."""
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            key = identifier(entry.get("id")) if isinstance(entry, dict) else None
            name = str(name) if type(name) is int and abs(name) < 2**63 else name
            if key is None or not isinstance(name, str) or not any(map(_is_sign, name)):
                self._findings.add("bad-category", value=entry)
                self.nameless |= set() if key is None else {key}
            else:
                self._add(key, valid_text(name))
                above = entry.get("supercategory")
                if isinstance(above, str) and above.strip():
                    self._supercategories.setdefault(valid_text(name), valid_text(above))

    def _add(self, key: int | str, name: str) -> None:
        index = self.index.setdefault(name, len(self.index))
        known = self.names.setdefault(key, name)
        if known == name:
            self.index_by_id[key] = index
            return
        self.index_by_id.pop(key, None)
        self.shared.setdefault(key, {known}).add(name)
        detail = f"id {key} of {short_repr(known)} and {short_repr(name)}"
        self._findings.add("duplicate-category-id", detail=detail)

    def ancestors(self) -> dict[str, tuple[str, ...]]:
        """name -> the categories above it, nearest first: its supercategory, the one of that, and so on.

        Only of those that have any. A supercategory that is no category itself, or reads like the category's own name,
        says nothing about phrases.
        """
        if not self._supercategories:
            return {}
        by_phrase: dict[str, str] = {}
        for name in self.index:
            by_phrase.setdefault(phrase_of(name), name)
        found = {}
        for name in self.index:
            above, now = [], name
            while (parent := self._parent(now, by_phrase)) and parent != name and parent not in above:
                above.append(now := parent)
            if above:
                found[name] = tuple(above)
        return found

    def _parent(self, name: str, by_phrase: dict[str, str]) -> str | None:
        supercategory = phrase_of(self._supercategories.get(name, ""))
        return by_phrase.get(supercategory) if supercategory != phrase_of(name) else None


def _is_sign(character: str) -> bool:
    """A letter, a digit or an emoji, rather than punctuation alone."""
    return character.isalnum() or unicodedata.category(character) == "So"
