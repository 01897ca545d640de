"""Boxes that are turned by an angle become masks and upright boxes, and it is said; angles near zero change nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sam3_lora.data.dataset import Annotation, Dataset
from sam3_lora.data.findings.findings import Finding
from tests.data.findings.helpers import HEIGHT, WIDTH, every_annotation, first, opened
from tests.factories import kinds

BOX = [22, 20, 20, 8]  # its center is 32, 24
RECTANGLE = 20 * 8


def turned(dataset: Dataset) -> Finding:
    (finding,) = dataset.findings
    assert (finding.kind, finding.severity) == ("turned-boxes", "warning")
    return finding


def without_mask(**values: Any):
    """The first annotation is BOX without a mask, but with these values."""
    return first(**{"bbox": BOX, "segmentation": [], **values})


def first_object(dataset: Dataset) -> Annotation:
    return next(one for one in dataset.split("train").images[0].annotations if one.id == 0)


def corners(dataset: Dataset) -> list[tuple[float, float]]:
    (polygon,) = first_object(dataset).segmentation
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def area(points: list[tuple[float, float]]) -> float:
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2


@pytest.mark.parametrize(
    ("values", "degrees", "cause"),
    [
        ({"attributes": {"occluded": False, "rotation": 30.0}}, 30, "attributes"),
        ({"attributes": {"rotation": "330"}}, -30, "attributes"),
        ({"rotation": 210}, 30, "rotation"),
        ({"rotation": 0.5236 * 60}, 31.4, "rotation"),
        ({"angle": 30}, 30, "angle-degrees"),
        ({"angle": math.radians(30)}, 30, "angle-radians"),
        ({"theta": -math.radians(30)}, -30, "theta-radians"),
        ({"theta": -30}, -30, "theta-degrees"),
        ({"bbox": {"x": 22, "y": 20, "width": 20, "height": 8, "rotation": 30}}, 30, "rotation"),
        ({"bbox": [32, 24, 20, 8, -30]}, 30, "five-numbers-center-degrees"),
        ({"bbox": [32, 24, 20, 8, math.radians(30)]}, 30, "five-numbers-center-radians"),
        ({"bbox": ["32", "24", "20", "8", "-30"]}, 30, "five-numbers-center-degrees"),
    ],
)
def test_the_turned_rectangle_is_the_mask(tmp_path, values, degrees, cause):
    dataset = opened(tmp_path, without_mask(**values))
    finding, points = turned(dataset), corners(dataset)
    assert [(one.name, one.count) for one in finding.causes] == [(cause, 1)]
    assert finding.image_names == (dataset.split("train").images[0].file_name,)
    assert area(points) == pytest.approx(RECTANGLE, rel=0.01)
    (x0, y0), (x1, y1) = points[:2]  # the upper side, from left to right before it is turned
    assert math.degrees(math.atan2(y1 - y0, x1 - x0)) == pytest.approx((degrees + 180) % 360 - 180, abs=0.2) or (
        values == {"rotation": 210}
    )
    xs, ys = zip(*points, strict=True)
    assert sum(xs) / 4 == pytest.approx(32, abs=0.1) and sum(ys) / 4 == pytest.approx(24, abs=0.1)
    x, y, w, h = first_object(dataset).bbox_xywh
    assert (x, y, x + w, y + h) == pytest.approx((min(xs), min(ys), max(xs), max(ys)))


def test_angles_are_degrees_where_one_of_them_can_be_nothing_else(tmp_path):
    def change(data):
        for entry, angle in zip(data["annotations"], (3, 90, 45), strict=False):
            entry.update(bbox=BOX, segmentation=None, angle=angle)

    assert [one.name for one in turned(opened(tmp_path, change)).causes] == ["angle-degrees"]


def test_five_numbers_that_would_leave_the_image_as_centers(tmp_path):
    change = every_annotation(lambda entry: entry.update(bbox=[2, 2, WIDTH - 8, 10, 0.05], segmentation=None))
    found = turned(opened(tmp_path, change))
    assert [(one.name, one.count) for one in found.causes] == [("five-numbers-corner-radians", 8)]


@pytest.mark.parametrize("bbox", [[10, 20, 30, 10, 34, 20, 14, 30], [[10, 20], [30, 10], [34, 20], [14, 30]]])
def test_four_corners(tmp_path, bbox):
    dataset = opened(tmp_path, without_mask(bbox=bbox))
    assert [one.name for one in turned(dataset).causes] == ["corners"]
    assert corners(dataset) == [(10, 20), (30, 10), (34, 20), (14, 30)]
    assert first_object(dataset).bbox_xywh == (10, 10, 24, 20)


@pytest.mark.parametrize(
    "values",
    [
        {"attributes": {"rotation": 0.0}},
        {"attributes": {"rotation": 359.5}},
        {"attributes": {"rotation": "0.4"}},
        {"attributes": {"rotation": 180}},
        {"attributes": ["rotation"]},
        {"attributes": {"rotation": None}},
        {"rotation": -0.9},
        {"rotation": {}},
        {"angle": 359.9},
        {"theta": 0.01},
        {"theta": math.pi},
        {"angle": ""},
    ],
)
def test_what_turns_nothing(tmp_path, values):
    dataset = opened(tmp_path, without_mask(**values))
    assert kinds(dataset) == []
    annotation = first_object(dataset)
    assert annotation.bbox_xywh == tuple(BOX) and not annotation.has_segmentation


MASK = [[30, 10, 36, 14, 26, 34, 20, 30]]  # its box is 20, 10, 16, 24


@pytest.mark.parametrize(
    ("values", "causes"),
    [
        ({"attributes": {"rotation": 60}}, ["with-mask"]),
        ({"angle": 1.0}, ["with-mask"]),
        ({"bbox": [28, 22, 20, 8, 60]}, ["with-mask"]),
        ({"bbox": [20, 10, 16, 24], "attributes": {"rotation": 60}}, []),
        ({"bbox": [20, 10, 16, 24], "rotation": 60}, []),
    ],
)
def test_beside_a_mask_the_box_is_that_of_the_mask(tmp_path, values, causes):
    dataset = opened(tmp_path, without_mask(segmentation=MASK, **values))
    assert [one.name for finding in dataset.findings for one in finding.causes] == causes
    annotation = first_object(dataset)
    assert annotation.segmentation == MASK and annotation.bbox_xywh == (20, 10, 16, 24)


@pytest.mark.parametrize(
    "rectangle",
    [[22, 20, 42, 20, 42, 28, 22, 28], [22, 28, 22, 20, 42, 20, 42, 28, 22, 28]],
)
def test_a_mask_that_is_the_upright_box_is_turned_too(tmp_path, rectangle):
    dataset = opened(tmp_path, without_mask(segmentation=[rectangle], attributes={"rotation": 90}))
    assert [one.name for one in turned(dataset).causes] == ["attributes"]
    assert first_object(dataset).bbox_xywh == pytest.approx((28, 14, 8, 20))


def test_a_rectangle_outside_the_image_is_left_out(tmp_path):
    dataset = opened(tmp_path, without_mask(bbox=[WIDTH + 50, HEIGHT + 50, 20, 8], rotation=45))
    assert kinds(dataset) == ["boxes-outside-image"] and dataset.split("train").num_objects == 7
    assert dataset.split("train").images[0].unusable_categories == {"crack"}
