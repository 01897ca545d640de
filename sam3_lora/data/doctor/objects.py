"""Looks at the objects of one image: box against mask, outlines, and what the model can see of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_lora.data.findings.findings import FindingCollector, shown
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.errors import DataError
from sam3_lora.masks import check_segmentation, decode_segmentation

# SAM 3's sizes (transformers' Sam3Config: image_size, num_queries; masks have a side of 4 * 72).
MODEL_SIDE = 1008
MASK_SIDE = 288
QUERIES = 200

MIN_IOU = 0.7  # of a box with the tight box of its mask
SAME_IOU = 0.9  # of two boxes of one category
_SAME_MASK_IOU = 0.5  # of their masks: two cracks that cross each other may fill one box
_OVERHANG = 2.0  # pixels by which they may differ without a word: rounding, and a pen's width
MIN_PIXELS = 5  # of an object
_MAX_COMPARED = 2_000  # objects of one category in one image, each with each
_SURELY_SEEN = 16.0  # pixels of a scaled object, above which some are hit whatever its shape
_CROSSED = 0.01  # share of a polygon's area that must be in doubt to speak of it


@dataclass(frozen=True, slots=True)
class Shape:
    """A mask without its pixels. area: in pixels; box_xyxy: tight, inside the image; None if the mask is empty."""

    area: int
    box_xyxy: tuple[float, float, float, float] | None


def note(record: ImageRecord, faults: FindingCollector) -> list[int | None]:
    """Writes into a split's faults what is odd about an image's objects.

    Returns:
        The area of each annotation's mask in pixels, in order; None for crowds and where there is no mask.
    """
    areas = [None if item.iscrowd else _note_object(item, record, faults) for item in record.annotations]
    counts = Counter(phrase_of(item.category) for item in record.annotations if not item.iscrowd)
    for phrase, count in counts.items():
        if count > QUERIES:
            faults.add("too-many-objects", record.file_name, detail=f"{count:,} of {shown(phrase)}")
    _note_twice(record, faults)
    return areas


def _note_twice(record: ImageRecord, faults: FindingCollector) -> None:
    groups: dict[str, list[Annotation]] = {}
    for item in record.annotations:
        if not item.iscrowd:
            groups.setdefault(item.category, []).append(item)
    for items in groups.values():
        if not 1 < len(items) <= _MAX_COMPARED:
            continue
        x, y, w, h = np.array([item.bbox_xywh for item in items], dtype=np.float64).T
        left, top = np.maximum.outer(x, x), np.maximum.outer(y, y)
        right, bottom = np.minimum.outer(x + w, x + w), np.minimum.outer(y + h, y + h)
        common = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)  # N, N
        iou = common / (np.add.outer(w * h, w * h) - common)
        first, second = np.nonzero(np.triu(iou > SAME_IOU, k=1))
        told: set[int] = set()
        for early, late in zip(first.tolist(), second.tolist(), strict=True):
            if late in told or not _same_masks(items[early], items[late], record):
                continue
            told.add(late)
            faults.add("object-twice", record.file_name, items[late].id, f"like annotation {items[early].id}")


def _same_masks(one: Annotation, other: Annotation, record: ImageRecord) -> bool:
    """Whether two masks cover about the same; True where there are not both of them."""
    from pycocotools import mask as coco_mask

    if one.segmentation is None or other.segmentation is None:
        return True
    try:
        rles = [_rle_of(item.segmentation, (record.height, record.width)) for item in (one, other)]
    except DataError:
        return True
    return float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0]) > _SAME_MASK_IOU


def _note_object(item: Annotation, record: ImageRecord, faults: FindingCollector) -> int | None:
    where = record.file_name, item.id
    size_hw = record.height, record.width
    width, height = item.bbox_xywh[2:]
    if item.segmentation is None:
        if width * height < MIN_PIXELS:
            faults.add("tiny-object", *where, f"a box of {width:g} x {height:g}")
        elif width * height * (MODEL_SIDE / size_hw[0]) * (MODEL_SIDE / size_hw[1]) < 1:
            detail = f"a box of {width:g} x {height:g} in an image of {size_hw[1]} x {size_hw[0]}"
            faults.add("object-vanishes", *where, detail)
        return None
    try:
        shape = shape_of(item.segmentation, size_hw)
    except DataError as error:  # when the dataset was opened, not every segmentation was looked at number by number
        faults.add("bad-segmentation", *where, error.message[0].lower() + error.message[1:])
        return None
    if shape.box_xyxy is None:
        faults.add("empty-mask", *where)
        return 0
    if shape.area < MIN_PIXELS:
        faults.add("tiny-object", *where, f"{shape.area} pixels")
    else:
        _note_visibility(item.segmentation, shape, size_hw, where, faults)
    _note_box(item, shape, where, faults)
    if isinstance(item.segmentation, list):
        _note_polygons(item.segmentation, where, faults)
    return shape.area


def shape_of(segmentation: Any, size_hw: tuple[int, int]) -> Shape:
    """The shape of a segmentation, found without decoding it. Raises DataError as decode_segmentation does."""
    from pycocotools import mask as coco_mask

    rle = _rle_of(segmentation, size_hw)
    area = int(coco_mask.area(rle))
    if not area:
        return Shape(0, None)
    x, y, w, h = coco_mask.toBbox(rle).tolist()
    return Shape(area, (x, y, x + w, y + h))


def _rle_of(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Run lengths as pycocotools has them. Raises DataError as decode_segmentation does."""
    from pycocotools import mask as coco_mask

    check_segmentation(segmentation, size_hw)
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects([part for part in segmentation if len(part) >= 6], *size_hw))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size_hw)
    return segmentation


def _note_box(item: Annotation, shape: Shape, where: tuple, faults: FindingCollector) -> None:
    x, y, w, h = item.bbox_xywh
    box = x, y, x + w, y + h
    x0, y0, x1, y1 = tight = shape.box_xyxy
    if max(abs(side - other) for side, other in zip(box, tight, strict=True)) <= _OVERHANG:
        return
    common = max(0.0, min(box[2], x1) - max(x, x0)) * max(0.0, min(box[3], y1) - max(y, y0))
    iou = common / (w * h + (x1 - x0) * (y1 - y0) - common)
    if iou < MIN_IOU:
        sides = ", ".join(f"{side:g}" for side in (x0, y0, x1 - x0, y1 - y0))
        given = ", ".join(f"{side:g}" for side in item.bbox_xywh)
        faults.add("box-mask-mismatch", *where, f"IoU {iou:.2f}: box [{given}], mask within [{sides}]")


def _note_visibility(
    segmentation: Any, shape: Shape, size_hw: tuple[int, int], where: tuple, faults: FindingCollector
) -> None:
    for side, kind in ((MODEL_SIDE, "object-vanishes"), (MASK_SIDE, "small-object")):
        if shape.area * (side / size_hw[0]) * (side / size_hw[1]) < _SURELY_SEEN and not _is_hit(
            segmentation, shape, size_hw, side
        ):
            faults.add(kind, *where, f"{shape.area} pixels in an image of {size_hw[1]} x {size_hw[0]}")
            return


def _is_hit(segmentation: Any, shape: Shape, size_hw: tuple[int, int], side: int) -> bool:
    """Whether a pixel is left of a mask that is scaled to side x side by nearest neighbour, as training does."""
    x0, y0, x1, y1 = map(int, shape.box_xyxy)
    rows = np.arange(side) * size_hw[0] // side
    columns = np.arange(side) * size_hw[1] // side
    rows, columns = rows[(rows >= y0) & (rows < y1)], columns[(columns >= x0) & (columns < x1)]
    if not len(rows) or not len(columns):
        return False
    if isinstance(segmentation, list):  # drawn within the box only: the image may be large
        moved = [[value - (y0 if at % 2 else x0) for at, value in enumerate(part)] for part in segmentation]
        bitmap = decode_segmentation(moved, (y1 - y0, x1 - x0)) if _is_near(moved, x1 - x0, y1 - y0) else None
        if bitmap is not None:
            return bool(bitmap[np.ix_(rows - y0, columns - x0)].any())
    return bool(decode_segmentation(segmentation, size_hw)[np.ix_(rows, columns)].any())


def _is_near(polygons: list[list[float]], width: int, height: int) -> bool:
    """Whether polygons stay about their box, and were not cut off by the image's edge."""
    return all(
        -width <= min(part[0::2], default=0) <= max(part[0::2], default=0) <= 2 * width
        and -height <= min(part[1::2], default=0) <= max(part[1::2], default=0) <= 2 * height
        for part in polygons
    )


def _note_polygons(polygons: list[list[float]], where: tuple, faults: FindingCollector) -> None:
    import shapely

    short = [len(part) // 2 for part in polygons if len(part) < 6]
    if short:
        faults.add("polygon-short-part", *where, f"{len(short)} of {len(polygons)} parts")
    for part in polygons:
        if len(part) < 6:
            continue
        points = np.asarray(part, dtype=np.float64).reshape(-1, 2)
        ring = shapely.Polygon(points)
        if ring.is_valid:
            continue
        # An outline that runs back on itself or touches itself encloses the same for everybody.
        enclosed = shapely.make_valid(ring).area
        if abs(enclosed - _shoelace(points)) > _CROSSED * enclosed and enclosed >= MIN_PIXELS:
            faults.add("polygon-crosses-itself", *where)
            return


def _shoelace(points: np.ndarray) -> float:
    x, y = (points - points[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
