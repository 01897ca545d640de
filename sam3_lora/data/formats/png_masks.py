"""Converts semantic masks to COCO: image files whose values or colors name the class of each pixel."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from sam3_lora.data.folders import ANNOTATION_FILE, listing
from sam3_lora.data.formats.mask_values import read_mask
from sam3_lora.data.formats.yolo_pairs import images_in
from sam3_lora.data.images import BROKEN, ImageHeader, open_image, orientation_of, why_broken
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import atomic_folder, check_writable
from sam3_lora.masks import encode_rle, mask_area, mask_to_box_xyxy
from sam3_lora.text import plural, short_repr

Objects = Literal["components", "colors"]
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg")  # the best one of a name first
_PHOTO_SUFFIXES = (".webp", ".jpg", ".jpeg")
_ADDED = re.compile(r"[-_. ]?(mask|masks|label|labels|labelids|seg|segmentation|gt)$", re.IGNORECASE)
_COLOR = re.compile(r"#?([0-9a-fA-F]{6})")


@dataclass
class Converted:
    """What was converted.

    Attributes:
        images: written.
        objects: written, by class.
        unknown: masks by a value in them that has no class.
        noisy: masks with values between the classes, which compression or smoothing leaves: each took the nearest.
        noisy_pixels: with such a value.
        skipped: file -> why.
    """

    images: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    noisy: int = 0
    noisy_pixels: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def convert_masks(
    images: Path,
    masks: Path,
    out: Path,
    classes: Mapping[str, str],
    *,
    objects: Objects = "components",
    min_pixels: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> Converted:
    """Writes a COCO split of images whose masks have the same names, and copies the images into it.

    Args:
        images: the folder of the images.
        masks: the folder of their masks, as large as the images and named like them, or like them with ``_mask`` or a
            similar suffix; single values (gray or palette), or colors. Noise and smoothed edges are allowed for.
        out: a new folder for the split, such as ``dataset/train``.
        classes: names by value ("1") or by color ("#ff0000"); everything else is background.
        objects: "components": each connected region of a class is an object; "colors": all of a class's pixels
            in an image are one.
        min_pixels: of a region; smaller ones are left out.
        progress: called with the share that is done, in [0, 1].

    Raises:
        DataError: there is nothing to convert, the classes are invalid, or `out` exists already.
    """
    by_value, in_colors = _values(classes)
    listing(images), listing(masks)  # raise if they do not exist
    if out.exists():
        raise DataError(f"Expected a new folder to write to, but {out} exists already", "Give another name")
    cannot_write = partial(
        explain_os_errors, DataError, f"{out} cannot be written", "Give another folder, or free some space"
    )
    with cannot_write():
        check_writable(out)
    pairs, result = _pairs(images, masks)
    with cannot_write():
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out) as written:
            split = _Split(written, by_value, in_colors, objects, min_pixels, result)
            for done, (image, mask) in enumerate(pairs, start=1):
                split.add(image, mask, image.relative_to(images).as_posix())
                progress(done / len(pairs))
            if not result.images:
                reason = next(iter(result.skipped.values()))
                raise DataError(f"No mask in {masks} can be used: {reason}", "Correct them")
            if not result.objects:
                raise _no_object(masks, classes, result, min_pixels)
            (written / ANNOTATION_FILE).write_text(json.dumps(split.content), "utf-8")
    return result


def _no_object(masks: Path, classes: Mapping[str, str], result: Converted, min_pixels: int) -> DataError:
    there = [value for value, _ in result.unknown.most_common(10)]
    if there:
        return DataError(
            f"The masks in {masks} have the values {', '.join(there)}, but none of {', '.join(classes)}",
            f"Name these values ({there[0]}=NAME), or name by color ('#ffffff=NAME') if they are numbers of a palette",
        )
    return DataError(
        f"The masks in {masks} have no object of at least {plural(min_pixels, 'pixel')}",
        "Give the folder of the masks",
    )


def _values(classes: Mapping[str, str]) -> tuple[dict[int, str], bool]:
    """Class names by value, or by color as 0xRRGGBB; and whether they are colors."""
    fix = "Name them by value (1=crack) or by color ('#ff0000=crack')"
    if not classes or not all(any(map(str.isalnum, name)) for name in classes.values()):
        raise DataError("Expected at least one class, and a name of words for each", fix)
    if all(key.isascii() and key.isdigit() and len(key) <= 5 for key in classes):
        return {int(key): name for key, name in classes.items()}, False
    if all(map(_COLOR.fullmatch, classes)):
        return {int(key.removeprefix("#"), 16): name for key, name in classes.items()}, True
    raise DataError(f"Expected classes by values or by colors, got {short_repr(list(classes))}", fix)


def _pairs(images: Path, masks: Path) -> tuple[list[tuple[Path, Path]], Converted]:
    """Images with their masks, by name; images without a mask are skipped."""
    result = Converted()
    of_stem: dict[str, list[Path]] = {}
    found = [path for path in sorted(masks.rglob("*")) if path.suffix.lower() in _MASK_SUFFIXES and path.is_file()]
    for path in sorted(found, key=lambda path: _MASK_SUFFIXES.index(path.suffix.lower())):
        inner = path.relative_to(masks).with_suffix("")
        # In one folder, a photograph of the same name is no mask.
        if masks != images or path.suffix.lower() not in _PHOTO_SUFFIXES or _ADDED.search(str(inner)):
            for stem in dict.fromkeys((str(inner), _ADDED.sub("", str(inner)))):
                of_stem.setdefault(stem, []).append(path)
    pairs = []
    for image in images_in(images):
        name = str(image.relative_to(images))
        named_so = of_stem.get(str(image.relative_to(images).with_suffix("")), ())
        mask = next((path for path in named_so if path != image), None)
        if mask is None:
            result.skipped[name] = "no mask with its name"
        else:
            pairs.append((image, mask))
    for _, mask in pairs:  # masks among the images are not images
        if mask.is_relative_to(images):
            result.skipped.pop(str(mask.relative_to(images)), None)
    if not pairs:
        raise DataError(
            f"Expected masks in {masks} named like the images in {images}, but no names match",
            "Name each mask like its image, as PNG",
        )
    return pairs, result


@dataclass
class _Split:
    """A COCO split while it is written. The fields are the arguments of :func:`convert_masks`, and its result."""

    out: Path
    by_value: Mapping[int, str]
    in_colors: bool
    objects: Objects
    min_pixels: int
    result: Converted

    def __post_init__(self) -> None:
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(self.by_value.values()), start=1)}
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        self.content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}

    def add(self, image: Path, mask: Path, name: str) -> None:
        """Copies an image under a name and adds the objects of its mask; or records why it is skipped."""
        try:
            with open_image(image) as picture:
                header = ImageHeader(picture.size, orientation_of(picture))
            values, noisy = read_mask(mask, self.by_value, self.in_colors)
        except DataError as error:
            self.result.skipped[name] = f"{error.message} ({error.fix[0].lower()}{error.fix[1:]})"
            return
        except BROKEN as error:
            self.result.skipped[name] = f"cannot be decoded ({why_broken(error)})"
            return
        width, height = header.used_size((values.shape[1], values.shape[0]))
        if values.shape != (height, width):
            self.result.skipped[name] = f"its mask is {values.shape[1]} x {values.shape[0]}, not {width} x {height}"
            return
        (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(image, self.out / name)
        self.result.images += 1
        self.result.noisy += noisy > 0
        self.result.noisy_pixels += noisy
        self.content["images"].append({"id": self.result.images, "file_name": name, "width": width, "height": height})
        for value in np.unique(values).tolist():
            if value in self.by_value:
                self._add_objects(values == value, self.by_value[value])
            elif value:  # 0 is background everywhere
                self.result.unknown[f"#{value:06x}" if self.in_colors else str(value)] += 1

    def _add_objects(self, bitmap: np.ndarray, name: str) -> None:
        for region in _regions(bitmap) if self.objects == "components" else [bitmap]:
            rle = encode_rle(region)
            area, corners = mask_area(rle, region.shape), mask_to_box_xyxy(region)
            if corners is None or area < self.min_pixels:
                continue
            x0, y0, x1, y1 = corners
            self.content["annotations"].append(
                {
                    "id": len(self.content["annotations"]) + 1,
                    "image_id": self.result.images,
                    "category_id": self._numbers[name],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": rle,
                }
            )
            self.result.objects[name] += 1


def _regions(bitmap: np.ndarray) -> Iterator[np.ndarray]:
    """The 8-connected regions, bool (H, W), one after the other, since there may be thousands."""
    count, labels = cv2.connectedComponents(bitmap.astype(np.uint8), connectivity=8)
    return (labels == label for label in range(1, count))
