"""Checks the objects of one image: box against mask, outlines, duplicates, and what the model can see of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.index.gather import Box
from sam3_lora.data.index.objects.box_layouts import MIN_IOU, layout_of
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.errors import DataError
from sam3_lora.masks import check_segmentation, decode_columns
from sam3_lora.text import short_repr

# SAM 3's sizes (transformers' Sam3Config: image_size, num_queries; masks have a side of 4 * 72).
MODEL_SIDE = 1008
MASK_SIDE = 288
QUERIES = 200

SAME_IOU = 0.9  # of two boxes of one category
_SAME_MASK_IOU = 0.5  # of their masks: two cracks that cross may fill one box
_TOLERANCE = 2.0  # pixels by which they may differ without a finding: rounding, and the width of a brush
MIN_PIXELS = 5  # of an object
_MAX_COMPARED = 2_000  # objects of one category in one image, each with each
_SURELY_SEEN = 16.0  # pixels of a scaled object, above which some are sampled whatever its shape
_CROSSED = 0.01  # share of a polygon's area that must be ambiguous for a finding


@dataclass(frozen=True, slots=True)
class Shape:
    """A mask without its pixels.

    Attributes:
        area: in pixels.
        box_xyxy: tight, inside the image; None if the mask is empty.
    """

    area: int
    box_xyxy: tuple[float, float, float, float] | None


def check(record: ImageRecord, findings: FindingCollector) -> list[int | None]:
    """Finds the problems of an image's objects.

    Args:
        record: the image.
        findings: of its split.

    Returns:
        The area of each annotation's mask in pixels, in order; None for crowds and where there is no mask.
    """
    areas = [None if item.iscrowd else _check_object(item, record, findings) for item in record.annotations]
    counts = Counter(phrase_of(item.category) for item in record.annotations if not item.iscrowd)
    for phrase, count in counts.items():
        if count > QUERIES:
            detail = f"{count:,} of {short_repr(phrase)}"
            findings.add("too-many-objects", record.file_name, detail=detail, queries=QUERIES)
    _find_duplicates(record, findings)
    return areas


def _find_duplicates(record: ImageRecord, findings: FindingCollector) -> None:
    groups: dict[str, list[Annotation]] = {}
    for item in record.annotations:
        if not item.iscrowd:
            groups.setdefault(item.category, []).append(item)
    for items in groups.values():
        if not 1 < len(items) <= _MAX_COMPARED:
            continue
        boxes = np.array([item.bbox_xywh for item in items], dtype=np.float64)
        iou = coco_mask.iou(boxes, boxes, [0] * len(items))  # N, N
        first, second = np.nonzero(np.triu(iou > SAME_IOU, k=1))
        reported: set[int] = set()
        for early, late in zip(first.tolist(), second.tolist(), strict=True):
            if late not in reported and _same_masks(items[early], items[late], record):
                reported.add(late)
                detail = f"like annotation {items[early].id}"
                findings.add("object-twice", record.file_name, items[late].id, detail, same_iou=SAME_IOU)


def _same_masks(one: Annotation, other: Annotation, record: ImageRecord) -> bool:
    """Whether two masks cover about the same; True where there are not both of them."""
    if one.segmentation is None or other.segmentation is None:
        return True
    try:
        rles = [_rle_of(item.segmentation, (record.height, record.width)) for item in (one, other)]
    except DataError:
        return True
    return float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0]) > _SAME_MASK_IOU


def _check_object(item: Annotation, record: ImageRecord, findings: FindingCollector) -> int | None:
    where = record.file_name, item.id
    size_hw = record.height, record.width
    width, height = item.bbox_xywh[2:]
    if item.segmentation is None:
        if width * height < MIN_PIXELS:
            findings.add("tiny-object", *where, f"a box of {width:g} x {height:g}", min_pixels=MIN_PIXELS)
        elif width * height * (MODEL_SIDE / size_hw[0]) * (MODEL_SIDE / size_hw[1]) < 1:
            detail = f"a box of {width:g} x {height:g} in an image of {size_hw[1]} x {size_hw[0]}"
            findings.add("object-vanishes", *where, detail, model_side=MODEL_SIDE)
        return None
    try:
        shape = shape_of(item.segmentation, size_hw)
        lost = _visibility_problem(item.segmentation, shape, size_hw)
    except DataError as error:  # when the dataset was opened, not every segmentation was checked number by number
        findings.add("bad-segmentation", *where, error.message[0].lower() + error.message[1:])
        return None
    if shape.box_xyxy is None:
        findings.add("empty-mask", *where)
        return 0
    if shape.area < MIN_PIXELS:
        findings.add("tiny-object", *where, f"{shape.area} pixels", min_pixels=MIN_PIXELS)
    elif lost:
        detail = f"{shape.area} pixels in an image of {size_hw[1]} x {size_hw[0]}"
        findings.add(lost, *where, detail, model_side=MODEL_SIDE, mask_side=MASK_SIDE)
    x0, y0, x1, y1 = shape.box_xyxy
    tight = x0, y0, x1 - x0, y1 - y0
    iou = float(coco_mask.iou(np.array([item.bbox_xywh]), np.array([tight]), [0])[0, 0])
    if iou < MIN_IOU and _distance(item.bbox_xywh, tight) > _TOLERANCE:
        detail = f"IoU {iou:.2f}: box {_sides(item.bbox_xywh)}, mask within {_sides(tight)}"
        cause = layout_of(item.bbox_xywh, tight)
        findings.add("box-mask-mismatch", *where, detail, causes=(cause,) if cause else ("other",), min_iou=MIN_IOU)
    if isinstance(item.segmentation, list):
        _check_polygons(item.segmentation, *where, findings)
    return shape.area


def _distance(one: Box, other: Box) -> float:
    """The largest distance in pixels between two sides of boxes (left, top, width, height)."""
    corners = [np.array([x, y, x + w, y + h]) for x, y, w, h in (one, other)]
    return float(np.abs(corners[0] - corners[1]).max())


def _sides(box_xywh: Box) -> str:
    return f"[{', '.join(f'{side:g}' for side in box_xywh)}]"


def shape_of(segmentation: Any, size_hw: tuple[int, int]) -> Shape:
    """The shape of a segmentation, found without decoding it.

    Args:
        segmentation: polygons or run lengths.
        size_hw: of the image, pixels.

    Raises:
        DataError: as :func:`sam3_lora.masks.decode_segmentation` does.
    """
    rle = _rle_of(segmentation, size_hw)
    area = int(coco_mask.area(rle))
    if not area:
        return Shape(0, None)
    x, y, w, h = coco_mask.toBbox(rle).tolist()
    return Shape(area, (x, y, x + w, y + h))


def _rle_of(segmentation: Any, size_hw: tuple[int, int]) -> Any:
    """Run lengths as pycocotools has them. Raises DataError as decode_segmentation does."""
    check_segmentation(segmentation, size_hw)
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects([part for part in segmentation if len(part) >= 6], *size_hw))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size_hw)
    return segmentation


def _visibility_problem(segmentation: Any, shape: Shape, size_hw: tuple[int, int]) -> str:
    """The kind of finding of a mask that loses all its pixels when it is scaled as for the model; "" if it does not."""
    for side, kind in ((MODEL_SIDE, "object-vanishes"), (MASK_SIDE, "small-object")):
        scaled_area = shape.area * (side / size_hw[0]) * (side / size_hw[1])
        if scaled_area < _SURELY_SEEN and not decode_columns(segmentation, size_hw, (side, side))[0].any():
            return kind
    return ""


def _check_polygons(polygons: list[list[float]], image: str, key: int | str, findings: FindingCollector) -> None:
    import shapely

    short = [len(part) // 2 for part in polygons if len(part) < 6]
    if short:
        findings.add("polygon-short-part", image, key, f"{len(short)} of {len(polygons)} parts")
    for part in polygons:
        if len(part) < 6:
            continue
        points = np.asarray(part, dtype=np.float64).reshape(-1, 2)
        ring = shapely.Polygon(points)
        if ring.is_valid:
            continue
        # An outline that retraces or touches itself encloses the same for every program.
        enclosed = shapely.make_valid(ring).area
        if abs(enclosed - _shoelace(points)) > _CROSSED * enclosed and enclosed >= MIN_PIXELS:
            findings.add("polygon-crosses-itself", image, key)
            return


def _shoelace(points: np.ndarray) -> float:
    """The area that the shoelace formula gives a polygon (N, 2)."""
    x, y = (points - points[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
