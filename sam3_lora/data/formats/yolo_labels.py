"""Reads YOLO's labels: a text file per image with a box or a polygon per line, in fractions of the image."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.folders import IMAGE_SUFFIXES, NO_TEXT, is_inside, is_text, require_inside
from sam3_lora.data.formats.sources import Progress, Unusable, Watch
from sam3_lora.data.images import size_on_disk
from sam3_lora.errors import DataError
from sam3_lora.text import short_repr, valid_text

MAX_BYTES = 2**24  # of one label file, of a list of images, or of data.yaml
_SURELY_PIXELS = 2.0  # a number of a line above this is not a fraction of an image, even of an object beyond it


@dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes:
        images: a folder of images, with subfolders; or a text file that names one image per line.
        labels: the folder of their labels, with the same subfolders; None for a text file, where the path of a label
            file is that of the image with "labels" instead of "images".
    """

    images: Path
    labels: Path | None


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and the folders in it, sorted; links to folders are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        found += [Path(place, name) for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    return sorted(path for path in found if path.is_file())  # no pipe, which would block for ever


def is_label_file(path: Path) -> bool:
    """Whether a text file begins with a class and a box or a polygon, unlike a caption for example."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return False
        first = next((line for line in path.read_text("utf-8-sig", "replace").splitlines() if line.strip()), "")
    except (OSError, ValueError):
        return False
    number, values = _numbers_of(first.split())
    return number is not None and _entry(number, values, (1, 1)) is not None


def class_files(root: Path, base: Path) -> list[Path]:
    """Where a classes.txt may be; root, base: as for :class:`Labels`."""
    return [folder / "classes.txt" for folder in dict.fromkeys((root, base.parent, base))]


class Labels:
    """The labels of one split as COCO's lists: see :class:`sam3_lora.data.formats.sources.Content`.

    Args:
        root: the dataset's folder.
        base: the folder that file names count from.
        parts: images with their labels.
        names: of the classes, by number; empty: those of classes.txt.
        keypoints: numbers of a line after the box that are keypoints of a pose, 0 for none.
        findings: takes what is wrong with the files.
        watch: called with each file before it is read.

    Raises:
        DataError: a folder is missing or outside the dataset.
    """

    def __init__(
        self,
        root: Path,
        base: Path,
        parts: list[Part],
        names: dict[int, str],
        keypoints: int,
        findings: FindingCollector,
        watch: Watch,
    ) -> None:
        for folder in (folder for part in parts for folder in (part.images, part.labels or part.images)):
            require_inside(folder, root)
        for part in parts:
            if part.labels is not None and not part.labels.is_dir():
                raise DataError(
                    f"data.yaml names the images in {part.images}, but the folder of labels is missing: {part.labels}",
                    "Put the label files there, one text file per image, or take the split out of data.yaml",
                )
        self._root, self._base, self._parts, self._findings = root, base, parts, findings
        self._names, self._keypoints, self._watch = names or self._from_classes_txt(), keypoints, watch
        self._images = dict(self._all_images())
        self._sizes: dict[str, tuple[int, int]] = {}
        self.looked_into = 0

    def _from_classes_txt(self) -> dict[int, str]:
        for path in class_files(self._root, self._base):
            if path.is_file() and is_inside(path, self._root) and path.stat().st_size <= MAX_BYTES:
                lines = path.read_text("utf-8-sig", "replace").splitlines()
                return {number: name.strip() for number, name in enumerate(lines) if name.strip()}
        return {}

    def _all_images(self) -> Iterator[tuple[str, tuple[Path, Path]]]:
        """(file name, (image, label file)) of every image of the split."""
        for part in self._parts:
            if part.labels is None:
                yield from self._listed(part.images)
                continue
            for image in images_in(part.images):
                inner = image.relative_to(part.images)
                name = str(inner) if len(self._parts) == 1 else os.path.relpath(image, self._base)
                yield name, (image, (part.labels / inner).with_suffix(".txt"))

    def _listed(self, path: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
        """The images that a list names: relative to the dataset's folder or to the list's, or by the end of a path on
        another machine."""
        try:
            lines = path.read_text("utf-8-sig").splitlines() if path.stat().st_size <= MAX_BYTES else None
        except (OSError, ValueError):
            lines = None
        if lines is None:
            raise DataError(f"Expected a list of images in {path}, but it cannot be read", "Write one path per line")
        cut = 0  # leading folders of a path on another machine: usually the same for all lines
        for line in filter(None, map(str.strip, lines)):
            parts = [part for part in line.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            cuts = [cut, *range(len(parts))] if len(parts) > cut else range(len(parts))
            folders = [self._root, path.parent]
            places = ((number, folder.joinpath(*parts[number:])) for number in cuts for folder in folders)
            found = next(((number, image) for number, image in places if os.path.isfile(image)), None)
            if found is None:
                self._findings.add("image-missing", valid_text(line)[:1000])
                continue
            cut, image = found
            yield os.path.relpath(image, self._base), (image, _labels_of(image, self._root))

    def sketch(self) -> dict[str, Any]:
        return {}

    def categories(self) -> list[Any]:
        names = self._names or {number: f"class {number}" for number in self._numbers()}
        if not self._names:
            for name in names.values():
                self._findings.add("class-without-name", detail=name)
        return [{"id": number, "name": name} for number, name in names.items()]

    def _numbers(self) -> list[int]:
        """The classes in all label files."""
        labels = dict.fromkeys(label for _, label in self._images.values())
        lines = (line for path in labels if os.path.isfile(path) for line in self._lines(path) or ())
        tokens = (line.split(maxsplit=1)[0] for line in lines if line.strip())
        return sorted({int(token) for token in tokens if token.isascii() and token.isdigit() and len(token) < 10})

    def images(self, progress: Progress) -> Iterator[list[Any]]:
        for number, (name, (path, _)) in enumerate(self._images.items(), start=1):
            progress(number / len(self._images))
            if not is_text(name):
                self._findings.add("image-unreadable", valid_text(name), detail=NO_TEXT)
                continue
            if not is_inside(path, self._root):
                self._findings.add("link-outside-dataset", name)
                continue
            self.looked_into += 1
            self._watch(path)
            on_disk = size_on_disk(path)
            if on_disk is None:
                self._findings.add("image-unreadable", name)
                continue
            size, turned = on_disk
            self._sizes[name] = size = size[::-1] if turned else size  # labels refer to the image as viewers show it
            yield [{"id": name, "file_name": name, "width": size[0], "height": size[1]}]
        known = {label for _, label in self._images.values()}
        for images, labels in ((part.images, part.labels) for part in self._parts):
            for path in sorted(labels.rglob("*.txt")) if labels else ():
                if path in known or path.name == "classes.txt":
                    continue
                if labels != images or is_label_file(path):  # beside images there may be other text files
                    name = os.path.splitext(os.path.relpath(path, labels))[0]
                    self._findings.add("label-without-image", valid_text(name))

    def annotations(self, progress: Progress) -> Iterator[list[Any]]:
        for number, (name, size) in enumerate(self._sizes.items(), start=1):
            progress(number / len(self._sizes))
            path = self._images[name][1]
            self._watch(path)
            if not os.path.isfile(path):
                self._findings.add("image-without-label-file", name)
                continue
            lines = self._lines(path)
            if lines is None:
                self._findings.add("bad-label-file", name)
                yield [Unusable(name, whole_image=True)]
            else:
                yield [self._object(line, name, place, size) for place, line in enumerate(lines, 1) if line.strip()]

    def _object(self, line: str, name: str, place: int, size_wh: tuple[int, int]) -> dict[str, Any] | Unusable:
        """A line as an entry of 'annotations'; name: of the image, place: of the line, from 1."""
        key = f"{os.path.splitext(name)[0]}:{place}"
        number, values = _numbers_of(line.split())
        entry = None
        if values and max(values) > _SURELY_PIXELS:
            self._findings.add("labels-in-pixels", name, key, detail=short_repr(line))
        elif number is None or (entry := _entry(number, values, size_wh, self._keypoints)) is None:
            self._findings.add("bad-label-line", name, key, detail=short_repr(line))
        elif len(values) > 4 and "segmentation" not in entry:
            self._findings.add("keypoints-not-read", name, key)
        return Unusable(name, number) if entry is None else entry | {"id": key, "image_id": name}

    def _lines(self, path: Path) -> list[str] | None:
        """The lines of a label file; None if it cannot be read."""
        try:
            if path.stat().st_size <= MAX_BYTES and is_inside(path, self._root):
                return path.read_text("utf-8-sig").splitlines()
        except (OSError, ValueError):
            pass
        return None


def _labels_of(image: Path, root: Path) -> Path:
    """The label file of an image: in "labels" instead of the last "images" of its path."""
    parts = list(image.relative_to(root).parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _numbers_of(tokens: list[str]) -> tuple[int | None, list[float]]:
    """A line's class, None if it is not an integer, and the numbers after it, none if one of them is not finite."""
    numbers = []
    for token in tokens:
        try:
            numbers.append(float(token))
        except ValueError:
            numbers.append(math.nan)
    number = int(numbers[0]) if numbers and numbers[0].is_integer() else None
    return number, numbers[1:] if all(map(math.isfinite, numbers[1:])) else []


def _entry(number: int, values: list[float], size_wh: tuple[int, int], keypoints: int = 0) -> dict[str, Any] | None:
    """A line as an entry of 'annotations', in pixels; None if it is neither a box nor a polygon."""
    width, height = size_wh
    if len(values) == 4 or _is_pose(values, keypoints):
        x, y, w, h = values[:4]
        return {"category_id": number, "bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}
    if len(values) < 6 or len(values) % 2:
        return None
    xs, ys = [x * width for x in values[0::2]], [y * height for y in values[1::2]]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    bbox = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"category_id": number, "bbox": bbox, "segmentation": [polygon]}


def _is_pose(values: list[float], keypoints: int) -> bool:
    """Whether keypoints follow a box: as many numbers as data.yaml says, or every third one a visibility (0, 1 or 2).

    A fraction of an image is never 2, so that no polygon is taken for a pose.
    """
    if keypoints:
        return len(values) == 4 + keypoints
    return len(values) > 4 and len(values) % 3 == 1 and 2 in values[6::3] and set(values[6::3]) <= {0, 1, 2}
