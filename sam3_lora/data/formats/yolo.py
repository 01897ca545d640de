"""Finds the splits of a YOLO dataset, by its folders and by what data.yaml says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from sam3_lora.data.folders import IMAGE_SUFFIXES, USUAL_SPLITS, ImageFiles, is_inside, is_text
from sam3_lora.data.formats.sources import Source
from sam3_lora.data.formats.yolo_labels import MAX_BYTES, Labels, Part, class_files, images_in, is_label_file
from sam3_lora.errors import DataError
from sam3_lora.text import short_repr, type_in_words

MANY_FILES = 500  # from here on an index is worth keeping
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YAML_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "test": "test"}
_PROBED = 32  # images of a folder that are checked for labels beside them


def yolo_sources(root: Path) -> list[Source]:
    """The splits of a YOLO dataset, none if it is not one.

    Folders are searched for, since data.yaml often gives their paths on another machine: ``SPLIT/images`` and
    ``SPLIT/labels``, or ``images/SPLIT`` and ``labels/SPLIT``, or ``images`` and ``labels``, or labels beside the
    images. Where data.yaml gives lists of images, or several folders for a split, data.yaml is followed.

    Args:
        root: the dataset's folder.

    Raises:
        DataError: data.yaml cannot be read, or its class names are invalid.
    """
    settings = _settings(root)
    names = _class_names(settings, root)
    named = {key: list(_named_parts(root, settings, key)) for key in _YAML_SPLITS}
    if any(len(parts) > 1 or part.labels is None for parts in named.values() for part in parts):
        splits = {_YAML_SPLITS[key]: parts for key, parts in named.items() if parts}
    else:
        splits = {name: [part] for name, part in _folder_pairs(root).items()}
        for key, parts in named.items():
            split = _YAML_SPLITS[key]
            known = [part.images for of_split in splits.values() for part in of_split]
            if parts and split not in splits and key not in splits and parts[0].images not in known:
                splits[split] = parts
    keypoints = _keypoints(settings)
    return [_source(name, parts, root, names, keypoints) for name, parts in splits.items()]


def has_labels(root: Path) -> bool:
    """Whether a folder has YOLO's folders of labels."""
    return bool(_folder_pairs(root))


def has_settings(root: Path) -> bool:
    """Whether a folder has YOLO's data.yaml."""
    return any((root / name).is_file() for name in YAML_NAMES)


def _source(name: str, parts: list[Part], root: Path, names: dict[int, str], keypoints: int) -> Source:
    only_labels = parts[0].labels if len(parts) == 1 else None
    base = only_labels or root
    files: list[Path] = []
    folders: list[Path] = []
    for part in parts:
        if part.labels is not None and is_inside(part.labels, root):
            found = sorted(part.labels.rglob("*.txt"))
            files += found
            folders += [part.images, part.labels, *{path.parent for path in found}]
        elif part.labels is None:
            files.append(part.images)
    settings = [root / file for file in YAML_NAMES] + class_files(root, base)
    return Source(
        name,
        base,
        lambda: ImageFiles(root, base, (parts[0].images,) if only_labels else (root,)),
        lambda findings, watch: Labels(root, base, parts, names, keypoints, findings, watch),
        (*folders, *files, *settings),
        len(files) >= MANY_FILES or any(part.labels is None for part in parts),
        format="yolo",
    )


def _folder_pairs(root: Path) -> dict[str, Part]:
    pairs = {}
    for folder in _folders(root):
        inner = {path.name for path in _folders(folder / "labels")}  # if these are splits, it is a dataset by itself
        if (folder / "images").is_dir() and (folder / "labels").is_dir() and inner.isdisjoint(USUAL_SPLITS):
            pairs[folder.name] = Part(folder / "images", folder / "labels")
    for folder in _folders(root / "labels"):
        if (root / "images" / folder.name).is_dir():
            pairs.setdefault(folder.name, Part(root / "images" / folder.name, folder))
    if not pairs and (root / "images").is_dir() and (root / "labels").is_dir():
        pairs["train"] = Part(root / "images", root / "labels")
    if not pairs:
        beside = {folder.name: Part(folder, folder) for folder in _folders(root) if _has_labels_beside(folder, root)}
        pairs = {"train": Part(root, root)} if _has_labels_beside(root, root) else beside
    return pairs


def _has_labels_beside(folder: Path, root: Path) -> bool:
    """Whether text files beside images are labels, and not captions for example."""
    if not is_inside(folder, root):
        return False
    images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    labels = (path.with_suffix(".txt") for path in islice(images, _PROBED))
    return any(is_inside(path, root) and is_label_file(path) for path in labels)


def _named_parts(root: Path, settings: dict[str, Any], key: str) -> Iterator[Part]:
    """The folders that data.yaml gives for a split, as far as they are in the dataset; the labels may be missing."""
    named = settings.get(key)
    for one in named if isinstance(named, list) else [named]:
        if isinstance(one, str) and is_text(one) and "\0" not in one:
            part = _named_part(root, settings.get("path"), one)
            if part is not None:
                yield part


def _named_part(root: Path, base: Any, named: str) -> Part | None:
    inner = [part for part in Path(named).parts if part not in ("..", "/")]
    unlabelled = None
    for place in (root / base / named if isinstance(base, str) else root / named, root / named, root.joinpath(*inner)):
        if not place.is_relative_to(root) or not is_inside(place, root):
            continue
        if place.suffix.lower() == ".txt" and place.is_file():
            return Part(place, None)
        images = place / "images" if (place / "images").is_dir() else place
        swapped = [part if part != "images" else "labels" for part in images.parts[len(root.parts) :]]
        labels = root.joinpath(*swapped)
        if images.is_dir() and is_inside(images, root) and labels != images:
            if labels.is_dir():
                return Part(images, labels)
            if unlabelled is None and images_in(images):
                unlabelled = Part(images, labels)  # an error when it is opened
    return unlabelled


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _settings(root: Path) -> dict[str, Any]:
    """The content of data.yaml, as far as it is an object."""
    path = next((root / name for name in YAML_NAMES if (root / name).is_file()), None)
    if path is None or not is_inside(path, root):
        return {}
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8")) if path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise DataError(f"Expected YAML in {path}, but it cannot be read as that", "Export the dataset again") from None
    return content if isinstance(content, dict) else {}


def _keypoints(settings: dict[str, Any]) -> int:
    """How many numbers of a line are keypoints, by the shape that data.yaml gives for poses; 0 without poses."""
    match settings.get("kpt_shape"):
        case [int(points), int(values)] if points > 0 and values > 0:
            return points * values
    return 0


def _class_names(settings: dict[str, Any], root: Path) -> dict[int, str]:
    """Names by class number, as data.yaml gives them, if it does."""
    names = settings.get("names")
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    found = {}
    for key, name in pairs:
        if not isinstance(name, (str, int, float)) or not isinstance(key, (str, int)):
            raise DataError(
                f"Expected 'names' in the data.yaml of {root} to give each class a name, but one is "
                f"{type_in_words(name)} ({short_repr(key)})",
                "Write them as [crack, pothole] or as {0: crack, 1: pothole}",
            )
        number = str(key)
        if number.isascii() and number.isdigit() and len(number) < 10:
            found[int(number)] = str(name)[:1000]
    return found
