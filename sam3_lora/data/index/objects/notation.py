"""Reads boxes and segmentations that are not written as COCO does, but whose meaning is clear.

Each function returns None for what it does not recognise; it never raises. Notes name how a value was written: they are
causes of the finding "other-notation".
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

# Notes.
TEXT, OTHER_ID, ID_BY_NAME = "numbers-as-text", "id-of-other-type", "id-by-name"
BOX_OBJECT, BOX_POINTS, BACKWARDS = "box-as-object", "box-as-points", "box-backwards"
POINTS, RLE_BYTES = "polygon-as-points", "rle-as-bytes"
RLE_SIZE, RLE_WIDTH_FIRST = "rle-without-size", "rle-width-first"
_SEPARATORS = re.compile(r"[\s,;]+")
# Keys of a box as an object, without _ and - -> (left, top, width, height) from their values.
_BOXES: tuple[tuple[tuple[str, ...], Callable[..., list[float]]], ...] = (
    (("x", "y", "width", "height"), lambda x, y, w, h: [x, y, w, h]),
    (("x", "y", "w", "h"), lambda x, y, w, h: [x, y, w, h]),
    (("left", "top", "width", "height"), lambda x, y, w, h: [x, y, w, h]),
    (("xmin", "ymin", "width", "height"), lambda x, y, w, h: [x, y, w, h]),
    (("xmin", "ymin", "xmax", "ymax"), lambda x, y, right, bottom: [x, y, right - x, bottom - y]),
    (("x1", "y1", "x2", "y2"), lambda x, y, right, bottom: [x, y, right - x, bottom - y]),
    (("left", "top", "right", "bottom"), lambda x, y, right, bottom: [x, y, right - x, bottom - y]),
    (("cx", "cy", "w", "h"), lambda x, y, w, h: [x - w / 2, y - h / 2, w, h]),
    (("cx", "cy", "width", "height"), lambda x, y, w, h: [x - w / 2, y - h / 2, w, h]),
    (("xcenter", "ycenter", "width", "height"), lambda x, y, w, h: [x - w / 2, y - h / 2, w, h]),
    (("centerx", "centery", "width", "height"), lambda x, y, w, h: [x - w / 2, y - h / 2, w, h]),
)
_DEEPEST = 5  # lists and objects in each other
_OUTLINES = ("points", "polygon", "vertices", "exterior", "coordinates", "segmentation")


def number_of(value: Any) -> float | int | None:
    """A finite number, or text that is one."""
    if type(value) is int or type(value) is float:
        return value if abs(value) < 2**63 else None  # neither NaN nor infinity is
    if not isinstance(value, str) or not value.strip() or len(value) > 40:
        return None
    try:
        number = float(value.replace(",", ".") if value.count(",") == 1 and "." not in value else value)
    except ValueError:
        return None
    if abs(number) >= 2**63 or number != number:
        return None
    return int(value) if value.strip().lstrip("+-").isdecimal() else number


def numbers_of(values: Any) -> list[float] | None:
    """The numbers of a list of numbers and of text that is numbers; of a text of several."""
    if isinstance(values, str):
        values = [part for part in _SEPARATORS.split(values.strip(" \t\r\n[](){}")) if part]
    if not isinstance(values, list) or not values:
        return None
    numbers = [number_of(value) for value in values]
    return None if None in numbers else numbers  # type: ignore[return-value]


def box_of(bbox: Any) -> tuple[list[float], str] | None:
    """(left, top, width, height) of a box that is not a list of four numbers with a width and a height, and a note."""
    if isinstance(bbox, str) and bbox.lstrip().startswith("{"):
        bbox = _json(bbox)
    if isinstance(bbox, Mapping):
        return _box_of_object(bbox)
    if isinstance(bbox, list) and len(bbox) == 1 and isinstance(bbox[0], list):
        read = numbers_of(bbox[0])
        return None if read is None or len(read) != 4 else _forwards(read, BOX_POINTS)
    if isinstance(bbox, list) and len(bbox) == 2:
        corners = [_point(point) for point in bbox]
        if corners[0] is None or corners[1] is None:
            return None
        (x0, y0), (x1, y1) = corners  # type: ignore[misc]
        return _forwards([x0, y0, x1 - x0, y1 - y0], BOX_POINTS, quietly=True)
    numbers = numbers_of(bbox)
    if numbers is None or len(numbers) != 4:
        return None
    plain = isinstance(bbox, list) and not any(isinstance(value, str) for value in bbox)
    return _forwards(numbers, "" if plain else TEXT)


def _box_of_object(bbox: Mapping[Any, Any]) -> tuple[list[float], str] | None:
    values = {re.sub("[^a-z0-9]", "", str(key).lower()): value for key, value in bbox.items()}
    for keys, box in _BOXES:
        if all(key in values for key in keys):
            numbers = numbers_of([values[key] for key in keys])
            return None if numbers is None else _forwards(box(*numbers), BOX_OBJECT)
    return None


def _forwards(box: list[float], note: str, *, quietly: bool = False) -> tuple[list[float], str] | None:
    """A box drawn from right to left or upwards, turned round."""
    x, y, w, h = box
    if w == 0 or h == 0:
        return None
    backwards = (w < 0 or h < 0) and not quietly
    return [min(x, x + w), min(y, y + h), abs(w), abs(h)], note or (BACKWARDS if backwards else "")


class KnownIds:
    """Ids of images or categories, found although they are text here and numbers there, or where a name stands instead.

    Args:
        known: the ids; complete before the first one is searched for.
        name_of: gives the name that belongs to an id: of a category, or of a file; "" or None without one.
    """

    def __init__(self, known: Mapping[int | str, Any], name_of: Callable[[int | str], str | None]) -> None:
        self._known, self._name_of = known, name_of
        self._by_number: dict[int, int | str | None] | None = None
        self._by_name: dict[str, int | str | None] | None = None

    def find(self, value: Any) -> int | str | None:
        """The only id that a value is, spells or names; None if there is none, or several."""
        number = number_of(value) if isinstance(value, (int, float, str)) else None
        if number is None and isinstance(value, str):
            return self._named(value)
        if number is None or number != int(number):
            return None
        if self._by_number is None:
            self._by_number = {}
            for key in self._known:
                spelled = number_of(key)
                if spelled is not None and spelled == int(spelled):
                    self._by_number[int(spelled)] = None if int(spelled) in self._by_number else key
        return self._by_number.get(int(number))

    def _named(self, value: str) -> int | str | None:
        if self._by_name is None:
            levels: list[dict[str, int | str | None]] = [{}, {}, {}]
            for key in self._known:
                name = (self._name_of(key) or "").replace("\\", "/").casefold()
                base = name.rpartition("/")[2]
                for level, spelled in zip(levels, (name, base, os.path.splitext(base)[0]), strict=True):
                    level[spelled] = None if spelled in level else key
            self._by_name = levels[2] | levels[1] | levels[0]
        return self._by_name.get(value.strip().casefold()) if value.strip() else None


def segmentation_of(segmentation: Any, size_hw: tuple[int, int]) -> tuple[Any, str] | None:
    """Polygons or run lengths as COCO writes them, and a note."""
    if isinstance(segmentation, str):
        segmentation = _json(segmentation)
    if isinstance(segmentation, list) and len(segmentation) == 1 and _is_rle(segmentation[0]):
        segmentation = segmentation[0]
    if isinstance(segmentation, Mapping) and _is_rle(segmentation.get("rle")):
        segmentation = segmentation["rle"]
    if _is_rle(segmentation):
        return _run_lengths_of(segmentation, size_hw)
    polygons = _polygons_of(segmentation)
    if not polygons:
        return None
    return polygons, TEXT if _is_list_of_text(segmentation) else POINTS


def _is_rle(value: Any) -> bool:
    return isinstance(value, Mapping) and "counts" in value


def _is_list_of_text(segmentation: Any) -> bool:
    parts = segmentation if isinstance(segmentation, list) else []
    return any(isinstance(part, list) and any(isinstance(value, str) for value in part) for part in parts)


def _run_lengths_of(rle: Mapping[str, Any], size_hw: tuple[int, int]) -> tuple[Any, str] | None:
    counts, size, note = rle["counts"], rle.get("size"), ""
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        try:
            counts, note = ast.literal_eval(counts).decode("ascii"), RLE_BYTES
        except (ValueError, SyntaxError, AttributeError, MemoryError, RecursionError):
            return None
    elif isinstance(counts, str) and counts.lstrip().startswith("["):
        counts, note = numbers_of(counts), TEXT
    elif isinstance(counts, list):
        numbers = numbers_of(counts)
        whole = numbers is not None and all(number == int(number) for number in numbers)
        note = TEXT if any(isinstance(value, str) for value in counts) else note
        counts = [int(number) for number in numbers] if numbers is not None and whole else None
    if size is None:
        size, note = list(size_hw), note or RLE_SIZE
    elif size != (numbers := numbers_of(size)):
        size, note = numbers, note or TEXT
    return ({"size": size, "counts": counts}, note) if counts and size and len(size) == 2 else None


def _polygons_of(value: Any, depth: int = 0) -> list[list[float]] | None:
    """Polygons [[x, y, x, y, ...], ...] of points in any of the usual notations."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return _polygons_of_object(value, depth)
    if not isinstance(value, list) or not value:
        return None
    numbers = numbers_of(value)
    if numbers is not None:  # one polygon, not in a list
        return [numbers] if len(numbers) >= 6 and len(numbers) % 2 == 0 else None
    points = [_point(part) for part in value]
    if len(points) >= 3 and None not in points:
        return [[number for point in points for number in point]]  # type: ignore[union-attr]
    polygons: list[list[float]] = []
    for part in value:
        numbers = numbers_of(part) if isinstance(part, list) else None
        found = [numbers] if numbers is not None and len(numbers) % 2 == 0 else _polygons_of(part, depth + 1)
        if not found:
            return None
        polygons += found
    return polygons


def _polygons_of_object(value: Mapping[Any, Any], depth: int) -> list[list[float]] | None:
    values = {str(key).lower().replace("_", ""): part for key, part in value.items()}
    if values.get("interior") or values.get("holes"):
        return None  # polygons in COCO have no holes
    for keys in (("allpointsx", "allpointsy"), ("xs", "ys"), ("x", "y")):
        xs, ys = (values.get(key) for key in keys)
        if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
            return _polygons_of([list(point) for point in zip(xs, ys, strict=True)], depth + 1)
    outline = next((values[key] for key in _OUTLINES if isinstance(values.get(key), (list, dict))), None)
    if str(values.get("type")).lower() == "polygon" and isinstance(outline, list) and len(outline) > 1:
        return None  # GeoJSON: the others are holes
    return None if outline is None else _polygons_of(outline, depth + 1)


def _point(value: Any) -> tuple[float, float] | None:
    if isinstance(value, Mapping):
        value = [value.get("x", value.get("X")), value.get("y", value.get("Y"))]
    numbers = numbers_of(value) if isinstance(value, list) and len(value) == 2 else None
    return None if numbers is None else (numbers[0], numbers[1])


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return text
