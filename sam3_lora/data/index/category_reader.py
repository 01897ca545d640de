"""Reads the list 'categories' of a split."""

from __future__ import annotations

from typing import Any

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.entries import identifier
from sam3_lora.text import short_repr, valid_text


class CategoryReader:
    """The categories of one split.

    Attributes:
        index: name -> its index, in the file's order, each name once.
        names: id -> name.
        index_by_id: id -> index, without the ids that categories share.
        shared: id -> the names that share it.
    """

    def __init__(self, findings: FindingCollector) -> None:
        self._findings = findings
        self.index: dict[str, int] = {}
        self.names: dict[int | str, str] = {}
        self.index_by_id: dict[int | str, int] = {}
        self.shared: dict[int | str, set[str]] = {}

    def read(self, entries: Any) -> None:
        """Reads the whole list, of any type; entries that cannot be used become findings."""
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            key = identifier(entry.get("id")) if isinstance(entry, dict) else None
            name = str(name) if type(name) is int and abs(name) < 2**63 else name
            if key is None or not isinstance(name, str) or not any(map(str.isalnum, name)):
                self._findings.add("bad-category", value=entry)
            else:
                self._add(key, valid_text(name))

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
