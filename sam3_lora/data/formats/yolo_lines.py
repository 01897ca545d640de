"""Reads the lines of YOLO's label files: a class and a box, a polygon, or a box with keypoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_lora.files import read_file

MAX_BYTES = 2**24  # of one label file, of a list of images, or of data.yaml
_SLACK = 0.02  # of an image by which a box of a pose may extend beyond it, and keypoints beyond their box
_CENTERED = 0.8  # how far from the middle of the other points, in halves of their extent, the center of a box is
_STRAY = 20  # one in so many poses may have a keypoint outside its box
_AWAY = 1.5  # extents of all other points that no corner of a polygon is away from them
_SPREAD = 0.15  # of a side of the box that keypoints cover at least


@dataclass(frozen=True)
class Pose:
    """How the lines of poses are recognised.

    Attributes:
        length: numbers after the class; 0 where there are no poses, or only those that show by their visibilities.
        guessed: whether the numbers themselves, not data.yaml, show that they are poses.
    """

    length: int = 0
    guessed: bool = False


def text_of(path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 as Windows' PowerShell writes it; what is neither becomes U+FFFD.

    Raises:
        OSError: it cannot be read, is no regular file, or has more than MAX_BYTES.
    """
    content = read_file(path, MAX_BYTES)
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", "replace")


def is_label_file(path: Path) -> bool:
    """Whether a text file begins with a class and a box or a polygon, unlike a caption for example."""
    try:
        first = next((line for line in text_of(path).splitlines() if line.strip()), "")
    except (OSError, ValueError):
        return False
    number, values = numbers_of(first.split())
    return number is not None and entry_of(number, values, (1, 1)) is not None


def numbers_of(tokens: list[str]) -> tuple[int | None, list[float]]:
    """A line's class, None if it is not an integer, and the numbers after it, none if one of them is not finite."""
    numbers = []
    for token in tokens:
        try:
            numbers.append(float(token))
        except ValueError:
            numbers.append(math.nan)
    number = int(numbers[0]) if numbers and numbers[0].is_integer() else None
    return number, numbers[1:] if all(map(math.isfinite, numbers[1:])) else []


def entry_of(number: int, values: list[float], size_wh: tuple[int, int], pose: Pose = Pose()) -> dict[str, Any] | None:
    """A line as an entry of 'annotations', in pixels; None if it is neither a box nor a polygon.

    Args:
        number: the class.
        values: the numbers after it.
        size_wh: width and height of the image in pixels.
        pose: which lines are poses; of these only the box is taken.
    """
    width, height = size_wh
    if len(values) == 4 or _is_pose(values, pose):
        x, y, w, h = values[:4]
        return {"category_id": number, "bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}
    if len(values) < 6 or len(values) % 2 or (pose.length and not pose.guessed):
        return None
    xs, ys = [x * width for x in values[0::2]], [y * height for y in values[1::2]]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    bbox = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"category_id": number, "bbox": bbox, "segmentation": [polygon]}


def _is_pose(values: list[float], pose: Pose) -> bool:
    """Whether keypoints follow a box: as many numbers as `pose` says, or every third one a visibility (0, 1 or 2).

    A fraction of an image is never 2, so that no polygon is taken for a pose.
    """
    if pose.length:
        return len(values) == pose.length
    return len(values) > 4 and len(values) % 3 == 1 and 2 in values[6::3] and set(values[6::3]) <= {0, 1, 2}


def pose_length(rows: Iterable[Sequence[float]]) -> int:
    """How many numbers the lines of a split have if they are boxes with keypoints; 0 if they are polygons.

    They are poses if all lines but plain boxes have one length, the first four numbers are a box in the image that
    holds the points after it (in nearly all lines), and, taken as points, they are no corners of an outline (in a
    quarter of the lines or more): the first is in the middle of the others, or the second far from them.

    Args:
        rows: the numbers after the class, of enough lines to judge by.
    """
    rows = [row for row in rows if len(row) > 4]
    length = len(rows[0]) if rows else 0
    if length < 6 or any(len(row) != length for row in rows):
        return 0
    seen = length % 3 == 1 and all(set(row[6::3]) <= {0, 1, 2} for row in rows)
    if length % 3 == 1 and length % 2:  # no polygon: the third number may be a confidence, as of predictions
        seen = all(0 <= value <= 1 or value == 2 for row in rows for value in row[6::3])
    if not seen and length % 2:
        return 0
    offsets, strays = [], 0
    for row in rows:
        points = [
            (row[place], row[place + 1])
            for place in range(4, length, 3 if seen else 2)
            if (row[place], row[place + 1]) != (0, 0)  # a point that cannot be seen
        ]
        if not _holds(row, points):
            strays += 1
        elif points:
            offsets.append(_offset(row, points))
    if not offsets or strays * _STRAY > len(rows):
        return 0
    return length if seen or sorted(offsets)[(len(offsets) - 1) // 4] < _CENTERED else 0


def _holds(row: Sequence[float], points: list[tuple[float, float]]) -> bool:
    """Whether the first four numbers are a box in the image that holds the points."""
    return all(
        side > 0
        and center - side / 2 >= -_SLACK
        and center + side / 2 <= 1 + _SLACK
        and all(abs(point[axis] - center) <= side / 2 + _SLACK * side for point in points)
        for axis, (center, side) in enumerate(zip(row[:2], row[2:4], strict=True))
    )


def _offset(row: Sequence[float], points: list[tuple[float, float]]) -> float:
    """How far the first point is from the middle of those after the second, in halves of their extent.

    Of a polygon it is a corner, so that this is about 1 or more. 0 if the second point, which is the next corner of a
    polygon, is far from all others.
    """
    offset, spread, away, side = 0.0, 0.0, 0.0, 0.0
    for axis in (0, 1):
        values = [point[axis] for point in points]
        low, high = min(values), max(values)
        spread = max(spread, (high - low) / row[2 + axis])
        offset = max(offset, abs(row[axis] - (high + low) / 2) / max((high - low) / 2, 1e-9))
        low, high = min(low, row[axis]), max(high, row[axis])
        away, side = max(away, row[2 + axis] - high, low - row[2 + axis]), max(side, high - low)
    if away > _AWAY * side:
        return 0.0
    return offset if spread >= _SPREAD else math.inf
