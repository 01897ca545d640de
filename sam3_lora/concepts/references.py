"""Examples of a concept from image files and from datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam3_lora.concepts.learn import Example
from sam3_lora.data.images import load_image, read_image
from sam3_lora.data.records import ImageRecord, Split
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.references import Reference
from sam3_lora.text import short


def parse_reference(text: str) -> tuple[Path, tuple[float, float, float, float]]:
    """An image and a box xyxy, of "photo.jpg:left,top,width,height" in pixels. Raises DataError."""
    path, _, numbers = text.rpartition(":")
    try:
        left, top, width, height = (float(number) for number in numbers.split(","))
    except ValueError:
        left = top = width = height = 0.0
    if not path or not (width > 0 and height > 0):
        raise DataError(
            f"Expected an image and a box, got '{short(text)}'",
            "Write it like photo.jpg:120,80,40,60 (left, top, w, h)",
        )
    return Path(path), (left, top, left + width, top + height)


def examples_of_boxes(like: list[str], without: list[Path]) -> list[Example]:
    """Examples from boxes on image files.

    Args:
        like: see :func:`parse_reference`; several boxes of one image are all of its objects.
        without: images that do not have the concept.

    Raises:
        DataError: an image cannot be read, or a box is none.
    """
    boxes: dict[Path, list[tuple[float, float, float, float]]] = {}
    for path, box in map(parse_reference, like):
        boxes.setdefault(path, []).append(box)
    found = [Example(read_image(path), np.array(some, np.float64)) for path, some in boxes.items()]
    return found + [Example(read_image(path), np.zeros((0, 4))) for path in without]


def references_of_boxes(like: list[str], unlike: list[str]) -> list[Reference]:
    """References from boxes on image files, one for each image.

    Args:
        like: objects to find the like of, see :func:`parse_reference`.
        unlike: objects that are not meant.

    Raises:
        DataError: an image cannot be read, or a box is none.
    """
    boxes: dict[Path, list[tuple[tuple[float, float, float, float], bool]]] = {}
    for texts, positive in ((like, True), (unlike, False)):
        for path, box in map(parse_reference, texts):
            boxes.setdefault(path, []).append((box, positive))
    found = []
    for path, some in boxes.items():
        corners, labels = (np.array(part) for part in zip(*some, strict=True))
        found.append(Reference(read_image(path), Exemplars(corners, labels)))
    return found


def examples_of_category(split: Split, category: str, images: int, seed: int) -> list[Example]:
    """Examples from a dataset: images with a category, and as many without, drawn by a seed.

    Args:
        split: of the dataset.
        category: its name.
        images: how many with the category; fewer where there are not so many.
        seed: of the choice.

    Raises:
        DataError: there is no such category, it has no object, or an image cannot be read.
    """
    if category not in split.categories:
        known = ", ".join(map(short, split.categories[:8]))
        raise DataError(f"There is no category '{short(category)}'; there are {known}", "Check its name")
    there = [
        [record for record in split.images if not record.missing and _has(record, category) is wanted]
        for wanted in (True, False)
    ]
    if not there[0]:
        raise DataError(f"The category '{short(category)}' has no object in '{split.name}'", "Take another split")
    rng = np.random.default_rng(seed)
    chosen = [part[place] for part in there for place in rng.permutation(len(part))[:images]]
    return [_example(record, category) for record in chosen]


def _has(record: ImageRecord, category: str) -> bool:
    return any(one.category == category for one in record.annotations)


def _example(record: ImageRecord, category: str) -> Example:
    size_hw = (record.height, record.width)
    pixels = load_image(record)
    scale = np.array([pixels.shape[1] / record.width, pixels.shape[0] / record.height] * 2)
    boxes, masks = [], list[np.ndarray | None]()
    for one in record.annotations:
        if one.category == category and not one.iscrowd:
            x, y, w, h = one.bbox_xywh
            boxes.append(np.array([x, y, x + w, y + h]) * scale)
            fits = pixels.shape[:2] == size_hw and one.has_segmentation
            masks.append(decode_segmentation(one.segmentation, size_hw) if fits else None)
    return Example(pixels, np.array(boxes, np.float64).reshape(-1, 4), tuple(masks))
