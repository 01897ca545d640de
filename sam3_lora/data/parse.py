"""Reads one COCO annotation file into a split; every fault in it becomes a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sam3_lora.data.coco_file import load
from sam3_lora.data.folders import ImageFiles
from sam3_lora.data.health import Faults, Finding, plural, shown, valid_text
from sam3_lora.data.images import size_on_disk
from sam3_lora.data.objects import BoxReader, segmentation_fault
from sam3_lora.data.records import Annotation, ImageRecord, Split
from sam3_lora.data.wrong_keys import annotations_elsewhere, has_wrong_keys

MOST_PIXELS = 2**28  # of an image: more is no image but a slip, and would exhaust the memory as a mask
PROBES = 16  # images per split whose file is looked into; faults of size mostly hit a whole split
THOROUGH = 5_000  # segmentations per split that are looked at number by number; of the others, only types and sizes


def read_split(name: str, json_path: Path, root: Path) -> tuple[Split, list[Finding]]:
    """One split of the dataset in `root`.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no list of images.
    """
    data = load(json_path)
    reader = _Reader(name, ImageFiles(root, json_path))
    reader.read_categories(data.get("categories"))
    reader.read_images(data["images"])
    reader.read_annotations(data)
    split = Split(name, json_path, reader.records(), tuple(reader.categories))
    reader.probe(split)
    return split, reader.findings(split)


class _Image:
    """An image entry while its annotations are gathered."""

    __slots__ = ("annotations", "file_name", "height", "id", "missing", "path", "shared_id", "unusable", "width")

    def __init__(self, image_id: int | str, file_name: str, path: Path, missing: bool) -> None:
        self.id, self.file_name, self.path, self.missing = image_id, file_name, path, missing
        self.width = self.height = 0
        self.shared_id = False
        self.annotations: list[Annotation] = []
        self.unusable: set[str] = set()


class _Reader:
    def __init__(self, split: str, files: ImageFiles) -> None:
        self.faults = Faults(split)
        self.categories: dict[str, None] = {}  # names, in the file's order
        self._names: dict[int | str, str] = {}
        self._shared_categories: dict[int | str, set[str]] = {}
        self._images: dict[int | str, _Image | None] = {}  # None: known, but left out
        self._files = files
        self._boxes = BoxReader(self.faults)
        self._probed = 0
        self._segmentations = 0
        self._reason = ""  # why there are no objects, if the list itself is the reason

    def read_categories(self, entries: Any) -> None:
        for entry in entries if isinstance(entries, list) else ():
            name = entry.get("name") if isinstance(entry, dict) else None
            key = _identifier(entry.get("id")) if isinstance(entry, dict) else None
            if key is None or not isinstance(name, str) or not any(map(str.isalnum, name)):
                self.faults.add("bad-category", value=entry)
                continue
            name = valid_text(name)
            self.categories[name] = None
            known = self._names.setdefault(key, name)
            if known != name:
                self._shared_categories.setdefault(key, {known}).add(name)
                self.faults.add("duplicate-category-id", detail=f"id {key} of {shown(known)} and {shown(name)}")

    def read_images(self, entries: list) -> None:
        file_names = set()
        for entry in entries:
            key = _identifier(entry.get("id")) if isinstance(entry, dict) else None
            file_name = entry.get("file_name") if isinstance(entry, dict) else None
            if key is None or not isinstance(file_name, str) or not file_name.strip():
                self.faults.add("bad-image", value=entry)
                if key is not None:
                    self._images.setdefault(key, None)
                continue
            file_name = valid_text(file_name)
            again = file_name in file_names
            file_names.add(file_name)
            if again:
                self.faults.add("duplicate-file", file_name)
            if key not in self._images:
                self._images[key] = self._image(key, file_name, entry)
            elif not (again and self._images[key] and self._images[key].file_name == file_name):
                self.faults.add("duplicate-image-id", file_name, detail=f"id {key}")
                if self._images[key]:
                    self._images[key].shared_id = True

    def _image(self, key: int | str, file_name: str, entry: dict) -> _Image | None:
        found = self._files.find(file_name)
        if found is None:
            self.faults.add("path-outside-dataset", file_name)
            return None
        path, exists = found
        if not exists:
            self.faults.add("image-missing", file_name)
        image = _Image(key, file_name, path, not exists)
        image.width, image.height = _side(entry.get("width")), _side(entry.get("height"))
        if 0 < image.width * image.height <= MOST_PIXELS:
            return image
        self.faults.add(
            "bad-image-size", file_name, detail=f"{shown(entry.get('width'))} x {shown(entry.get('height'))}"
        )
        on_disk = size_on_disk(path) if exists else None
        if on_disk is None:
            if exists:
                self._probed += 1
                self.faults.add("image-unreadable", file_name)
            return None
        (image.width, image.height), _ = on_disk
        return image

    def read_annotations(self, data: dict[str, Any]) -> None:
        entries = data.get("annotations")
        elsewhere = annotations_elsewhere(data)
        if elsewhere:
            self.faults.add("annotations-wrong-key")
            self.faults.facts["keys"] = elsewhere
        if not isinstance(entries, list) or not entries:
            self._reason = f"the keys of the file are {shown(list(data))}" if entries is None else "the list is empty"
            return
        ids: set[int | str] = set()
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.faults.add("bad-annotation", annotation=position, value=entry)
                continue
            self._read_annotation(entry, self._annotation_id(entry, position, ids))

    def _annotation_id(self, entry: dict, position: int, ids: set[int | str]) -> int | str:
        key = _identifier(entry.get("id"))
        if key is None:
            self.faults.add("annotation-without-id", annotation=position)
            return position
        if key in ids:
            self.faults.add("duplicate-annotation-id", annotation=key)
        ids.add(key)
        return key

    def _read_annotation(self, entry: dict, key: int | str) -> None:
        image = self._image_of(entry, key)
        if image is None:
            return
        category = self._category_of(entry, image, key)
        if category is None:
            return
        bbox, segmentation = entry.get("bbox"), entry.get("segmentation") or None
        if segmentation is not None:
            segmentation = self._checked(segmentation, image, key)
        elif bbox is None and has_wrong_keys(entry):
            self.faults.add("annotations-wrong-key", image.file_name, key)
            self.faults.facts.setdefault("keys", f"the keys {shown(list(entry))} of each entry")
            image.unusable.add(category)
            return
        box = self._boxes.read(bbox, segmentation, image, key)
        if box is None:
            image.unusable.add(category)
            return
        image.annotations.append(Annotation(key, category, box, segmentation, self._is_crowd(entry, image, key)))

    def _image_of(self, entry: dict, key: int | str) -> _Image | None:
        try:
            image = self._images[entry.get("image_id")]
        except (KeyError, TypeError):  # TypeError: a list or an object as id
            self.faults.add("unknown-image", annotation=key, detail=f"image_id {shown(entry.get('image_id'))}")
            return None
        return None if image is None or image.shared_id else image

    def _category_of(self, entry: dict, image: _Image, key: int | str) -> str | None:
        number = entry.get("category_id")
        try:
            category = self._names[number]
        except (KeyError, TypeError):
            self.faults.add("unknown-category", image.file_name, key, f"category_id {shown(number)}")
            return None
        if number in self._shared_categories:
            image.unusable |= self._shared_categories[number]
            return None
        return category

    def _checked(self, segmentation: Any, image: _Image, key: int | str) -> Any:
        self._segmentations += 1
        thorough = self._segmentations <= THOROUGH
        fault = segmentation_fault(segmentation, image.width, image.height, thorough=thorough)
        if fault:
            self.faults.add("bad-segmentation", image.file_name, key, fault)
        return None if fault else segmentation

    def _is_crowd(self, entry: dict, image: _Image, key: int | str) -> bool:
        crowd = entry.get("iscrowd") or 0
        if crowd in (0, 1):
            return crowd == 1
        self.faults.add("bad-iscrowd", image.file_name, key, value=crowd)
        return False

    def records(self) -> tuple[ImageRecord, ...]:
        """The images that can be used, in the file's order."""
        kept = [image for image in self._images.values() if image is not None and not image.shared_id]
        return tuple(
            ImageRecord(
                id=image.id,
                file_name=image.file_name,
                path=image.path,
                width=image.width,
                height=image.height,
                annotations=self._without_copies(image),
                unusable_categories=frozenset(image.unusable) if image.unusable else _NOTHING,
                missing=image.missing,
            )
            for image in kept
        )

    def _without_copies(self, image: _Image) -> tuple[Annotation, ...]:
        if len({item.bbox_xywh for item in image.annotations}) == len(image.annotations):
            return tuple(image.annotations)
        kept: list[Annotation] = []
        same: dict[tuple, list[Annotation]] = {}
        for item in image.annotations:
            like = same.setdefault((item.category, item.bbox_xywh, item.iscrowd), [])
            if any(other.segmentation == item.segmentation for other in like):
                self.faults.add("duplicate-annotation", image.file_name, item.id)
                continue
            like.append(item)
            kept.append(item)
        return tuple(kept)

    def probe(self, split: Split) -> None:
        """Looks into a few image files, spread over the split: are they images, of the size the file says?"""
        present = [record for record in split.images if not record.missing]
        for record in present[:: max(1, len(present) // PROBES)][:PROBES]:
            self._probed += 1
            on_disk = size_on_disk(record.path)
            if on_disk is None:
                self.faults.add("image-unreadable", record.file_name)
                continue
            size, turned = on_disk
            expected = record.width, record.height
            if size != expected and not (turned and size[::-1] == expected):
                detail = f"{size[0]} x {size[1]} instead of {record.width} x {record.height}"
                self.faults.add("size-mismatch", record.file_name, detail=detail)

    def findings(self, split: Split) -> list[Finding]:
        """All faults in words."""
        if not split.images:
            self.faults.add("no-images")
        elif not split.num_objects:
            self.faults.add("no-objects", detail=self._reason)
        outside = self.faults.counts.get("boxes-outside-image", 0)
        if not self._boxes.lost and outside * 20 < self._boxes.seen:
            self.faults.severities["boxes-outside-image"] = "warning"
        corners = outside > 1 and self._boxes.as_corners == outside
        self.faults.facts |= {
            "boxes": f"{self._boxes.seen:,}",
            "probed": f"{self._probed:,}",
            "total_images": plural(len(split.images), "image"),
            "outside_fix": "These look like [left, top, right, bottom]: write bbox as [left, top, width, height]"
            if corners
            else "Check that bbox is [left, top, width, height] in pixels of the width x height that the file gives "
            "the image; boxes made for another image size must be scaled",
        }
        return self.faults.findings()


_NOTHING: frozenset[str] = frozenset()


def _identifier(value: Any) -> int | str | None:
    """A usable id: a whole number or text; None for everything else."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        return valid_text(value) if value.strip() else None
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _side(value: Any) -> int:
    """A width or height in pixels; 0 if it is none."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MOST_PIXELS else 0
