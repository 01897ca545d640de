"""Faults of the categories and of their names, in the split "categories"."""

from __future__ import annotations

from collections.abc import Callable

from sam3_lora.demo.faults.fault import Case, FaultTable

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


def _rename(name: str) -> Callable[[Case], None]:
    def damage(case: Case) -> None:
        case.first["category_id"] = case.add_category(name)

    damage.__doc__ = f'A category is called "{name}".'
    return damage


_fault("phrase-code")(_rename("class_2"))
_fault("phrase-position")(_rename("left kerb"))
_fault("phrase-long")(_rename("a hole in the road that was filled with asphalt"))
_fault("phrase-run-together")(_rename("oilStain"))


@_fault("phrase-plural")
def _plural(case: Case) -> None:
    """A category is called "potholes", another one "pothole"."""
    case.first["category_id"] = case.add_category("potholes")


@_fault("untrained-category")
def _not_in_train(case: Case) -> None:
    """A category has objects in the split "categories", but none in "train"."""
    case.first["category_id"] = case.add_category("drain grate")
