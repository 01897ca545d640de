"""What is said of values that are read although they are not what COCO asks for; see messages.py."""

from __future__ import annotations

_REGIONS = "{count:,} of {all_annotations:,} annotations {have} iscrowd or ignore 1"
_NOT_LEARNED = _REGIONS + ", which marks a region of many objects: {they} {are} shown, but not learned"
_LEARN = "set data.crowds_as_objects (Configure page: 'Learn crowd regions as objects')"

ERRORS: dict[str, tuple[str, str]] = {}
WARNINGS: dict[str, tuple[str, str]] = {
    "crowds": (
        _NOT_LEARNED,
        "Nothing, if they are such regions; if each of them is one object, since some tools mark every brush mask so, "
        + _LEARN,
    ),
}
INFOS: dict[str, tuple[str, str]] = {}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    ("crowds", "only"): (
        _NOT_LEARNED + ", so that nothing is left to learn of {only}",
        f"If each of them is one object, {_LEARN}; otherwise annotate single objects",
    ),
    ("crowds", "as-objects"): (
        _REGIONS + " and {are} learned as objects, as data.crowds_as_objects says",
        "Nothing, if each of them is one object",
    ),
}
