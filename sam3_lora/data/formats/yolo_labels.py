"""Reads YOLO's labels: a text file per image with a box or a polygon per line, in fractions of the image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.folders import NO_TEXT, is_inside, is_text, require_inside
from sam3_lora.data.formats.sources import Progress, Unusable, Watch
from sam3_lora.data.formats.unsupported_text import require_yolo
from sam3_lora.data.formats.yolo_lines import MAX_BYTES, Pose, entry_of, numbers_of, pose_length, text_of
from sam3_lora.data.formats.yolo_pairs import Pairs, labels_elsewhere, pair
from sam3_lora.data.formats.yolo_settings import Settings, class_names, no_utf8
from sam3_lora.data.images import size_on_disk, unreadable_kind
from sam3_lora.errors import DataError
from sam3_lora.text import short_repr, valid_text

_SURELY_PIXELS = 2.0  # a number of a line above this is not a fraction of an image, even of an object beyond it
_JUDGED = 200  # label files by which it is judged whether lines are poses


@dataclass(frozen=True)
class Part:
    """Images and their labels.

    Attributes:
        images: a folder of images, with subfolders; or a text file that names one image per line.
        labels: the folder of their labels; None for a text file, where it is the image's folder with "labels" instead
            of "images".
        base: the folder that paths of images and labels have in common where it is not `images`.
        tells_left: whether label files without an image are told of.
        others: of the other splits, in whose folders of labels may be what belongs here.
    """

    images: Path
    labels: Path | None
    base: Path | None = None
    tells_left: bool = True
    others: tuple[Part, ...] = ()


class Labels:
    """The labels of one split as COCO's lists: see :class:`sam3_lora.data.formats.sources.Content`.

    Args:
        root: the dataset's folder.
        base: the folder that file names count from.
        parts: images with their labels.
        settings: what data.yaml says.
        findings: takes what is wrong with the files.
        watch: called with each file before it is read.

    Raises:
        DataError: a folder is missing or outside the dataset, the names of the classes cannot be read, or the files
            are those of another format.
    """

    def __init__(
        self,
        root: Path,
        base: Path,
        parts: list[Part],
        settings: Settings,
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
        self._root, self._base, self._parts, self._findings, self._watch = root, base, parts, findings, watch
        self._names = class_names(settings, root, base)
        self._pairs: dict[tuple[Path, Path], Pairs] = {}
        self._images = dict(self._all_images())
        self._stems = Counter(os.path.splitext(name)[0] for name in self._images)
        require_yolo((path for _, path in self._images.values() if path is not None), root)
        self._pose = self._judged_pose(settings)
        self._sizes: dict[str, tuple[int, int]] = {}
        self.looked_into = 0

    def _all_images(self) -> Iterator[tuple[str, tuple[Path, Path | None]]]:
        """(file name, (image, label file)) of every image of the split."""
        for part in self._parts:
            if part.labels is None:
                yield from self._listed(part.images)
                continue
            pairs = self._paired(part.base or part.images, part.labels)
            if len(pairs.label_of) + len(pairs.near) < len(pairs.images):
                for other in part.others:
                    if other.labels is not None:
                        labels_elsewhere(pairs, self._paired(other.base or other.images, other.labels).left)
            for image in pairs.images:
                if part.base is None or image.is_relative_to(part.images):
                    inner = image.relative_to(part.images)
                    name = str(inner) if len(self._parts) == 1 else os.path.relpath(image, self._base)
                    self._tell_of_pair(pairs, image, name)
                    yield name, (image, pairs.label_of.get(image))
            if part.tells_left:
                self._tell_of_left(pairs, part.labels)

    def _paired(self, images: Path, labels: Path) -> Pairs:
        key = images, labels
        if key not in self._pairs:
            labels = labels if is_inside(labels, self._root) else images
            self._pairs[key] = pair(images, labels, self._root) if is_inside(images, self._root) else Pairs([])
            for folder in self._pairs[key].folders:
                self._watch(folder)
        return self._pairs[key]

    def _tell_of_pair(self, pairs: Pairs, image: Path, name: str) -> None:
        """Adds what is odd with the label file of an image, unless its name is not text, which is told elsewhere."""
        if not is_text(name):
            return
        near = pairs.near.get(image)
        kinds = {
            "labels-by-similar-name": image in pairs.loose,
            "labels-shared": image in pairs.shared,
            "labels-not-paired": near is not None and near.suffix.lower() == ".txt",
            "labels-in-other-format": near is not None and near.suffix.lower() != ".txt",
        }
        for kind in (kind for kind, concerns in kinds.items() if concerns):
            self._findings.add(
                kind, name, detail=short_repr(os.path.relpath(near or pairs.label_of[image], self._root))
            )

    def _tell_of_left(self, pairs: Pairs, labels: Path) -> None:
        near = set(pairs.near.values())
        for kind, paths in (("label-without-image", pairs.left), ("labels-not-read", pairs.second)):
            for path in paths:
                if path not in near:
                    self._findings.add(kind, valid_text(os.path.splitext(os.path.relpath(path, labels))[0]))

    def _listed(self, path: Path) -> Iterator[tuple[str, tuple[Path, Path | None]]]:
        """The images that a list names: relative to the dataset's folder or to the list's, or by the end of a path on
        another machine."""
        try:
            text = text_of(path) if path.stat().st_size <= MAX_BYTES else None
        except (OSError, ValueError):
            text = None
        if text is None:
            raise DataError(f"Expected a list of images in {path}, but it cannot be read", "Write one path per line")
        if "\ufffd" in text:
            raise no_utf8(path, "paths")
        cut = 0  # leading folders of a path on another machine: usually the same for all lines
        for line in filter(None, map(str.strip, text.splitlines())):
            parts = [part for part in line.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            cuts = [cut, *range(len(parts))] if len(parts) > cut else range(len(parts))
            folders = [self._root, path.parent]
            places = ((number, folder.joinpath(*parts[number:])) for number in cuts for folder in folders)
            found = next(((number, image) for number, image in places if os.path.isfile(image)), None)
            if found is None:
                self._findings.add("image-missing", valid_text(line)[:1000])
                continue
            cut, image = found
            name = os.path.relpath(image, self._base)
            pairs = self._paired(*_folders_of(image, self._root))
            self._tell_of_pair(pairs, image, name)
            yield name, (image, pairs.label_of.get(image))

    def _judged_pose(self, settings: Settings) -> Pose:
        """How poses are recognised: as data.yaml says, otherwise by the lines of some label files."""
        pose = settings.pose()
        if pose.length or settings.has_polygons:
            return pose
        labels = list(dict.fromkeys(path for _, path in self._images.values() if path is not None))
        chosen = islice(labels, 0, None, max(1, len(labels) // _JUDGED))
        lines = (line for path in chosen for line in self._lines(path) or ())
        return Pose(pose_length([values for line in lines if (values := numbers_of(line.split())[1])]), guessed=True)

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
        labels = dict.fromkeys(label for _, label in self._images.values() if label is not None)
        lines = (line for path in labels for line in self._lines(path) or ())
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
            header = size_on_disk(path)
            if header is None:
                self._findings.add(unreadable_kind(path), name)
                continue
            self._sizes[name] = size = header.shown_size  # labels refer to the image as viewers show it
            yield [{"id": name, "file_name": name, "width": size[0], "height": size[1]}]

    def annotations(self, progress: Progress) -> Iterator[list[Any]]:
        for number, (name, size) in enumerate(self._sizes.items(), start=1):
            progress(number / len(self._sizes))
            path = self._images[name][1]
            if path is None:
                kinds = ("labels-not-paired", "labels-in-other-format")
                if not any(self._findings.concerns(kind, name) for kind in kinds):
                    self._findings.add("image-without-label-file", name)
                    continue
                yield [Unusable(name, whole_image=True)]
                continue
            self._watch(path)
            lines = self._lines(path)
            if lines is None:
                self._findings.add("bad-label-file", name)
                yield [Unusable(name, whole_image=True)]
            else:
                yield [self._object(line, name, place, size) for place, line in enumerate(lines, 1) if line.strip()]
        if self._findings.count("label-without-image"):
            self._findings.describe("image-without-label-file", severity="warning")

    def _object(self, line: str, name: str, place: int, size_wh: tuple[int, int]) -> dict[str, Any] | Unusable:
        """A line as an entry of 'annotations'; name: of the image, place: of the line, from 1."""
        stem = os.path.splitext(name)[0]
        key = f"{stem if self._stems[stem] == 1 else name}:{place}"
        number, values = numbers_of(line.split())
        entry = None if number is None else entry_of(number, values, size_wh, self._pose)
        is_odd = len(values) > 4 and len(values) % 2 == 1
        if values and max(values[:-1] if is_odd else values) > _SURELY_PIXELS:
            entry = None
            self._findings.add("labels-in-pixels", name, key, detail=short_repr(line))
        elif entry is None:
            kind = "label-line-odd" if is_odd and number is not None else "bad-label-line"
            self._findings.add(kind, name, key, detail=short_repr(line), numbers=len(values))
        if entry is not None and len(values) > 4 and "segmentation" not in entry:
            self._findings.add("keypoints-not-read", name, key)
            guessed = self._pose.guessed and len(values) == self._pose.length
            self._findings.describe("keypoints-not-read", variant="guessed" if guessed else "", numbers=len(values))
        return Unusable(name, number) if entry is None else entry | {"id": key, "image_id": name}

    def _lines(self, path: Path) -> list[str] | None:
        """The lines of a label file; None if it cannot be read."""
        try:
            if path.stat().st_size <= MAX_BYTES and is_inside(path, self._root):
                text = text_of(path)
                return None if "\ufffd" in text else text.splitlines()
        except (OSError, ValueError):
            pass
        return None


def _folders_of(image: Path, root: Path) -> tuple[Path, Path]:
    """The folders of images and labels of an image in a list: the last "images" in its path and "labels" beside it."""
    for folder in image.parents[: len(image.relative_to(root).parts) - 1]:
        if folder.name.lower() == "images":
            return folder, folder.with_name("labels" if folder.name == "images" else "Labels")
    return image.parent, image.parent
