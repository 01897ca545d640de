"""Reads the box and the segmentation of one annotation: the box inside the image, and whether the mask is valid."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.gather import Box, GatheredImage
from sam3_lora.errors import DataError
from sam3_lora.masks import check_segmentation, decode_segmentation, mask_to_box_xyxy
from sam3_lora.text import short_repr, type_in_words

OVERHANG = 2.0  # pixels by which a box may extend beyond its image without a finding: rounding in annotation tools
_NUMBER_CHARACTERS = b"0123456789.-+, \t\r\n"


class BoxReader:
    """Reads the boxes of one split.

    Attributes:
        seen: boxes read so far.
        lost: objects left out because they are outside the image.
        unboxed: objects left out because they have no valid box and no mask to take it from.
        as_corners, as_centers: boxes that extend beyond the image, but would fit if they were (left, top, right,
            bottom), or (center x, center y, width, height).
    """

    def __init__(self, findings: FindingCollector) -> None:
        self._findings = findings
        self.seen = self.lost = self.unboxed = self.as_corners = self.as_centers = 0

    def read(self, bbox: Any, segmentation: Any, image: GatheredImage, annotation_id: int | str) -> Box | None:
        """The box (left, top, width, height) inside the image, from the mask if need be; None without either.

        Args:
            bbox: what the entry has as "bbox", of any type; None if it has none.
            segmentation: the checked segmentation, or None.
            image: of the annotation.
            annotation_id: for the findings.
        """
        self.seen += 1
        try:
            x, y, w, h = bbox
            inside = w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= image.width and y + h <= image.height
            if inside and (w > 1 or h > 1 or x > 1 or y > 1):
                return float(x), float(y), float(w), float(h)
        except (TypeError, ValueError):
            pass
        bad = self._findings.count("bad-bbox")
        box = None if bbox is None else self._repaired(bbox, image, annotation_id)
        if box is None and segmentation is not None:
            box = box_of_segmentation(segmentation, image.width, image.height)
            if box is not None and bbox is None:
                self._findings.add("box-from-mask", image.file_name, annotation_id)
        if box is None and bbox is None:
            words = "neither bbox nor segmentation"
            self._findings.add("bad-bbox", image.file_name, annotation_id, words, causes=("absent",))
        self.unboxed += box is None and self._findings.count("bad-bbox") > bad
        return box

    def _repaired(self, bbox: Any, image: GatheredImage, annotation_id: int | str) -> Box | None:
        """A box with a problem, clipped to the image; None and a finding if that is not possible."""
        where = image.file_name, annotation_id
        numbers = four_numbers(bbox)
        if numbers is None or numbers[2] <= 0 or numbers[3] <= 0:
            cause = "not-four-numbers" if numbers is None else "no-area"
            self._findings.add("bad-bbox", *where, value=bbox, causes=(cause,))
            return None
        x, y, w, h = numbers
        if max(abs(x), abs(y), w, h) <= 1:
            self._findings.add("boxes-normalized", *where, value=bbox)
            return None
        inside = _clipped(x, y, x + w, y + h, image.width, image.height)
        if inside is None or max(-x, -y, x + w - image.width, y + h - image.height) > OVERHANG:
            detail = f"[{x:g}, {y:g}, {w:g}, {h:g}] in {image.width} x {image.height}"
            self._findings.add("boxes-outside-image", *where, detail)
            self.lost += inside is None
            self.as_corners += 0 <= x < w <= image.width and 0 <= y < h <= image.height
            self.as_centers += (
                x - w / 2 >= 0 and x + w / 2 <= image.width and y - h / 2 >= 0 and y + h / 2 <= image.height
            )
        return inside


def box_of_segmentation(segmentation: Any, width: int, height: int) -> Box | None:
    """The tight box of a checked segmentation, clipped to the image; None if nothing of it is inside.

    Args:
        segmentation: polygons or run lengths.
        width, height: of the image, pixels.
    """
    corners: tuple[float, float, float, float] | None
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
        x0, y0, x1, y1 = map(float, corners)
    except OverflowError:
        return None
    return _clipped(x0, y0, x1, y1, width, height)


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (left, top, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / (one[2] * one[3] + other[2] * other[3] - common) if common else 0.0


class Problem(NamedTuple):
    """What is wrong with a value.

    Attributes:
        cause: the same for values with the same fault.
        detail: in words.
    """

    cause: str
    detail: str


def segmentation_problem(segmentation: Any, width: int, height: int, *, thorough: bool) -> Problem | None:
    """What is wrong with a segmentation, found without decoding it; None if nothing is.

    Args:
        segmentation: of any type.
        width, height: of the image, pixels.
        thorough: check every number, which takes ten times as long; else only types and sizes.
    """
    problem = _problem_of_type(segmentation, width, height)
    if not problem and thorough:
        try:
            check_segmentation(segmentation, (height, width))
        except DataError as error:
            return Problem(type(segmentation).__name__, error.message[0].lower() + error.message[1:])
    return problem


def are_plain_polygons(text: bytes) -> bool:
    """Whether the JSON of a segmentation is one polygon of at least 3 points, found out without decoding it.

    False only says that it has to be checked: other segmentations may be as good.
    """
    return text.translate(None, _NUMBER_CHARACTERS) == b"[[]]" and (commas := text.count(b",")) >= 5 and commas % 2 == 1


def _problem_of_type(segmentation: Any, width: int, height: int) -> Problem | None:
    if isinstance(segmentation, list):
        return _problem_of_polygons(segmentation) or _problem_of_fractions(segmentation, max(width, height))
    if not isinstance(segmentation, dict):
        return Problem("type", f"{type_in_words(segmentation)} instead of polygons or run lengths")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        hint = ", perhaps [width, height]" if size == [width, height] else ""
        return Problem(
            "size", f"run lengths of size {short_repr(size)}{hint} in an image of height {height} and width {width}"
        )
    if not counts or not isinstance(counts, (str, list)):
        return Problem("counts", "run lengths without counts")
    return None


def _problem_of_polygons(polygons: list[Any]) -> Problem | None:
    longest = 0
    for polygon in polygons:
        if not isinstance(polygon, list):
            words = f"{type_in_words(polygon)} in the list of polygons, where a list [x, y, x, y, ...] is expected"
            return Problem("no-list", words)
        try:
            finite = math.isfinite(sum(polygon))  # one fast pass finds text, lists, NaN and infinity
        except (TypeError, OverflowError):
            finite = False
        if not finite:
            return Problem("not-finite", "a polygon with values that are not finite numbers")
        if len(polygon) % 2:
            return Problem("odd", f"a polygon of {len(polygon)} numbers, which are not x, y pairs")
        longest = max(longest, len(polygon))
    return None if longest >= 6 else Problem("few-points", f"polygons of at most {longest // 2} points")


def _problem_of_fractions(polygons: list[list[float]], longest_side: int) -> Problem | None:
    numbers = [value for polygon in polygons if polygon for value in (min(polygon), max(polygon))]
    if longest_side > 1 and min(numbers) >= 0 and max(numbers) <= 1:
        words = "a polygon between 0 and 1, as if normalized by the image size; pixels are expected"
        return Problem("fractions", words)
    return None


def four_numbers(bbox: Any) -> Box | None:
    """A list of four finite numbers as floats; None for anything else."""
    if not isinstance(bbox, list) or len(bbox) != 4 or any(type(value) not in (int, float) for value in bbox):
        return None
    try:
        x, y, w, h = map(float, bbox)
    except OverflowError:
        return None
    return (x, y, w, h) if all(map(math.isfinite, (x, y, w, h))) else None


def _clipped(x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> Box | None:
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None
