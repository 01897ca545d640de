"""Finds annotations under other keys than COCO's, which a COCO reader would silently ignore."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sam3_lora.text import valid_text

# Names under which tools and people write objects instead of 'annotations', 'bbox' and 'segmentation'.
LIKELY = frozenset(
    ("annotation", "annotations", "anns", "instances", "objects", "detections", "regions", "label", "labels")
    + ("bbox", "bboxes", "box", "boxes", "bounding_box", "bounding_boxes", "bndbox")
    + ("mask", "masks", "polygon", "polygons", "rle", "rles", "segmentation", "segmentations", "segments", "shapes")
)
_MASKS = frozenset(("mask", "masks", "polygon", "polygons", "rle", "rles", "contour", "contours"))
_MASKS |= {"segm", "segmentation", "segmentations", "segments"}
ELSEWHERE = LIKELY | _MASKS
_COCO = frozenset(("info", "licenses", "images", "categories", "annotations"))
_FIELDS = frozenset(("image_id", "category_id", "bbox", "segmentation"))


def annotations_elsewhere(data: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Where a file without entries in 'annotations' has its objects instead.

    Returns:
        The variant of the finding ("", "no-list" or "in-images") and the keys; no keys if there are no objects.
    """
    entries = data.get("annotations")
    if isinstance(entries, list) and entries:
        return "", ()
    if isinstance(entries, dict) and entries:
        return "no-list", ("annotations",)
    keys = _names(key for key, value in data.items() if key not in _COCO and _holds_objects(key, value))
    if keys:
        return "", keys
    return "in-images", _names(key for image in data["images"] if isinstance(image, dict) for key in wrong_keys(image))


def wrong_keys(entry: dict[str, Any]) -> tuple[str, ...]:
    """The keys under which an entry without bbox and segmentation has its object; none if it has no object."""
    return _names(key for key, value in entry.items() if key.lower() in LIKELY and _filled(value))


def masks_elsewhere(entries: Any) -> tuple[str, ...]:
    """The keys under which annotations have masks instead of 'segmentation'; none if they have no masks."""
    return _names(
        key
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and not entry.get("segmentation")
        for key, value in entry.items()
        if key.lower() in _MASKS and _filled(value)
    )


def _names(keys: Iterable[str]) -> tuple[str, ...]:
    """Keys, each once, in the order in which they are met."""
    return tuple(dict.fromkeys(map(valid_text, keys)))


def _holds_objects(key: str, value: Any) -> bool:
    if not _filled(value):
        return False
    first = value[0] if isinstance(value, list) else next(iter(value.values()))
    return key.lower() in LIKELY or (isinstance(first, dict) and not _FIELDS.isdisjoint(first))


def _filled(value: Any) -> bool:
    return isinstance(value, (list, dict)) and bool(value)
