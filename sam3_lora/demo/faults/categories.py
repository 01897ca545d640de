"""Faults of the categories and of their names, in the split "categories"."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case, FaultTable, rename

_fault = FaultTable("categories")
FAULTS = _fault.faults


@_fault("bad-category")
def _no_name(case: Case) -> None:
    """A category has no name."""
    case.data["categories"].append({"id": case.new_id("categories")})


@_fault("duplicate-category-id")
def _two_of_one_id(case: Case) -> None:
    """Two categories have the same id, and an annotation could mean either."""
    case.first["category_id"] = case.add_category("dent")
    case.data["categories"].append({"id": case.first["category_id"], "name": "bump"})


@_fault("same-phrase")
def _in_upper_case(case: Case) -> None:
    """A category is written in upper case, and a second time in lower case."""
    names = {entry["id"]: entry.get("name") for entry in case.data["categories"]}
    case.first["category_id"] = case.add_category(names[case.first["category_id"]].upper())


@_fault("unused-category")
def _without_objects(case: Case) -> None:
    """A category has no object."""
    case.add_category("pavement inspection")


for _kind, _name, _sentence in (
    ("phrase-code", "class_2", 'A category is called "{}".'),
    ("phrase-position", "left kerb", 'A category is called "{}".'),
    ("phrase-long", "a hole in the road that was filled with asphalt", 'A category is called "{}".'),
    ("phrase-run-together", "oilStain", 'A category is called "{}".'),
    ("phrase-plural", "potholes", 'A category is called "{}", another one "pothole".'),
    ("untrained-category", "drain grate", 'A category has objects in the split "categories", but none in "train".'),
):
    _fault(_kind)(rename(_name, _sentence.format(_name)))
