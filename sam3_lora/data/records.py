"""What a dataset is in memory: images with their annotations, in splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam3_lora.data.health import Finding
from sam3_lora.errors import DataError


@dataclass(frozen=True, slots=True)
class Annotation:
    """One usable object of an image.

    category: as written in the file; bbox_xywh: (left, top, width, height) in pixels of the size that
    the file gives the image, inside it, width and height above zero; segmentation: as written in the
    file (see :func:`sam3_lora.masks.decode_segmentation`), or None without a usable one; iscrowd: a
    region of many objects, shown but never learned.
    """

    id: int | str
    category: str
    bbox_xywh: tuple[float, float, float, float]
    segmentation: Any
    iscrowd: bool


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as the annotation file describes it.

    path: where the file is, or should be if `missing`; width, height: pixels; annotations: the usable
    ones; unusable_categories: categories that are in the image by annotations that could not be used,
    so that nobody claims they are absent.
    """

    id: int | str
    file_name: str
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]
    unusable_categories: frozenset[str] = frozenset()
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a dataset, read from one annotation file. categories: in the file's order, without repeats."""

    name: str
    json_path: Path
    images: tuple[ImageRecord, ...]
    categories: tuple[str, ...]

    @property
    def num_objects(self) -> int:
        """Objects to learn from: usable annotations, crowds left out."""
        return sum(self.objects_per_category().values())

    def present(self) -> Split:
        """The split without the images whose file is missing."""
        return replace(self, images=tuple(image for image in self.images if not image.missing))

    def objects_per_category(self) -> dict[str, int]:
        """Objects to learn from, by category; every category of the file is there, if only with 0."""
        counts = Counter(item.category for image in self.images for item in image.annotations if not item.iscrowd)
        return {category: counts[category] for category in self.categories}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and everything found wrong with it. format: in words; categories: of all splits, without repeats."""

    root: Path
    format: str
    splits: dict[str, Split]
    categories: tuple[str, ...]
    findings: tuple[Finding, ...]

    def split(self, name: str) -> Split:
        """A split by its name. Raises DataError that lists the splits there are."""
        if name not in self.splits:
            raise DataError(
                f"Expected a split '{name}' in {self.root}, but its splits are {', '.join(self.splits)}",
                "Choose one of these",
            )
        return self.splits[name]
