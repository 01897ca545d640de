"""What a dataset is in memory: splits of images with their annotations, made from arrays when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import msgspec
import numpy as np

from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.index.gather import ALL, Box
from sam3_lora.data.index.index import Index
from sam3_lora.data.splits.names import spelling
from sam3_lora.errors import DataError
from sam3_lora.tiles import Window


@dataclass(slots=True)
class Annotation:
    """One usable object of an image.

    Attributes:
        id: as in the file.
        category: as written in the file.
        bbox_xywh: (left, top, width, height) in pixels of the size that the file gives the image; inside it, width
            and height above zero.
        stored_segmentation: the value of `segmentation`, or its JSON as bytes.
        iscrowd: a region of many objects, shown but never learned.
    """

    id: int | str
    category: str
    bbox_xywh: Box
    stored_segmentation: Any
    iscrowd: bool

    @property
    def has_segmentation(self) -> bool:
        """Whether there is one, found out without decoding it."""
        return self.stored_segmentation is not None

    @property
    def segmentation(self) -> Any:
        """As written in the file (see :func:`sam3_lora.masks.decode_segmentation`), or None without a usable one."""
        if not isinstance(self.stored_segmentation, bytes):
            return self.stored_segmentation
        try:
            return msgspec.json.decode(self.stored_segmentation)
        except (ValueError, RecursionError):  # cannot be, unless the disk fails
            raise DataError(f"The segmentation of annotation {self.id} is damaged", "Open the dataset again") from None


@dataclass(slots=True)
class ImageRecord:
    """One image as the annotation file describes it.

    Attributes:
        id, file_name: as in the file.
        path: where the image file is, or should be if `missing`.
        width, height: pixels.
        annotations: the usable ones, in the file's order.
        orientation: how the annotations were made where the size does not tell whether the EXIF orientation is to be
            applied: on the picture as "shown" or as "stored"; "" if nothing tells, so that it is applied.
        unusable_categories: categories that are in the image by annotations that cannot be used, so that they are no
            negative phrases for it.
        incomplete_categories: categories with objects that are not annotated.
        absent_categories: the categories that the file says are absent, where it lists them: of the others without an
            annotation, nothing is known then. None where it does not list them.
        ancestors: category -> the categories above it, nearest first; of all categories, not only those in the image.
        window: the part of the file's picture that the image is, see :mod:`sam3_lora.data.tiles`; None: all of it.
    """

    id: int | str
    file_name: str
    path: Path
    width: int
    height: int
    annotations: tuple[Annotation, ...]
    unusable_categories: frozenset[str] = frozenset()
    missing: bool = False
    orientation: str = ""
    incomplete_categories: frozenset[str] = frozenset()
    absent_categories: frozenset[str] | None = None
    ancestors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    window: Window | None = None


class ImageTable(Sequence[ImageRecord]):
    """The images of a split. A record is made whenever it is read; a slice is a table again.

    The columns (names, sizes_wh, boxes_xywh, ...) describe all images at once, without making any record.

    Args:
        index: of the whole split.
        folder: that the paths of the images count from.
        rows: the images of the split that the table holds, int (N,); None: all.

    Attributes:
        categories: names, which `category_index` points into.
        ancestors: category -> the categories above it, nearest first.
        split_index, rows: the index of the whole split, and the places of the images in it, int64 (N,).
    """

    def __init__(self, index: Index, folder: Path, rows: np.ndarray | None = None) -> None:
        self._index, self._folder = index, folder
        self._rows = np.arange(len(index.words["file_names"])) if rows is None else rows
        self.split_index, self.rows = self._index, self._rows
        self.categories: tuple[str, ...] = tuple(index.words["categories"])
        self.ancestors: Mapping[str, Sequence[str]] = index.words["ancestors"]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, place: slice) -> ImageTable: ...
    def __getitem__(self, place: int | slice) -> ImageRecord | ImageTable:
        if isinstance(place, slice):
            return ImageTable(self._index, self._folder, self._rows[place])
        return self._record(int(self._rows[place]))

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(self._record, self._rows.tolist())

    def take(self, places: np.ndarray) -> ImageTable:
        """The images at these places (int array or bool mask)."""
        return ImageTable(self._index, self._folder, self._rows[places])

    @property
    def names(self) -> list[str]:
        """File names, N of them."""
        names = self._index.words["file_names"]
        return [names[row] for row in self._rows.tolist()]

    @property
    def paths(self) -> list[Path]:
        """Where the image files are, or should be; N of them."""
        return [self._path(row) for row in self._rows.tolist()]

    @property
    def sizes_wh(self) -> np.ndarray:
        """Width and height in pixels, int64 (N, 2)."""
        return _at(self._index.arrays["sizes_wh"], self._rows)

    @property
    def missing(self) -> np.ndarray:
        """Whether the image file is missing, bool (N,)."""
        return _at(self._index.arrays["missing"], self._rows)

    @property
    def unknown(self) -> np.ndarray:
        """Whether nothing is known of an image, bool (N,): the file lists what is absent, but nothing for this one, and
        no object is annotated."""
        arrays = self._index.arrays
        if "absent_listed" not in arrays:
            return np.zeros(len(self), bool)
        objects = np.bincount(self.image_index[~self.iscrowd], minlength=len(self))
        empty = arrays["absent_listed"] & (np.diff(arrays["absent_first"]) == 0)
        unknown: np.ndarray = empty[self._rows] & (objects == 0)
        return unknown

    @property
    def counts(self) -> np.ndarray:
        """Usable annotations, int64 (N,)."""
        return _at(np.diff(self._index.arrays["first"]), self._rows)

    @property
    def category_index(self) -> np.ndarray:
        """Of all annotations, image by image: the category, int32 (A,), into `categories`."""
        return _at(self._index.arrays["category"], self._annotation_rows())

    @property
    def boxes_xywh(self) -> np.ndarray:
        """Of all annotations, image by image: (left, top, width, height) in pixels, float64 (A, 4)."""
        return _at(self._index.arrays["boxes_xywh"], self._annotation_rows())

    @property
    def iscrowd(self) -> np.ndarray:
        """Of all annotations, image by image: whether it is a region of many objects, bool (A,)."""
        return _at(self._index.arrays["iscrowd"], self._annotation_rows())

    @property
    def has_segmentation(self) -> np.ndarray:
        """Of all annotations, image by image: whether it has a usable segmentation, bool (A,)."""
        return _at(self._index.arrays["text_length"] > 0, self._annotation_rows())

    @property
    def image_index(self) -> np.ndarray:
        """Of all annotations, image by image: the place of the image in this table, int64 (A,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def categories_used(self) -> set[str]:
        """The categories with an annotation in any of these images, crowds and unusable ones included."""
        used = {self.categories[number] for number in np.unique(self.category_index).tolist()}
        rows = set(self._rows.tolist())
        return used.union(*(names for row, names in self._index.words["unusable"].items() if int(row) in rows))

    def with_categories(self, names: set[str]) -> ImageTable:
        """The images with an annotation of one of these categories."""
        wanted = [number for number, name in enumerate(self.categories) if name in names]
        return self.take(np.unique(self.image_index[np.isin(self.category_index, wanted)]))

    def categories_absent(self) -> set[str]:
        """The categories that the file lists as absent in some image of the split."""
        listed = self._index.arrays.get("absent", ())
        return {self.categories[number] for number in np.unique(listed).tolist()}

    def _annotation_rows(self) -> np.ndarray | slice:
        first = self._index.arrays["first"]
        if len(self._rows) == len(first) - 1 and np.array_equal(self._rows, np.arange(len(first) - 1)):
            return slice(None)
        counts = self.counts
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: np.ndarray = np.repeat(first[self._rows], counts) + offsets
        return rows

    def _path(self, row: int) -> Path:
        words = self._index.words
        return Path(self._folder, words["paths"].get(str(row), words["file_names"][row]))

    def _record(self, row: int) -> ImageRecord:
        words, arrays = self._index.words, self._index.arrays
        width, height = arrays["sizes_wh"][row].tolist()
        return ImageRecord(
            words["image_ids"][row],
            words["file_names"][row],
            self._path(row),
            width,
            height,
            self._annotations(row),
            frozenset(words["unusable"].get(str(row), ())),
            bool(arrays["missing"][row]),
            words["orientation"],
            frozenset(self._listed("incomplete", row)),
            frozenset(self._listed("absent", row)) if "absent" in arrays and arrays["absent_listed"][row] else None,
            self.ancestors,
        )

    def _listed(self, name: str, row: int) -> Sequence[str]:
        """The categories that the file lists for an image as "absent" or "incomplete"."""
        arrays = self._index.arrays
        if name not in arrays:
            return ()
        start, stop = arrays[f"{name}_first"][row : row + 2].tolist()
        numbers = arrays[name][start:stop].tolist()
        return self.categories if ALL in numbers else [self.categories[number] for number in numbers]

    def _annotations(self, row: int) -> tuple[Annotation, ...]:
        arrays, text = self._index.arrays, self._index.text
        start, stop = arrays["first"][row : row + 2].tolist()
        ids = self._index.words["annotation_ids"]
        keys = arrays["annotation_ids"][start:stop].tolist() if ids is None else ids[start:stop]
        names = ("category", "boxes_xywh", "text_start", "text_length", "iscrowd")
        columns = (arrays[name][start:stop].tolist() for name in names)
        return tuple(
            Annotation(
                key, self.categories[category], tuple(box), bytes(text[at : at + length]) if length else None, crowd
            )
            for key, category, box, at, length, crowd in zip(keys, *columns, strict=True)
        )


def _at(values: np.ndarray, places: np.ndarray | slice) -> np.ndarray:
    chosen: np.ndarray = values[places]
    return chosen


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a dataset.

    Attributes:
        name: as its folder or file is called.
        json_path: its annotation file, or the folder of its annotation files.
        images: with their annotations.
        categories: in the file's order, each once.
        edits: a digest of the edits that it was opened with; "" without any.
    """

    name: str
    json_path: Path
    images: ImageTable
    categories: tuple[str, ...]
    edits: str = ""

    @property
    def num_objects(self) -> int:
        """Objects to learn from: usable annotations, crowds left out."""
        return int((~self.images.iscrowd).sum())

    @property
    def has_masks(self) -> bool:
        """Whether any object to learn from has a segmentation."""
        return bool((self.images.has_segmentation & ~self.images.iscrowd).any())

    def present(self) -> Split:
        """The split without the images whose file is missing, or of which nothing is known (`ImageTable.unknown`)."""
        return replace(self, images=self.images.take(~self.images.missing & ~self.images.unknown))

    @property
    def prompt_categories(self) -> tuple[str, ...]:
        """The categories that images are prompted with, see :func:`prompted`."""
        return prompted(self.categories, [self])

    def objects_per_category(self) -> dict[str, int]:
        """Objects to learn from, by category; every category of the file is there, if only with 0."""
        return self._per_category(~self.images.iscrowd)

    @property
    def num_crowds(self) -> int:
        """Annotations that are regions of many objects: shown, but not learned."""
        return int(self.images.iscrowd.sum())

    def crowds_per_category(self) -> dict[str, int]:
        """Crowd regions by category; every category of the file is there, if only with 0."""
        return self._per_category(self.images.iscrowd)

    def _per_category(self, chosen: np.ndarray) -> dict[str, int]:
        counts = np.bincount(self.images.category_index[chosen], minlength=len(self.categories))
        return dict(zip(self.categories, counts.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and everything found wrong with it.

    Attributes:
        root: its folder.
        format: in words.
        splits: by name, in the usual order.
        categories: of all splits, each once.
        findings: by severity.
    """

    root: Path
    format: str
    splits: dict[str, Split]
    categories: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def prompt_categories(self) -> tuple[str, ...]:
        """The categories that images are prompted with, see :func:`prompted`."""
        return prompted(self.categories, self.splits.values())

    @property
    def ancestors(self) -> dict[str, Sequence[str]]:
        """Category -> the categories above it (supercategory), nearest first; only of those that have any."""
        return {
            name: above for split in self.splits.values() for name, above in split.images.ancestors.items() if above
        }

    def split(self, name: str, setting: str = "") -> Split:
        """A split by its name.

        Args:
            name: of the split.
            setting: that gave the name, for the error.

        Raises:
            DataError: there is no such split; it lists those there are.
        """
        if name not in self.splits:
            raise DataError(
                f"Expected a split '{name}' in {self.root}, but its splits are {', '.join(self.splits)}",
                self.split_fix(name, setting) or "Choose one of these",
            )
        return self.splits[name]

    def split_fix(self, name: str, setting: str = "") -> str:
        """What to give instead of `name` if exactly one split differs from it in case, or as val and valid do.

        Args:
            name: that no split has.
            setting: that gave the name, or "".
        """
        alike = [split for split in self.splits if spelling(split) == spelling(name)]
        return (f"Set {setting} to '{alike[0]}'" if setting else f"Give '{alike[0]}'") if len(alike) == 1 else ""


def prompted(categories: Iterable[str], splits: Iterable[Split]) -> tuple[str, ...]:
    """Categories without those that are only the supercategory of others and have no annotation of their own.

    Roboflow writes such a category, named after the project. As a negative phrase it would be wrong wherever one of
    the others is, and in images without objects it would teach nothing about them.

    Args:
        categories: names.
        splits: that they are of.
    """
    tables = [split.images for split in splits]
    above = {name for table in tables for ancestors in table.ancestors.values() for name in ancestors}
    if above:
        above -= set().union(*(table.categories_used() for table in tables))
    return tuple(category for category in categories if category not in above)
