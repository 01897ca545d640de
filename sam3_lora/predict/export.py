"""Exports predictions: CSV, COCO JSON and masks as PNG files."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.draw import Color, DrawObject
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.postprocess import BASE, Answerer, PhraseResult

_COLUMNS = ("image", "phrase", "score", "left", "top", "right", "bottom", "area_px", "area_percent", "answered_by")


@dataclass(frozen=True)
class FoundObject:
    """One predicted object."""

    phrase: str
    score: float
    box_xyxy: tuple[float, float, float, float]  # in pixels
    area: int  # pixels of the mask
    rle: dict[str, Any]  # the mask as COCO's compressed run lengths
    answered_by: Answerer = BASE  # the model that predicted it


@dataclass(frozen=True)
class FoundImage:
    """The objects predicted in one image."""

    name: str  # path of its file, with "/", relative to the folder that was predicted
    size_hw: tuple[int, int]
    objects: tuple[FoundObject, ...]


def found_image(name: str, size_hw: tuple[int, int], results: Mapping[str, PhraseResult]) -> FoundImage:
    """The predictions for all phrases in one image, phrase by phrase, best first, with masks as run lengths.

    Args:
        name: see :class:`FoundImage`.
        size_hw: the image's height and width in pixels.
        results: by phrase.
    """
    objects = [
        FoundObject(phrase, float(score), tuple(box.tolist()), int(area), rle, result.answered_by)
        for phrase, result in results.items()
        for score, box, area, rle in zip(result.scores, result.boxes_xyxy, result.areas, result.each_rle(), strict=True)
    ]
    return FoundImage(name, size_hw, tuple(objects))


def to_draw(results: Mapping[str, PhraseResult], color_of: Callable[[str], Color]) -> list[DrawObject]:
    """The predictions for all phrases in one image, to be drawn over it.

    Args:
        results: by phrase.
        color_of: gives the color of a phrase.
    """
    return [
        DrawObject(phrase, color_of(phrase), mask, tuple(box.tolist()), float(score))
        for phrase, result in results.items()
        for mask, box, score in zip(result.each_mask(), result.boxes_xyxy, result.scores, strict=True)
    ]


def to_coco(images: Sequence[FoundImage], phrases: Iterable[str]) -> dict[str, Any]:
    """Predictions as a COCO dataset, with a score and the model that predicted it in each annotation.

    Args:
        images: all become entries, also those without objects.
        phrases: all become categories, also those without objects.
    """
    number = {phrase: index for index, phrase in enumerate(phrases, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for one in image.objects:
            left, top, right, bottom = one.box_xyxy
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": number[one.phrase],
                    "bbox": [round(side, 2) for side in (left, top, right - left, bottom - top)],
                    "area": one.area,
                    "segmentation": one.rle,
                    "iscrowd": 0,
                    "score": round(one.score, 4),
                    "answered_by": one.answered_by,
                }
            )
    return {
        "images": [
            {"id": index, "file_name": image.name, "width": image.size_hw[1], "height": image.size_hw[0]}
            for index, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": index, "name": phrase, "supercategory": "none"} for phrase, index in number.items()],
    }


def to_csv(images: Iterable[FoundImage]) -> str:
    """One line per object: image, phrase, score, box in pixels, area in pixels and in percent of the image, model."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for image in images:
        for one in image.objects:
            share = 100 * one.area / (image.size_hw[0] * image.size_hw[1])
            box = (f"{side:.1f}" for side in one.box_xyxy)
            name, phrase = map(_as_text, (image.name, one.phrase))
            table.writerow([name, phrase, f"{one.score:.4f}", *box, one.area, f"{share:.4f}", one.answered_by])
    return text.getvalue()


def each_mask(images: Sequence[FoundImage]) -> Iterator[tuple[str, np.ndarray]]:
    """Each mask, (H, W) bool, with a unique file name such as "road/crack-1.png"."""
    folders = _distinct(file_part(str(PurePosixPath(image.name).with_suffix(""))) for image in images)
    for image, folder in zip(images, folders, strict=True):
        phrases = list(dict.fromkeys(one.phrase for one in image.objects))
        parts = dict(zip(phrases, _distinct(map(file_part, phrases)), strict=True))
        numbers = dict.fromkeys(phrases, 0)
        for one in image.objects:
            numbers[one.phrase] += 1
            mask = decode_segmentation(one.rle, image.size_hw)
            yield f"{folder}/{parts[one.phrase]}-{numbers[one.phrase]}.png", mask


def masks_zip(images: Sequence[FoundImage]) -> bytes:
    """All masks as black-and-white PNG files of their images' sizes, in one zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, mask in each_mask(images):
            file = io.BytesIO()
            Image.fromarray(mask).save(file, format="PNG")
            archive.writestr(name, file.getvalue())
    return buffer.getvalue()


def file_part(text: str) -> str:
    """Text as a part of a file name that every system accepts: letters, digits and "-", at most 60 characters."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())[:60] or "unnamed"


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, with a number appended to each repetition (regardless of case)."""
    distinct: dict[str, str] = {}  # by the name in lower case
    for name in names:
        numbered = (f"{name}-{number}" for number in count(2))
        own = next(one for one in chain([name], numbered) if one.lower() not in distinct)
        distinct[own.lower()] = own
    return list(distinct.values())


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet interprets as a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else cell
