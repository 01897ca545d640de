"""Finds annotations that stand under other keys than COCO's, where a reader would silently see none."""

from __future__ import annotations

from collections import Counter
from typing import Any

# Names under which tools and people write objects instead of 'annotations', 'bbox' and 'segmentation'.
LIKELY = frozenset(
    ("annotation", "annotations", "anns", "instances", "objects", "detections", "regions", "label", "labels")
    + ("bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "bndbox")
    + ("mask", "masks", "polygon", "polygons", "rle", "rles", "segmentation", "segmentations", "segments", "shapes")
)
_MASKS = frozenset(("mask", "masks", "polygon", "polygons", "rle", "rles", "contour", "contours"))
_MASKS |= {"segm", "segmentation", "segmentations", "segments"}
_COCO = frozenset(("info", "licenses", "images", "categories", "annotations"))
_FIELDS = frozenset(("image_id", "category_id", "bbox", "segmentation"))


def annotations_elsewhere(data: dict[str, Any]) -> str:
    """Where a file without entries in 'annotations' has its objects instead, in words; "" if nowhere."""
    entries = data.get("annotations")
    if isinstance(entries, list) and entries:
        return ""
    if isinstance(entries, dict) and entries:
        return "'annotations' as an object instead of a list"
    keys = [key for key, value in data.items() if key not in _COCO and _holds_objects(key, value)]
    if keys:
        return ", ".join(f"'{key}'" for key in keys)
    inside: Counter[str] = Counter()
    for image in data["images"]:
        if isinstance(image, dict):
            inside.update(key for key, value in image.items() if key.lower() in LIKELY and _filled(value))
    return " and ".join(f"'{key}'" for key in inside) + " in the entries of 'images'" if inside else ""


def wrong_keys(entry: dict[str, Any]) -> str:
    """The names under which an annotation without bbox and segmentation has its object, in words; "" if none."""
    return ", ".join(f"'{key}'" for key, value in entry.items() if key.lower() in LIKELY and _filled(value))


def masks_elsewhere(entries: Any) -> str:
    """The names under which annotations have masks instead of 'segmentation', in words; "" if none."""
    found: dict[str, None] = {}
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and not entry.get("segmentation"):
            found |= dict.fromkeys(key for key, value in entry.items() if key.lower() in _MASKS and _filled(value))
    return " and ".join(f"'{key}'" for key in found)


def _holds_objects(key: str, value: Any) -> bool:
    if not _filled(value):
        return False
    first = value[0] if isinstance(value, list) else next(iter(value.values()))
    return key.lower() in LIKELY or (isinstance(first, dict) and not _FIELDS.isdisjoint(first))


def _filled(value: Any) -> bool:
    return isinstance(value, (list, dict)) and bool(value)
