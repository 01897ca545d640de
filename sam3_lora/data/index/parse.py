"""Reads one split's entries, whatever format they came from; every fault in them becomes a finding."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sam3_lora.data.findings.causes import copy_words, note_no_images, note_no_objects, path_words, word_by_cause
from sam3_lora.data.findings.findings import Finding, FindingCollector, shown
from sam3_lora.data.findings.wrong_keys import annotations_elsewhere, masks_elsewhere, wrong_keys
from sam3_lora.data.folders import ImageFiles
from sam3_lora.data.formats.coco import AnnotationEntry, ImageEntry
from sam3_lora.data.formats.sources import Content, Source, Unusable
from sam3_lora.data.formats.unsupported import other_task
from sam3_lora.data.images import size_fault, size_on_disk
from sam3_lora.data.index.annotations import BoxReader, are_plain_polygons, segmentation_fault
from sam3_lora.data.index.cache import Watched, index_of, new_token
from sam3_lora.data.index.gather import Annotations, GatheredImage, image_words
from sam3_lora.data.index.index import IndexWriter
from sam3_lora.data.records import ImageTable, Split
from sam3_lora.errors import DataError
from sam3_lora.text import plural, valid_text

MAX_PIXELS = 2**28  # of an image: more is no image but a slip, and would exhaust the memory as a mask
MAX_IMAGES, MAX_ANNOTATIONS = 2_000_000, 20_000_000  # so that no file can exhaust the memory
PROBES = 16  # images per split whose file is looked into; faults of size mostly hit a whole split
THOROUGH = 5_000  # segmentations per split that are looked at number by number; of the others, only types and sizes

Progress = Callable[[float], None]


def read_split(source: Source, root: Path, progress: Progress = lambda share: None) -> tuple[Split, list[Finding]]:
    """One split of the dataset in `root`, from its index if there is one that holds.

    Raises:
        DataError: the annotations cannot be read, or are none.
    """
    index = index_of(_key(source, root), lambda writer: _build(source, writer, progress), keep=source.large)
    folder = source.path if source.path.is_dir() else source.path.parent
    images = ImageTable(index, folder)
    findings = msgspec.convert(index.words["findings"], list[Finding])
    return Split(source.name, source.path, images, images.categories), findings


def _key(source: Source, root: Path) -> str:
    places = [str(path.absolute()) for path in (root, source.path)]
    return repr((source.name, places, sorted(source.options.items())))


def _build(source: Source, writer: IndexWriter, progress: Progress) -> None:
    watched = Watched()
    for path in source.inputs:
        watched.add(path)
    faults = FindingCollector(source.name, wordings=source.wordings)
    content = source.open(faults, watched.add)
    files = source.files()
    for folder in files.listed:
        watched.add(folder)
    files.before_listing = watched.add
    reader = _Reader(faults, files, writer, source.path if source.path.is_dir() else source.path.parent, watched)
    reader.read_categories(content.categories())
    for entries in content.images(lambda share: progress(0.2 * share)):
        reader.read_images(entries)
    reader.read_annotations(content, lambda share: progress(0.2 + 0.8 * share))
    reader.finish(content.looked_into)


class _Reader:
    def __init__(
        self, faults: FindingCollector, files: ImageFiles, writer: IndexWriter, folder: Path, watched: Watched
    ) -> None:
        self.faults = faults
        self._writer, self._folder, self._watched = writer, folder, watched
        self._categories: dict[str, int] = {}  # names in the file's order, with their place in it
        self._names: dict[int | str, str] = {}
        self._numbers: dict[int | str, int] = {}  # places of the categories that are nobody else's
        self._shared_categories: dict[int | str, set[str]] = {}
        self._images: dict[int | str, GatheredImage | None] = {}  # None: known, but left out
        self._file_names: set[str] = set()
        self._files = files
        self._boxes = BoxReader(self.faults)
        self._annotations = Annotations(writer)
        self._ids: set[int | str] = set()
        self._probed = 0
        self._segmentations = 0
        self._position = -1
        self._reason = ""  # why there are no objects, if the list itself is the reason
        self._repeated = 0  # entries of images that repeat another one in id and file
        self._empty = True  # the list of images
        self._misnamed: list[str] = []  # files that are there, but not under the path that the file gives

    def read_categories(self, entries: Any) -> None:
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            key = _identifier(entry.get("id")) if isinstance(entry, dict) else None
            name = str(name) if type(name) is int and abs(name) < 2**63 else name
            if key is None or not isinstance(name, str) or not any(map(str.isalnum, name)):
                self.faults.add("bad-category", value=entry)
                continue
            name = valid_text(name)
            number = self._categories.setdefault(name, len(self._categories))
            known = self._names.setdefault(key, name)
            if known == name:
                self._numbers[key] = number
            else:
                self._numbers.pop(key, None)
                self._shared_categories.setdefault(key, {known}).add(name)
                self.faults.add("duplicate-category-id", detail=f"id {key} of {shown(known)} and {shown(name)}")

    def read_images(self, entries: list[Any]) -> None:
        self._empty = self._empty and not entries
        for entry in entries:
            if type(entry) is ImageEntry:
                key, file_name = _identifier(entry.id), entry.file_name
            else:
                key = _identifier(entry.get("id")) if isinstance(entry, dict) else None
                file_name = _file_name(entry) if isinstance(entry, dict) else None
            if key is None or not isinstance(file_name, str) or not file_name.strip():
                self.faults.add("bad-image", value=_plain(entry))
                if key is not None:
                    self._images.setdefault(key, None)
                continue
            file_name = valid_text(file_name)
            again = file_name in self._file_names
            self._file_names.add(file_name)
            if again:
                self.faults.add("duplicate-file", file_name)
            if key not in self._images:
                self._images[key] = self._image(key, file_name, _plain(entry))
            elif not (again and self._images[key] and self._images[key].file_name == file_name):
                self.faults.add("duplicate-image-id", file_name, detail=f"id {key}")
                if self._images[key]:
                    self._images[key].left_out = True
            else:
                self._repeated += 1
        _limit("images", len(self._images), MAX_IMAGES)

    def _image(self, key: int | str, file_name: str, entry: dict[str, Any]) -> GatheredImage | None:
        found = self._files.find(file_name)
        if found is None:
            self.faults.add("path-outside-dataset", file_name)
            name = posixpath.basename(file_name.replace("\\", "/"))
            if (beside := self._files.find(name)) and beside[1]:
                self._misnamed.append(name)
            return None
        path, exists = found
        if path.endswith("/"):
            self.faults.add("link-outside-dataset", file_name)
            return None
        if not exists:
            near = self._files.near(file_name)
            self.faults.add("image-missing", file_name, detail=f"but {shown(near)} is there" if near else "")
        image = GatheredImage(len(self._images), key, file_name, path, not exists)
        image.width, image.height = _side(entry.get("width")), _side(entry.get("height"))
        if 0 < image.width * image.height <= MAX_PIXELS:
            return image
        self.faults.add(
            "bad-image-size", file_name, detail=f"{shown(entry.get('width'))} x {shown(entry.get('height'))}"
        )
        on_disk = self._size_on_disk(path) if exists else None
        if on_disk is None or on_disk[0][0] * on_disk[0][1] > MAX_PIXELS:
            if exists:
                self._probed += 1
                self.faults.add("image-unreadable", file_name)
            return None
        (image.width, image.height), _ = on_disk
        return image

    def _size_on_disk(self, path: str) -> tuple[tuple[int, int], bool] | None:
        self._watched.add(self._folder / path)
        return size_on_disk(self._folder / path)

    def read_annotations(self, content: Content, progress: Progress) -> None:
        for entries in content.annotations(progress):
            for entry in entries:
                self._position += 1
                if type(entry) is AnnotationEntry:
                    if not self._read_plain(entry):
                        self._read_any(_plain(entry))
                elif type(entry) is Unusable:
                    self._note_unusable(entry)
                else:
                    self._read_any(entry)
            _limit("annotations", self._position, MAX_ANNOTATIONS)
        if self._position >= 0 and not self._annotations.ids and (task := other_task(content.sketch())):
            raise DataError(
                f"The annotations of '{self.faults.split}' are {task}",
                "Open the file of COCO's instances (such as instances_train2017.json) instead",
            )
        if self._position < 0 and (sketch := content.sketch()):
            elsewhere = annotations_elsewhere(sketch)
            if elsewhere:
                self.faults.add("annotations-wrong-key")
                self.faults.facts["keys"] = elsewhere
            absent = sketch.get("annotations") is None
            self._reason = f"the keys of the file are {shown(list(sketch))}" if absent else "the list is empty"
        elif self._annotations.ids and not any(self._annotations.lengths):
            keys = masks_elsewhere(content.sketch().get("annotations"))
            if keys:
                self.faults.add("masks-wrong-key")
                self.faults.facts["mask_keys"] = valid_text(keys)

    def _read_plain(self, entry: AnnotationEntry) -> bool:
        """Reads an annotation that is in no way odd, fast; says whether it was."""
        image = self._images.get(entry.image_id)
        number = self._numbers.get(entry.category_id)
        key, text, crowd = entry.id, bytes(entry.segmentation), entry.iscrowd
        if image is None or image.left_out or number is None or type(key) is not int or key in self._ids:
            return False
        x, y, w, h = entry.bbox
        if not (w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= image.width and y + h <= image.height):
            return False
        if (w <= 1 and h <= 1 and x <= 1 and y <= 1) or crowd not in (0, 1) or not -(2**63) <= key < 2**63:
            return False
        if text:
            if self._segmentations < THOROUGH or not are_plain_polygons(text):
                return False
            self._segmentations += 1
        self._ids.add(key)
        self._boxes.seen += 1
        self._annotations.add(key, image.row, number, (x, y, w, h), text, bool(crowd))
        return True

    def _note_unusable(self, entry: Unusable) -> None:
        image = self._images.get(entry.image_id)
        if image is not None:
            image.left_out |= entry.whole_image
            category = self._names.get(entry.category_id)
            image.cannot_use({category} if category is not None else set(self._categories))

    def _read_any(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            self.faults.add("bad-annotation", annotation=self._position, value=entry)
            return
        self._read_annotation(entry, self._annotation_id(entry))

    def _annotation_id(self, entry: dict[str, Any]) -> int | str:
        key = _identifier(entry.get("id"))
        if key is None:
            self.faults.add("annotation-without-id", annotation=self._position)
            return self._position
        if key in self._ids:
            self.faults.add("duplicate-annotation-id", annotation=key)
        self._ids.add(key)
        return key

    def _read_annotation(self, entry: dict[str, Any], key: int | str) -> None:
        image = self._image_of(entry, key)
        if image is None:
            return
        category = self._category_of(entry, image, key)
        if category is None:
            return
        bbox, segmentation = entry.get("bbox"), entry.get("segmentation") or None
        text = b""
        if segmentation is not None:
            segmentation, text = self._checked(segmentation, image, key)
        elif bbox is None and (keys := wrong_keys(entry)):
            self.faults.add("annotations-wrong-key", image.file_name, key)
            self.faults.facts.setdefault("keys", f"{valid_text(keys)} in their entries")
            image.cannot_use({category})
            return
        box = self._boxes.read(bbox, segmentation, image, key)
        if box is None:
            image.cannot_use({category})
            return
        crowd = self._is_crowd(entry, image, key)
        number, alone = self._categories[category], bool(entry.get("segmentation")) and not text
        self._annotations.add(key, image.row, number, box, text, crowd, alone=alone)

    def _image_of(self, entry: dict, key: int | str) -> GatheredImage | None:
        try:
            image = self._images[entry.get("image_id")]
        except (KeyError, TypeError):  # TypeError: a list or an object as id
            self.faults.add("unknown-image", annotation=key, detail=f"image_id {shown(entry.get('image_id'))}")
            return None
        return None if image is None or image.left_out else image

    def _category_of(self, entry: dict, image: GatheredImage, key: int | str) -> str | None:
        number = entry.get("category_id")
        try:
            category = self._names[number]
        except (KeyError, TypeError):
            self.faults.add("unknown-category", image.file_name, key, f"category_id {shown(number)}")
            image.cannot_use(set(self._categories))  # it may be any of them
            return None
        if number in self._shared_categories:
            image.cannot_use(self._shared_categories[number])
            return None
        return category

    def _checked(self, segmentation: Any, image: GatheredImage, key: int | str) -> tuple[Any, bytes]:
        """A segmentation and its JSON; None and nothing if it cannot be used."""
        self._segmentations += 1
        thorough = self._segmentations <= THOROUGH
        fault = segmentation_fault(segmentation, image.width, image.height, thorough=thorough)
        text = b""
        if not fault:
            try:
                text = msgspec.json.encode(segmentation)
            except (msgspec.MsgspecError, OverflowError, TypeError, ValueError, RecursionError):
                fault = "something else than polygons or run lengths"
        if fault:
            self.faults.add("bad-segmentation", image.file_name, key, fault)
            return None, b""
        return segmentation, text

    def _is_crowd(self, entry: dict, image: GatheredImage, key: int | str) -> bool:
        crowd = entry.get("iscrowd") or 0
        if crowd in (0, 1):
            return crowd == 1
        self.faults.add("bad-iscrowd", image.file_name, key, value=crowd)
        return False

    def finish(self, looked_into: int) -> None:
        """Probes, unless images were looked into already, and writes all that was read with its findings."""
        kept = [image for image in self._images.values() if image is not None and not image.left_out]
        if looked_into:
            self._probed += looked_into
        else:
            self._probe([image for image in kept if not image.missing])
        arrays, ids = self._annotations.sorted(kept, self.faults)
        findings = self._findings(len(kept), arrays["iscrowd"])
        words = {
            **image_words(kept),
            "annotation_ids": ids,
            "categories": list(self._categories),
            "findings": msgspec.to_builtins(findings),
            "watched": self._watched.as_words(),
            "token": new_token(),
        }
        self._writer.finish(arrays, words)

    def _probe(self, present: list[GatheredImage]) -> None:
        """Looks into a few image files, spread over the split: are they images, of the size the file says?"""
        for image in present[:: max(1, len(present) // PROBES)][:PROBES]:
            self._probed += 1
            on_disk = self._size_on_disk(image.path)
            if on_disk is None:
                self.faults.add("image-unreadable", image.file_name)
                continue
            size, turned = on_disk
            expected = image.width, image.height
            kind = size_fault(size, expected)
            if kind and not (turned and size[::-1] == expected):
                detail = f"{size[0]} x {size[1]} instead of {image.width} x {image.height}"
                self.faults.add(kind, image.file_name, detail=detail)

    def _findings(self, images: int, crowds: np.ndarray) -> list[Finding]:
        """All faults in words. crowds: bool (N,), of the annotations that are kept."""
        if not images and self._empty:
            note_no_images(self.faults)
        elif images and crowds.all():
            note_no_objects(self.faults, len(crowds), self._position >= 0, self._reason)
        word_by_cause(self.faults, self._boxes)
        self.faults.facts |= {
            "probed": f"{self._probed:,}",
            "total_images": plural(images, "image"),
            **path_words(self._misnamed),
            **copy_words(self._repeated == self.faults.counts.get("duplicate-file")),
        }
        return self.faults.findings()


def _plain(entry: Any) -> Any:
    """An entry as the plain JSON value it was."""
    if type(entry) is ImageEntry:
        return {"id": entry.id, "file_name": entry.file_name, "width": entry.width, "height": entry.height}
    if type(entry) is not AnnotationEntry:
        return entry
    try:
        segmentation = msgspec.json.decode(entry.segmentation) if len(entry.segmentation) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        segmentation = "not JSON"  # numbers out of range and the like: told as what cannot be used
    return {
        "id": entry.id,
        "image_id": entry.image_id,
        "category_id": entry.category_id,
        "bbox": list(entry.bbox),
        "segmentation": segmentation,
        "iscrowd": entry.iscrowd,
    }


def _file_name(entry: dict[str, Any]) -> Any:
    """An image's file name; LVIS has only an address, whose last part is the name."""
    url = entry.get("coco_url")
    return url.rsplit("/", 1)[-1] if entry.get("file_name") is None and isinstance(url, str) else entry.get("file_name")


def _limit(what: str, count: int, most: int) -> None:
    if count > most:
        raise DataError(f"Expected at most {most:,} {what} in a split, got more", "Divide the split into several")


def _identifier(value: Any) -> int | str | None:
    """A usable id: a whole number or text; None for everything else."""
    if isinstance(value, str):
        return valid_text(value) if value.strip() else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _side(value: Any) -> int:
    """A width or height in pixels; 0 if it is none."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_PIXELS else 0
