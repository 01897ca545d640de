"""Reads one annotation entry: its box inside the image, and whether its segmentation can be one."""

from __future__ import annotations

import math
from typing import Any

from sam3_lora.data.findings.findings import FindingCollector, shown, type_of
from sam3_lora.errors import DataError
from sam3_lora.masks import check_segmentation, decode_segmentation, mask_to_box_xyxy

Box = tuple[float, float, float, float]

OVERHANG = 2.0  # pixels by which a box may leave its image without a word: rounding in the annotation tool


class BoxReader:
    """Reads the boxes of one split and notes what is wrong with them.

    seen: boxes asked for; lost: objects that were left out because they lie outside the image; unboxed: objects
    that were left out because they have no usable box and no mask to take it from;
    as_corners: boxes that leave the image but would fit if they were (left, top, right, bottom).
    """

    def __init__(self, faults: FindingCollector) -> None:
        self._faults = faults
        self.seen = 0
        self.lost = 0
        self.unboxed = 0
        self.as_corners = 0

    def read(self, bbox: Any, segmentation: Any, image: Any, annotation_id: int | str) -> Box | None:
        """The box (left, top, width, height) inside the image, from the mask if need be; None without either.

        Args:
            bbox: what the entry has as "bbox", of any type; None if it has none.
            segmentation: the checked segmentation, or None.
            image: has file_name, width and height.
            annotation_id: for the findings.
        """
        self.seen += 1
        try:
            x, y, w, h = bbox
            sound = w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= image.width and y + h <= image.height
            if sound and (w > 1 or h > 1 or x > 1 or y > 1):
                return float(x), float(y), float(w), float(h)
        except (TypeError, ValueError):
            pass
        bad = self._faults.counts.get("bad-bbox", 0)
        box = self._odd(bbox, image, annotation_id)
        if box is None and segmentation is not None:
            box = box_of_segmentation(segmentation, image.width, image.height)
            if box is not None and bbox is None:
                self._faults.add("box-from-mask", image.file_name, annotation_id)
        if box is None and bbox is None:
            self._faults.add("bad-bbox", image.file_name, annotation_id, "neither bbox nor segmentation")
        self.unboxed += box is None and self._faults.counts.get("bad-bbox", 0) > bad
        return box

    def _odd(self, bbox: Any, image: Any, annotation_id: int | str) -> Box | None:
        """A box that is not plainly sound: cut off at the image's edge, or None and a fault."""
        if bbox is None:
            return None
        where = image.file_name, annotation_id
        numbers = _four_numbers(bbox)
        if numbers is None or numbers[2] <= 0 or numbers[3] <= 0:
            self._faults.add("bad-bbox", *where, value=bbox)
            return None
        x, y, w, h = numbers
        if max(abs(x), abs(y), w, h) <= 1:
            self._faults.add("boxes-normalized", *where, value=bbox)
            return None
        inside = _inside(x, y, x + w, y + h, image.width, image.height)
        if inside is None or max(-x, -y, x + w - image.width, y + h - image.height) > OVERHANG:
            self._faults.add(
                "boxes-outside-image", *where, f"[{x:g}, {y:g}, {w:g}, {h:g}] in {image.width} x {image.height}"
            )
            self.lost += inside is None
            self.as_corners += 0 <= x < w <= image.width and 0 <= y < h <= image.height
        return inside


def box_of_segmentation(segmentation: Any, width: int, height: int) -> Box | None:
    """The tight box of a checked segmentation, cut off at the image's edge; None if nothing of it is inside."""
    if isinstance(segmentation, list):
        xs = [x for polygon in segmentation for x in polygon[0::2]]
        ys = [y for polygon in segmentation for y in polygon[1::2]]
        corners = min(xs), min(ys), max(xs), max(ys)
    else:
        try:
            corners = mask_to_box_xyxy(decode_segmentation(segmentation, (height, width)))
        except DataError:
            return None
    if corners is None or max(map(abs, corners)) <= 1:  # in fractions of the image, or a dot
        return None
    try:
        return _inside(*map(float, corners), width, height)
    except OverflowError:
        return None


def segmentation_fault(segmentation: Any, width: int, height: int, *, thorough: bool) -> str:
    """What is wrong with a segmentation, found without decoding it; "" if nothing is.

    thorough: look at every number, which takes ten times as long; else only at types and sizes.
    """
    fault = _plain_fault(segmentation, width, height)
    if not fault and thorough:
        try:
            check_segmentation(segmentation, (height, width))
        except DataError as error:
            return error.message[0].lower() + error.message[1:]
    return fault


_NUMBER_CHARACTERS = b"0123456789.-+, \t\r\n"


def are_plain_polygons(text: bytes) -> bool:
    """Whether the JSON of a segmentation is one polygon of at least 3 points, found out without decoding it.

    False only says that it has to be looked at: other segmentations may be as good.
    """
    return text.translate(None, _NUMBER_CHARACTERS) == b"[[]]" and (commas := text.count(b",")) >= 5 and commas % 2 == 1


def _plain_fault(segmentation: Any, width: int, height: int) -> str:
    if isinstance(segmentation, list):
        return _polygons_fault(segmentation) or _fractions_fault(segmentation, max(width, height))
    if not isinstance(segmentation, dict):
        return f"{type_of(segmentation)} instead of polygons or run lengths"
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        return f"run lengths of size {shown(size)} in an image of height {height} and width {width}"
    if not counts or not isinstance(counts, (str, list)):
        return "run lengths without counts"
    return ""


def _polygons_fault(polygons: list) -> str:
    most = 0
    for polygon in polygons:
        if not isinstance(polygon, list):
            return f"{type_of(polygon)} in the list of polygons, where a list [x, y, x, y, ...] is expected"
        try:
            finite = math.isfinite(sum(polygon))  # one fast pass finds text, lists, NaN and infinity
        except (TypeError, OverflowError):
            finite = False
        if not finite:
            return "a polygon with something else than finite numbers"
        if len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers, which are no x, y pairs"
        most = max(most, len(polygon))
    return "" if most >= 6 else f"polygons of at most {most // 2} points"


def _fractions_fault(polygons: list[list[float]], longest: int) -> str:
    numbers = [value for polygon in polygons if polygon for value in (min(polygon), max(polygon))]
    if longest > 1 and min(numbers) >= 0 and max(numbers) <= 1:
        return "a polygon between 0 and 1, as if in fractions of the image, where pixels are expected"
    return ""


def _four_numbers(bbox: Any) -> Box | None:
    if not isinstance(bbox, list) or len(bbox) != 4 or any(type(value) not in (int, float) for value in bbox):
        return None
    try:
        numbers = tuple(float(value) for value in bbox)
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _inside(x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Box | None:
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None
