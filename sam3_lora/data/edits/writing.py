"""Writes a dataset as it was opened, edits applied, as COCO in Roboflow's layout: a folder per split."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sam3_lora.data.doctor.objects import shape_of
from sam3_lora.data.folders import ANNOTATION_FILE
from sam3_lora.data.records import Annotation, Dataset, ImageRecord, Split
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import atomic_folder

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')
_FIX = "Choose another folder, on a disk with enough space"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        folder: the dataset.
        images, objects: how many; crowd regions are among the objects.
        missing: (split, file name) of the images that are not in it, because their file is missing.
    """

    folder: Path
    images: int
    objects: int
    missing: tuple[tuple[str, str], ...]


def write_dataset(
    dataset: Dataset,
    out: Path,
    *,
    others: Sequence[Dataset] = (),
    link: bool = False,
    progress: Callable[[float, str], None] | None = None,
) -> Written:
    """Writes a new dataset, without splits that have no image; the datasets themselves are only read.

    The folder appears whole or not at all. Of several datasets, splits and categories of the same name become one. What
    only one of them annotates may be in the images of the others, too: there it is neither object nor negative.

    Args:
        dataset: as opened, with its edits.
        out: the folder to write; new, or empty.
        others: datasets that are merged with it.
        link: whether to make hard links instead of copies of the image files, which take no space. Readers, this app
            included, do not follow symbolic links that lead out of a dataset's folder.
        progress: called with the share of the images that are done, in [0, 1], and the current step.

    Raises:
        DataError: `out` is not new or empty, is inside the dataset or around it, or cannot be written; an image file
            cannot be read; or there is none.
    """
    out = Path(os.path.abspath(out))
    datasets = (dataset, *others)
    splits: dict[str, list[_Part]] = {}
    for one in datasets:
        check_place(one.root, out)
        for name, split in one.splits.items():
            if not split.images.missing.all():
                splits.setdefault(name, []).append(_Part(one, split))
    if not splits:
        raise DataError("There is no image to write: none is left, or all files are missing", "Undo some edits")
    total, done = sum(len(part.split.images) for parts in splits.values() for part in parts), 0
    names = dict.fromkeys(name for one in datasets for name in one.categories)
    ids = {name: number for number, name in enumerate(names, start=1)}
    folders, writers = _names_of(splits), list[_SplitWriter]()
    with explain_os_errors(DataError, f"The dataset cannot be written to {out}", _FIX):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out) as work:
            for name, parts in splits.items():
                writers.append(_SplitWriter(name, parts, work / folders[name], ids, link=link))
                for _ in writers[-1].write():
                    done += 1
                    if progress is not None:
                        progress(done / total, f"Writing {name}")
    return Written(
        out,
        sum(writer.images for writer in writers),
        sum(writer.objects for writer in writers),
        tuple((writer.name, name) for writer in writers for name in writer.missing),
    )


def check_place(root: Path, out: Path) -> None:
    """Raises DataError unless a folder is new or empty, and neither inside a dataset nor around it.

    Args:
        root: the dataset's folder.
        out: the folder to write.
    """
    dataset, new = Path(os.path.realpath(root)), Path(os.path.realpath(out))
    if new.is_relative_to(dataset) or dataset.is_relative_to(new):
        raise DataError(
            f"Expected a folder beside the dataset, but {out} is inside {root} or around it", "Give another"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"Expected a new or an empty folder for the dataset, but {out} is not empty", "Give another folder"
        )


def _names_of(splits: Iterable[str]) -> dict[str, str]:
    """Names of folders for splits, which differ on every system."""
    taken: set[str] = set()
    return {name: _free(_UNSAFE.sub("_", name).strip(". ") or "split", taken) for name in splits}


def _free(name: str, taken: set[str]) -> str:
    """A name that is not taken, also where upper and lower case are the same; takes it."""
    stem, ending = os.path.splitext(name)
    stem, number, found = stem.encode("utf-8", "replace")[:150].decode("utf-8", "ignore"), 1, ""
    while not found or found.casefold() in taken:
        found = f"{stem}-{number}{ending}" if number > 1 else f"{stem}{ending}"
        number += 1
    taken.add(found.casefold())
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """A split of one of the datasets."""

    dataset: Dataset
    split: Split


class _SplitWriter:
    """One split in progress.

    Attributes:
        name: of the split.
        images, objects: written so far.
        missing: file names of the images whose file is missing.
    """

    def __init__(
        self, name: str, parts: list[_Part], folder: Path, category_ids: dict[str, int], *, link: bool
    ) -> None:
        self.name, self._parts = name, parts
        self._folder, self._category_ids, self._link = folder, category_ids, link
        self.images = self.objects = 0
        self.missing: list[str] = []

    def write(self) -> Iterator[None]:
        """Writes images and annotation file in one go; yields after each image."""
        self._folder.mkdir()
        info = {"description": f"{' and '.join(part.dataset.root.name for part in self._parts)}, edited"}
        head = {"info": info, "licenses": [], "categories": self._categories()}
        entries: list[bytes] = []
        taken = {ANNOTATION_FILE}
        with open(self._folder / ANNOTATION_FILE, "wb") as file:
            file.write(msgspec.json.encode(head)[:-1] + b',"annotations":[')
            for part in self._parts:
                unknown = frozenset(self._category_ids).difference(part.dataset.categories)
                for record in part.split.images:
                    if record.missing:
                        self.missing.append(record.file_name)
                    else:
                        name = _free(_base_name(record), taken)
                        self._put(record.path, self._folder / name)
                        self.images += 1
                        entries.append(msgspec.json.encode(self._image_entry(record, name, unknown)))
                        for item in record.annotations:
                            self.objects += 1
                            entry = msgspec.json.encode(self._annotation_entry(item, record))
                            file.write((b",\n" if self.objects > 1 else b"\n") + entry)
                    yield
            file.write(b'],"images":[\n' + b",\n".join(entries) + b"]}\n")

    def _put(self, source: Path, target: Path) -> None:
        if self._link:
            try:
                os.link(os.path.realpath(source), target)
            except OSError as error:
                raise DataError(
                    f"The image {source} cannot be linked: {error.strerror or error}",
                    "Let the images be copied (without --link)",
                ) from error
        else:
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                if error.filename == str(source):
                    raise DataError(
                        f"The image {source} cannot be read: {error.strerror}",
                        "Exclude it (finding image-unreadable), or make it readable",
                    ) from error
                raise

    def _categories(self) -> list[dict[str, Any]]:
        above: dict[str, Sequence[str]] = {}
        for part in reversed(self._parts):
            above.update(part.dataset.ancestors)
        return [
            {"id": number, "name": name, "supercategory": above[name][0] if above.get(name) else "none"}
            for name, number in self._category_ids.items()
        ]

    def _image_entry(self, record: ImageRecord, name: str, unknown: frozenset[str]) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": self.images, "file_name": name, "width": record.width, "height": record.height}
        for key, names in (
            ("neg_category_ids", record.absent_categories),
            ("not_exhaustive_category_ids", record.incomplete_categories | unknown or None),
            ("pos_category_ids", record.unusable_categories or None),
        ):
            if names is not None:
                entry[key] = sorted(self._category_ids[one] for one in names if one in self._category_ids)
        return entry

    def _annotation_entry(self, item: Annotation, record: ImageRecord) -> dict[str, Any]:
        stored = item.stored_segmentation
        return {
            "id": self.objects,
            "image_id": self.images,
            "category_id": self._category_ids[item.category],
            "bbox": item.bbox_xywh,
            "area": _area(item, record),
            "segmentation": [] if stored is None else msgspec.Raw(stored),
            "iscrowd": int(item.iscrowd),
        }


def _base_name(record: ImageRecord) -> str:
    """The name of an image's file without folders, as every system takes it."""
    base = record.file_name.replace("\\", "/").rpartition("/")[2]
    return _UNSAFE.sub("_", base).strip(" ") or f"image{record.path.suffix}"


def _area(item: Annotation, record: ImageRecord) -> float:
    """Pixels of the mask, or of the box where there is none."""
    if item.has_segmentation:
        with suppress(DataError):  # not every mask was checked number by number when the dataset was opened
            return float(shape_of(item.segmentation, (record.height, record.width)).area)
    return item.bbox_xywh[2] * item.bbox_xywh[3]
