"""What the grid is filtered and sorted by: one split's images in arrays, made once per state of its files."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import streamlit as st

from sam3_lora.data.dataset import ImageRecord, Split

# name in the choice -> fewest and most objects of an image
COUNTS: dict[str, tuple[int, float]] = {
    "With objects": (1, np.inf),
    "Without objects": (0, 0),
    "One": (1, 1),
    "2 to 5": (2, 5),
    "6 to 20": (6, 20),
    "More than 20": (21, np.inf),
}
# COCO's bounds, as the side of a square of the box's area, in pixels of the image
SIZES: dict[str, tuple[float, float]] = {
    "Small, below 32 × 32 pixels": (0, 32),
    "Medium": (32, 96),
    "Large, above 96 × 96 pixels": (96, np.inf),
}
AS_IN_FILE = "As in the file"


@dataclass(frozen=True)
class Wanted:
    """What the grid shows. Empty and None mean all; images: file names of a finding's images."""

    categories: tuple[str, ...] = ()
    images: frozenset[str] | None = None
    text: str = ""
    count: str | None = None
    size: str | None = None
    sort: str = AS_IN_FILE

    @property
    def filters(self) -> bool:
        """Whether anything may be left out."""
        return self != Wanted(sort=self.sort)


class _Objects(NamedTuple):
    """All objects of a split, one entry each; crowds are among them."""

    image: np.ndarray  # (N,) position of its image
    category: np.ndarray  # (N,) position in SplitIndex.categories
    side: np.ndarray  # (N,) square root of its box's area, in pixels


class SplitIndex:
    """A split's images by position, by name and by what is in them."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.categories = tuple(split.categories)

    def __len__(self) -> int:
        return len(self.split.images)

    def record(self, position: int) -> ImageRecord:
        return self.split.images[position]

    @functools.cached_property
    def used_categories(self) -> tuple[str, ...]:
        """Those of the categories that an object or a crowd belongs to."""
        return tuple(self.categories[place] for place in np.unique(self.split.images.category_index))

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """What each image is called on the screen: its file name, with the id where that is not unique."""
        names = self.split.images.names
        often = Counter(names)
        return tuple(
            name if often[name] == 1 else f"{name} (id {self.record(position).id!r})"
            for position, name in enumerate(names)
        )

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Label -> position."""
        return {label: position for position, label in enumerate(self.labels)}

    def find(self, file_name: str) -> str | None:
        """The label of an image by its file name; None if it is not among those that could be read."""
        if file_name in self.positions:
            return file_name
        return next((label for label in self.labels if label.startswith(f"{file_name} (id ")), None)

    def select(self, wanted: Wanted) -> np.ndarray:
        """Positions (K,) of the images to show, in the order to show them in."""
        keep = np.ones(len(self), dtype=bool)
        if wanted.text:
            text = wanted.text.casefold()
            keep &= np.fromiter((text in name for name in self._folded), dtype=bool, count=len(self))
        if wanted.images is not None:
            names = self.split.images.names
            keep &= np.fromiter((name in wanted.images for name in names), dtype=bool, count=len(self))
        if wanted.categories or wanted.size:
            keep &= self._holds(wanted)
        if wanted.count:
            least, most = COUNTS[wanted.count]
            keep &= (self.num_objects >= least) & (self.num_objects <= most)
        found = np.flatnonzero(keep)
        key = SORTS[wanted.sort]
        return found if key is None else found[np.argsort(key(self)[found], kind="stable")]

    def _holds(self, wanted: Wanted) -> np.ndarray:
        """(len,) bool: whether an image holds an object of a wanted category and size."""
        objects = self._objects
        fits = np.ones(len(objects.image), dtype=bool)
        if wanted.categories:
            fits &= np.isin(objects.category, [self.categories.index(name) for name in wanted.categories])
        if wanted.size:
            least, most = SIZES[wanted.size]
            fits &= (objects.side >= least) & (objects.side < most)
        held = np.zeros(len(self), dtype=bool)
        held[objects.image[fits]] = True
        return held

    @functools.cached_property
    def num_objects(self) -> np.ndarray:
        """(len,) objects of each image."""
        return self.split.images.counts

    @functools.cached_property
    def _folded(self) -> list[str]:
        return [label.casefold() for label in self.labels]

    @functools.cached_property
    def _objects(self) -> _Objects:
        images = self.split.images
        return _Objects(images.image_index, images.category_index, np.sqrt(images.boxes_xywh[:, 2:].prod(axis=1)))

    def smallest(self) -> np.ndarray:
        """(len,) side of each image's smallest object; infinite without any."""
        sides = np.full(len(self), np.inf)
        np.minimum.at(sides, self._objects.image, self._objects.side)
        return sides

    def largest(self) -> np.ndarray:
        """(len,) side of each image's largest object; 0 without any."""
        sides = np.zeros(len(self))
        np.maximum.at(sides, self._objects.image, self._objects.side)
        return sides

    def by_name(self) -> np.ndarray:
        """(len,) place of each image in the order of the names."""
        places = np.empty(len(self), dtype=np.int64)
        places[sorted(range(len(self)), key=self.labels.__getitem__)] = np.arange(len(self))
        return places


SORTS: dict[str, Callable[[SplitIndex], np.ndarray] | None] = {
    AS_IN_FILE: None,
    "File name": SplitIndex.by_name,
    "Most objects first": lambda index: -index.num_objects,
    "Fewest objects first": lambda index: index.num_objects,
    "Smallest object first": SplitIndex.smallest,
    "Largest object first": lambda index: -index.largest(),
}


@st.cache_resource(max_entries=12, show_spinner=False)
def split_index(path: str, state: Sequence, name: str, _split: Split) -> SplitIndex:
    """The index of one split of the dataset at `path`; state: its fingerprint."""
    return SplitIndex(_split)
