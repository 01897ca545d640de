"""Faults of the categories and of their names, in the split "categories"."""

from __future__ import annotations

from sam3_lora.data.broken.fault import Case, FaultTable

_fault = FaultTable("categories")
FAULTS = _fault.faults


@_fault("bad-category")
def _no_name(case: Case) -> None:
    """A category has no name."""
    case.data["categories"].append({"id": 1 + max(entry["id"] for entry in case.data["categories"])})


@_fault("duplicate-category-id")
def _two_of_one_id(case: Case) -> None:
    """Two categories have the same id, and an annotation could mean either."""
    case.first["category_id"] = case.add_category("dent")
    case.data["categories"].append({"id": case.first["category_id"], "name": "bump"})


@_fault("same-phrase")
def _in_capitals(case: Case) -> None:
    """A category is written in capitals, and a second time in small letters."""
    names = {entry["id"]: entry.get("name") for entry in case.data["categories"]}
    case.first["category_id"] = case.add_category(names[case.first["category_id"]].upper())


@_fault("unused-category")
def _without_objects(case: Case) -> None:
    """A category has no object."""
    case.add_category("pavement inspection")
