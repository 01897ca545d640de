"""Recognises boxes that are turned by an angle, and makes the turned rectangle of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sam3_lora.data.index.gather import Box
from sam3_lora.data.index.objects.notation import box_of, number_of, numbers_of

_LEVEL = 1.0  # degrees by which a box may be turned without a difference that anyone meant
_FULL_TURN = 2 * math.pi + 0.01  # angles up to it are radians, where tools write both
KEYS = ("rotation", "angle", "theta")


@dataclass(frozen=True, slots=True)
class TurnedBox:
    """A box with an angle, or the corners of a rectangle that is no upright one.

    Attributes:
        form: where the angle was: "attributes", a key of KEYS, "five-numbers"; or "corners".
        numbers: (left, top, width, height), for five numbers as they are; or x, y of the corners.
        angle: as written, not zero except for five numbers; 0 for corners.
    """

    form: str
    numbers: tuple[float, ...]
    angle: float = 0.0

    @property
    def is_clear(self) -> bool:
        """Whether its meaning does not depend on how other boxes of the file are written."""
        return self.form in ("attributes", "rotation", "corners")


def turned_box(entry: Mapping[str, Any]) -> TurnedBox | None:
    """The turned box of an annotation; None if its box is upright, or none."""
    bbox, attributes = entry.get("bbox"), entry.get("attributes")
    is_list = isinstance(bbox, list) and len(bbox) == 4 and not isinstance(bbox[0], list)
    if is_list and not isinstance(attributes, Mapping) and not any(map(entry.get, KEYS)):
        return None  # as most are
    if corners := _corners(bbox):
        return TurnedBox("corners", corners)
    numbers = numbers_of(bbox)
    if numbers is not None and len(numbers) == 5:
        return TurnedBox("five-numbers", tuple(numbers[:4]), numbers[4])
    places: list[tuple[str, Any]] = [(key, entry.get(key)) for key in KEYS]
    places += [(key, bbox.get(key)) for key in KEYS] if isinstance(bbox, Mapping) else []
    places += [("attributes", attributes.get(key)) for key in KEYS] if isinstance(attributes, Mapping) else []
    found = next(((form, angle) for form, value in places if (angle := number_of(value))), None)
    if found is None:
        return None
    box = numbers if numbers is not None and len(numbers) == 4 and min(numbers[2:]) > 0 else (box_of(bbox) or [None])[0]
    turned = None if box is None else TurnedBox(found[0], tuple(map(float, box)), float(found[1]))
    return None if turned is None or (turned.is_clear and is_level(turned.angle)) else turned


def is_level(degrees: float) -> bool:
    """Whether an angle leaves a box as it is, but for rounding."""
    return abs((degrees + 90) % 180 - 90) <= _LEVEL


def _corners(bbox: Any) -> tuple[float, ...] | None:
    if isinstance(bbox, list) and len(bbox) == 1:
        bbox = bbox[0]
    points = [numbers_of(point) for point in bbox] if isinstance(bbox, list) and len(bbox) == 4 else []
    if points and all(point is not None and len(point) == 2 for point in points):
        return tuple(value for point in points for value in point or ())
    numbers = numbers_of(bbox)
    return tuple(numbers) if numbers is not None and len(numbers) == 8 else None


class Convention:
    """How the turned boxes of one split are meant, found from all of them.

    Args:
        boxes: the turned boxes with the sizes (width, height) of their images.

    Attributes:
        names: form -> the cause of the finding "turned-boxes".
    """

    def __init__(self, boxes: Iterable[tuple[TurnedBox, tuple[int, int]]]) -> None:
        boxes = list(boxes)
        largest: dict[str, float] = {}
        for box, _ in boxes:
            largest[box.form] = max(largest.get(box.form, 0.0), abs(box.angle))
        self._radians = {form for form in ("angle", "theta", "five-numbers") if largest.get(form, 7.0) <= _FULL_TURN}
        self._by_corner = False
        five = [(box, size) for box, size in boxes if box.form == "five-numbers"]
        if not all(self._fits(box, size) for box, size in five):
            self._by_corner = True
            self._by_corner = all(self._fits(box, size) for box, size in five)
        self.names = {form: self._name(form) for form in largest}

    def _name(self, form: str) -> str:
        unit = "radians" if form in self._radians else "degrees"
        if form == "five-numbers":
            return f"{form}-{'corner' if self._by_corner else 'center'}-{unit}"
        return f"{form}-{unit}" if form in ("angle", "theta") else form

    def _fits(self, box: TurnedBox, size_wh: tuple[int, int]) -> bool:
        polygon = self.polygon(box)
        (left, right), (top, bottom) = ((min(side), max(side)) for side in (polygon[0::2], polygon[1::2]))
        return left >= -1 and top >= -1 and right <= size_wh[0] + 1 and bottom <= size_wh[1] + 1

    def degrees(self, box: TurnedBox) -> float:
        """The angle of a box in degrees clockwise, as seen in the image."""
        if box.form in self._radians:
            return math.degrees(box.angle)
        return -box.angle if box.form == "five-numbers" else box.angle

    def upright(self, box: TurnedBox) -> Box:
        """(left, top, width, height) of a box before it is turned; of corners, that around them."""
        if box.form == "corners":
            left, top, right, bottom = (end(box.numbers[axis::2]) for end in (min, max) for axis in (0, 1))
            return left, top, right - left, bottom - top
        x, y, w, h = box.numbers
        centered = box.form == "five-numbers" and not self._by_corner
        return (x - w / 2, y - h / 2, w, h) if centered else (x, y, w, h)

    def polygon(self, box: TurnedBox) -> list[float]:
        """The corners of a box, turned about its center: x, y, x, y, ..."""
        if box.form == "corners":
            return list(box.numbers)
        x, y, w, h = self.upright(box)
        angle = math.radians(self.degrees(box))
        cos, sin = math.cos(angle), math.sin(angle)
        corners = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
        turned = ((x + w / 2 + u * cos - v * sin, y + h / 2 + u * sin + v * cos) for u, v in corners)
        return [round(value, 2) for point in turned for value in point]
