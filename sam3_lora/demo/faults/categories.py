"""Faults of the categories and of their names, in the split "categories"."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case


def bad_category(case: Case) -> None:
    """A category has no name."""
    case.data["categories"].append({"id": case.new_id("categories")})


def nameless_category(case: Case) -> None:
    """An object is of a category without a name."""
    case.first["category_id"] = case.new_id("categories")
    case.data["categories"].append({"id": case.first["category_id"]})


def duplicate_category_id(case: Case) -> None:
    """Two categories have the same id, and an annotation could mean either."""
    case.set_category("dent")
    case.data["categories"].append({"id": case.first["category_id"], "name": "bump"})


def same_phrase(case: Case) -> None:
    """A category is written in upper case, and a second time in lower case."""
    names = {entry["id"]: entry.get("name") for entry in case.data["categories"]}
    case.set_category(names[case.first["category_id"]].upper())


def unused_category(case: Case) -> None:
    """A category has no object."""
    case.add_category("pavement inspection")


def phrase_code(case: Case) -> None:
    """A category is called "class_2"."""
    case.set_category("class_2")


def phrase_position(case: Case) -> None:
    """A category is called "left kerb"."""
    case.set_category("left kerb")


def phrase_long(case: Case) -> None:
    """A category is called "a hole in the road that was filled with asphalt"."""
    case.set_category("a hole in the road that was filled with asphalt")


def phrase_run_together(case: Case) -> None:
    """A category is called "oilStain"."""
    case.set_category("oilStain")


def phrase_with_comma(case: Case) -> None:
    """A category is called "damage, severe"."""
    case.set_category("damage, severe")


def phrase_for_nothing(case: Case) -> None:
    """A category is called "background"."""
    case.set_category("background")


def phrase_not_english(case: Case) -> None:
    """A category is called "坑洞", pothole in Chinese."""
    case.set_category("坑洞")


def phrase_plural(case: Case) -> None:
    """A category is called "potholes", another one "pothole"."""
    case.set_category("potholes")


def untrained_category(case: Case) -> None:
    """A category has objects in the split "categories", but none in "train"."""
    case.set_category("drain grate")
