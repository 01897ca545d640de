"""Reads YOLO's labels: a text file per image with a box or a polygon per line, in fractions of the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from sam3_lora.data.folders import ImageFiles, is_inside
from sam3_lora.data.health import Faults, shown, valid_text
from sam3_lora.data.images import size_on_disk
from sam3_lora.data.sources import Source
from sam3_lora.errors import DataError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
MOST_BYTES = 2**24  # of one label file, or of data.yaml
MANY_FILES = 500  # from here on an index is worth keeping
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YAML_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "test": "test"}


def yolo_sources(root: Path) -> list[Source]:
    """The splits of a YOLO dataset, none if it is none.

    Folders are found by looking, since data.yaml often names where they lay on another machine:
    ``SPLIT/images`` and ``SPLIT/labels``, or ``images/SPLIT`` and ``labels/SPLIT``, or ``images`` and ``labels``.
    """
    settings = _settings(root)
    pairs = _pairs(root)
    for key, split in _YAML_SPLITS.items():
        pair = None if split in pairs or key in pairs else _named_pair(root, settings, key)
        if pair is not None and pair not in pairs.values():
            pairs[split] = pair
    return [_source(name, images, labels, root, settings) for name, (images, labels) in pairs.items()]


def _source(name: str, images: Path, labels: Path, root: Path, settings: dict[str, Any]) -> Source:
    files = sorted(path for path in labels.glob("*.txt") if path.is_file()) if is_inside(labels, root) else []
    named = [root / file for file in _YAML_NAMES] + [place / "classes.txt" for place in (root, labels.parent, labels)]
    return Source(
        name,
        labels,
        lambda: ImageFiles(root, labels, (images,)),
        lambda faults: _Content(images, labels, root, settings, faults),
        (images, labels, *files, *named),
        len(files) >= MANY_FILES,
    )


def _pairs(root: Path) -> dict[str, tuple[Path, Path]]:
    pairs = {}
    for folder in _folders(root):
        if (folder / "images").is_dir() and (folder / "labels").is_dir():
            pairs[folder.name] = folder / "images", folder / "labels"
    for folder in _folders(root / "labels"):
        if (root / "images" / folder.name).is_dir():
            pairs.setdefault(folder.name, (root / "images" / folder.name, folder))
    if not pairs and (root / "images").is_dir() and (root / "labels").is_dir():
        pairs["train"] = root / "images", root / "labels"
    return pairs


def _named_pair(root: Path, settings: dict[str, Any], key: str) -> tuple[Path, Path] | None:
    """The folders of a split that data.yaml names, as far as they lie in the dataset."""
    named, base = settings.get(key), settings.get("path")
    if not isinstance(named, str):
        return None
    parts = [part for part in Path(named).parts if part != ".."]
    for place in (root / base / named if isinstance(base, str) else root / named, root / named, root.joinpath(*parts)):
        images = place / "images" if (place / "images").is_dir() else place
        swapped = [part if part != "images" else "labels" for part in images.parts[len(root.parts) :]]
        labels = root.joinpath(*swapped)
        if images.is_relative_to(root) and images.is_dir() and is_inside(images, root) and labels.is_dir():
            return images, labels
    return None


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _settings(root: Path) -> dict[str, Any]:
    """data.yaml's content, as far as it is an object."""
    path = next((root / name for name in _YAML_NAMES if (root / name).is_file()), None)
    if path is None or not is_inside(path, root):
        return {}
    try:
        content = yaml.safe_load(path.read_text("utf-8")) if path.stat().st_size <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise DataError(f"Expected YAML in {path}, but it cannot be read as that", "Export the dataset again") from None
    return content if isinstance(content, dict) else {}


class _Content:
    def __init__(self, images: Path, labels: Path, root: Path, settings: dict[str, Any], faults: Faults) -> None:
        for folder in (images, labels):
            if not is_inside(folder, root):
                raise DataError(
                    f"The folder {folder} is a link that leads out of the dataset's folder, so it is not opened",
                    "Put the files themselves there, or open the folder that the link leads to",
                )
        self._images, self._labels, self._root, self._faults = images, labels, root, faults
        self._names = _class_names(root, labels, settings)
        self._sizes: dict[str, tuple[int, int]] = {}
        self.looked_into = 0

    def sketch(self) -> dict[str, Any]:
        return {"images": [], "annotations": []}

    def categories(self) -> list[Any]:
        names = self._names or {number: f"class {number}" for number in self._numbers()}
        if not self._names:
            for name in names.values():
                self._faults.add("class-without-name", detail=name)
        return [{"id": number, "name": name} for number, name in names.items()]

    def _numbers(self) -> list[int]:
        """The classes in all label files."""
        lines = (line.split() for path in self._labels.glob("*.txt") if path.is_file() for line in self._lines(path))
        return sorted({int(tokens[0]) for tokens in lines if tokens and tokens[0].isascii() and tokens[0].isdigit()})

    def images(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        names = sorted(path.name for path in self._images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        for number, name in enumerate(names, start=1):
            progress(number / len(names))
            path = self._images / name
            if not is_inside(path, self._root):
                self._faults.add("link-outside-dataset", valid_text(name))
                continue
            self.looked_into += 1
            on_disk = size_on_disk(path)
            if on_disk is None:
                self._faults.add("image-unreadable", valid_text(name))
                continue
            size, turned = on_disk
            self._sizes[name] = size = size[::-1] if turned else size  # labels are of the picture as it is shown
            yield [{"id": name, "file_name": name, "width": size[0], "height": size[1]}]
        stems = {Path(name).stem for name in names}
        for path in sorted(self._labels.glob("*.txt")):
            if path.stem not in stems and path.name != "classes.txt":
                self._faults.add("label-without-image", valid_text(path.stem))

    def annotations(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        for number, (name, size) in enumerate(self._sizes.items(), start=1):
            progress(number / len(self._sizes))
            path = self._labels / f"{Path(name).stem}.txt"
            entries = []
            for place, line in enumerate(self._lines(path), start=1):
                if line.strip():
                    entry = _entry(line.split(), size)
                    key = f"{valid_text(path.stem)}:{place}"
                    if entry is None:
                        self._faults.add("bad-label-line", valid_text(name), key, detail=shown(line))
                    else:
                        entries.append(entry | {"id": key, "image_id": name})
            yield entries

    def _lines(self, path: Path) -> list[str]:
        """The lines of a label file; none if there is no such file, which means: no objects."""
        try:
            if not path.exists():
                return []
            if path.stat().st_size <= MOST_BYTES and is_inside(path, self._root):
                return path.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            pass
        self._faults.add("bad-label-file", valid_text(path.stem))
        return []


def _entry(tokens: list[str], size_wh: tuple[int, int]) -> dict[str, Any] | None:
    """A line as an entry of 'annotations', in pixels; None if it is neither a box nor a polygon."""
    try:
        number, *values = map(float, tokens)
    except ValueError:
        return None
    if not number.is_integer() or not all(map(math.isfinite, values)):
        return None
    width, height = size_wh
    if len(values) == 4:
        x, y, w, h = values
        return {"category_id": int(number), "bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}
    if len(values) < 6 or len(values) % 2:
        return None
    xs, ys = [x * width for x in values[0::2]], [y * height for y in values[1::2]]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    bbox = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"category_id": int(number), "bbox": bbox, "segmentation": [polygon]}


def _class_names(root: Path, labels: Path, settings: dict[str, Any]) -> dict[int, str]:
    """Names by class number, from data.yaml or from classes.txt; none if neither is there."""
    names = settings.get("names")
    if isinstance(names, list):
        return {number: name if isinstance(name, str) else str(name)[:100] for number, name in enumerate(names)}
    if isinstance(names, dict):
        pairs = ((str(key), name) for key, name in names.items())
        return {int(key): str(name)[:1000] for key, name in pairs if key.isascii() and key.isdigit()}
    for path in (root / "classes.txt", labels.parent / "classes.txt", labels / "classes.txt"):
        if path.is_file() and is_inside(path, root) and path.stat().st_size <= MOST_BYTES:
            lines = path.read_text("utf-8", "replace").splitlines()
            return {number: name.strip() for number, name in enumerate(lines) if name.strip()}
    return {}
