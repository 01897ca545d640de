"""Changes single annotations: entries of any type, as they are in the file; what cannot be changed stays as it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from sam3_lora.data.index.gather import GatheredImage
from sam3_lora.data.index.objects.box_layouts import LAYOUTS
from sam3_lora.data.index.objects.notation import box_of, segmentation_of
from sam3_lora.data.index.objects.shapes import box_of_segmentation, four_numbers, segmentation_problem
from sam3_lora.masks import decode_resized, decode_segmentation, encode_rle

Entry = dict[str, Any]
_TURNED = ("rotation", "angle", "theta", "attributes")


def box_from_mask(entry: Entry, image: GatheredImage) -> Entry:
    """Without the box and its angle, if there is a mask to take it from."""
    segmentation = _readable(entry, image)
    if segmentation is None or (box := box_of_segmentation(segmentation, image.width, image.height)) is None:
        return entry
    return {**{key: value for key, value in entry.items() if key not in _TURNED}, "bbox": list(box)}


def mask_as_run_lengths(entry: Entry, image: GatheredImage) -> Entry:
    """With the pixels of its mask as run lengths."""
    segmentation = _readable(entry, image)
    if segmentation is None:
        return entry
    return {**entry, "segmentation": encode_rle(decode_segmentation(segmentation, (image.height, image.width)))}


def without_short_parts(entry: Entry, image: GatheredImage) -> Entry:
    """Without parts of fewer than 3 points, if there are others."""
    segmentation = _readable(entry, image)
    if not isinstance(segmentation, list):
        return entry
    return {**entry, "segmentation": [part for part in segmentation if len(part) >= 6]}


def read_box(entry: Entry, image: GatheredImage, layout: str, *, fractions: bool) -> Entry:
    """With its four numbers as [left, top, width, height] in pixels.

    Args:
        entry: the annotation.
        image: that it is in.
        layout: what they are, a key of LAYOUTS.
        fractions: of the image's width and height, where no number is above 1; polygons, too.
    """
    changed = dict(entry)
    numbers = four_numbers(entry.get("bbox"))
    if numbers is not None:
        if fractions and max(map(abs, numbers)) <= 1:
            sides = 2 * (image.width, image.height)
            sides = sides[::-1] if layout.endswith("rows-and-columns") else sides
            numbers = tuple(number * side for number, side in zip(numbers, sides, strict=True))  # type: ignore[assignment]
        changed["bbox"] = list(LAYOUTS[layout](*numbers))
    polygons = entry.get("segmentation")
    if fractions and isinstance(polygons, list) and max(image.width, image.height) > 1:
        with suppress(TypeError, ValueError):  # of other values
            if min(map(min, polygons)) >= 0 and max(map(max, polygons)) <= 1:
                changed["segmentation"] = _scaled_polygons(polygons, (image.width, image.height))
    return changed


def scaled(entry: Entry, image: GatheredImage, scale: tuple[float, float]) -> Entry:
    """With box and mask scaled to the image.

    Args:
        entry: the annotation.
        image: with the size that it is scaled to.
        scale: factors of x and y.
    """
    changed = dict(entry)
    if (box := _box(entry)) is not None and max(map(abs, box)) > 1:  # others are fractions
        x, y, w, h = box
        changed["bbox"] = [x * scale[0], y * scale[1], w * scale[0], h * scale[1]]
    segmentation = entry.get("segmentation")
    from_wh = round(image.width / scale[0]), round(image.height / scale[1])
    if segmentation and (read := _valid(segmentation, *from_wh)) is not None:
        if isinstance(read, list):
            changed["segmentation"] = _scaled_polygons(read, scale)
        else:
            changed["segmentation"] = encode_rle(decode_resized(read, from_wh[::-1], (image.height, image.width)))
    return changed


def merged(pieces: list[Entry], image: GatheredImage) -> Entry:
    """Several annotations as one; a single one stays as it is.

    Args:
        pieces: at least one; their masks are joined if all have one, otherwise their boxes.
        image: that they are in.
    """
    if len(pieces) == 1:
        return pieces[0]
    masks = [_readable(piece, image) for piece in pieces]
    boxes = [_box(piece) for piece in pieces]
    whole = dict(pieces[0])
    if all(mask is not None for mask in masks):
        if all(isinstance(mask, list) for mask in masks):
            whole["segmentation"] = [part for mask in masks for part in mask]
        else:
            size_hw = image.height, image.width
            pixels = [decode_segmentation(mask, size_hw) for mask in masks]
            whole["segmentation"] = encode_rle(np.logical_or.reduce(pixels))
        return box_from_mask(whole, image)
    known = np.array([box for box in boxes if box is not None], np.float64).reshape(-1, 4)
    if len(known):
        left_top = known[:, :2].min(axis=0)
        whole["bbox"] = [*left_top.tolist(), *((known[:, :2] + known[:, 2:]).max(axis=0) - left_top).tolist()]
    whole["segmentation"] = None
    return whole


def _box(entry: Entry) -> tuple[float, float, float, float] | None:
    numbers = four_numbers(entry.get("bbox"))
    if numbers is None and (read := box_of(entry.get("bbox"))) is not None:
        numbers = four_numbers(list(read[0]))
    return numbers


def _readable(entry: Entry, image: GatheredImage) -> Any:
    """The polygons or run lengths of an annotation; None without any that can be decoded."""
    return _valid(entry["segmentation"], image.width, image.height) if entry.get("segmentation") else None


def _valid(segmentation: Any, width: int, height: int) -> Any:
    if segmentation_problem(segmentation, width, height, thorough=True):
        read = segmentation_of(segmentation, (height, width))
        if read is None or segmentation_problem(read[0], width, height, thorough=True):
            return None
        segmentation = read[0]
    return segmentation


def _scaled_polygons(polygons: list[list[float]], scale: tuple[float, float]) -> list[list[float]]:
    return [[value * scale[number % 2] for number, value in enumerate(part)] for part in polygons]
