"""Filters and sort orders of the image grid: the images of a split as arrays, cached per state of its files."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from sam3_lora.data.dataset import ImageRecord, Split

# option -> min. and max. number of objects in an image
COUNTS: dict[str, tuple[int, float]] = {
    "With objects": (1, np.inf),
    "Without objects": (0, 0),
    "One": (1, 1),
    "2 to 5": (2, 5),
    "6 to 20": (6, 20),
    "More than 20": (21, np.inf),
}
# option -> range of the square root of the box area, in pixels of the image; the bounds are COCO's
SIZES: dict[str, tuple[float, float]] = {
    "Small, below 32 × 32 pixels": (0, 32),
    "Medium": (32, 96),
    "Large, above 96 × 96 pixels": (96, np.inf),
}
AS_IN_FILE = "As in the file"


@dataclass(frozen=True)
class ImageFilter:
    """Which images the grid shows, and in which order; the defaults keep all."""

    categories: tuple[str, ...] = ()  # an object of any of these
    images: frozenset[str] | None = None  # file names, of a finding
    text: str = ""  # part of the file name
    count: str | None = None  # a key of COUNTS
    size: str | None = None  # a key of SIZES
    sort: str = AS_IN_FILE  # a key of SORTS

    @property
    def filters(self) -> bool:
        """Whether it may leave images out."""
        return self != ImageFilter(sort=self.sort)


class SplitIndex:
    """The images of a split by position, by name and by their objects."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.categories = tuple(split.categories)

    def __len__(self) -> int:
        return len(self.split.images)

    def record(self, position: int) -> ImageRecord:
        """The image at a position."""
        return self.split.images[position]

    @functools.cached_property
    def used_categories(self) -> tuple[str, ...]:
        """The categories with objects or crowds."""
        return tuple(self.categories[place] for place in np.unique(self.split.images.category_index))

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The name of each image on the page: its file name, with its id if that is not unique."""
        names = self.split.images.names
        return tuple(
            name if self._entries[name] == 1 else f"{name} (id {self.record(position).id!r})"
            for position, name in enumerate(names)
        )

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Label -> position."""
        return {label: position for position, label in enumerate(self.labels)}

    def find(self, file_name: str) -> str | None:
        """The label of an image by its file name; None if it could not be read."""
        if file_name in self.positions:
            return file_name
        return next((label for label in self.labels if label.startswith(f"{file_name} (id ")), None)

    def count(self, file_names: Iterable[str]) -> int:
        """How many images have one of these file names; none has that of an image that is left out."""
        return sum(self._entries[name] for name in file_names)

    @functools.cached_property
    def _entries(self) -> Counter[str]:
        """File name -> number of images."""
        return Counter(self.split.images.names)

    def select(self, image_filter: ImageFilter) -> np.ndarray:
        """(K,) int positions of the images that pass a filter, in its sort order."""
        keep = np.ones(len(self), dtype=bool)
        if image_filter.text:
            text = image_filter.text.casefold()
            keep &= np.fromiter((text in name for name in self._folded), dtype=bool, count=len(self))
        if image_filter.images is not None:
            names = self.split.images.names
            keep &= np.fromiter((name in image_filter.images for name in names), dtype=bool, count=len(self))
        if image_filter.categories or image_filter.size:
            keep &= self._has_object(image_filter)
        if image_filter.count:
            low, high = COUNTS[image_filter.count]
            keep &= (self.num_objects >= low) & (self.num_objects <= high)
        found = np.flatnonzero(keep)
        key = SORTS[image_filter.sort]
        return found if key is None else found[np.argsort(key(self)[found], kind="stable")]

    def _has_object(self, image_filter: ImageFilter) -> np.ndarray:
        """(len,) bool: whether an image has an object of the filter's categories and size."""
        images = self.split.images
        fits = np.ones(len(images.image_index), dtype=bool)
        if image_filter.categories:
            fits &= np.isin(images.category_index, [self.categories.index(name) for name in image_filter.categories])
        if image_filter.size:
            low, high = SIZES[image_filter.size]
            fits &= (self._sides >= low) & (self._sides < high)
        has_object = np.zeros(len(self), dtype=bool)
        has_object[images.image_index[fits]] = True
        return has_object

    @functools.cached_property
    def num_objects(self) -> np.ndarray:
        """(len,) int: number of objects of each image, crowds left out."""
        images = self.split.images
        return np.bincount(images.image_index[~images.iscrowd], minlength=len(images))

    @functools.cached_property
    def _folded(self) -> list[str]:
        return [label.casefold() for label in self.labels]

    @functools.cached_property
    def _sides(self) -> np.ndarray:
        """(N,) square root of each object's box area, in pixels; crowds included."""
        return np.sqrt(self.split.images.boxes_xywh[:, 2:].prod(axis=1))

    def extreme_sides(self, extreme: np.ufunc, without: float) -> np.ndarray:
        """(len,) float: side of each image's smallest or largest object, in pixels.

        Args:
            extreme: np.minimum or np.maximum.
            without: the value of images without objects.
        """
        sides = np.full(len(self), without)
        extreme.at(sides, self.split.images.image_index, self._sides)
        return sides


SORTS: dict[str, Callable[[SplitIndex], np.ndarray] | None] = {
    AS_IN_FILE: None,
    "File name": lambda index: np.array(index.labels, dtype=object),
    "Most objects first": lambda index: -index.num_objects,
    "Fewest objects first": lambda index: index.num_objects,
    "Smallest object first": lambda index: index.extreme_sides(np.minimum, np.inf),
    "Largest object first": lambda index: -index.extreme_sides(np.maximum, 0.0),
}


@st.cache_resource(max_entries=12, show_spinner=False)
def split_index(state: Sequence, name: str, _split: Split) -> SplitIndex:
    """The index of a split.

    Args:
        state: fingerprint of the dataset; with the name the cache's key.
        name: of the split.
    """
    return SplitIndex(_split)
