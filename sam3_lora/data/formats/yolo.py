"""Finds the splits of a YOLO dataset, by its folders and by what data.yaml says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sam3_lora.data.folders import ImageFiles, holds_images, is_image, is_inside, is_litter, is_text, subfolders
from sam3_lora.data.formats.sources import Source
from sam3_lora.data.formats.yolo_labels import Labels, Part
from sam3_lora.data.formats.yolo_lines import is_label_file
from sam3_lora.data.formats.yolo_pairs import images_in, texts_in
from sam3_lora.data.formats.yolo_settings import YAML_NAMES, Settings, class_files, find_settings, plain_path
from sam3_lora.data.splits.names import USUAL_SPLITS
from sam3_lora.errors import DataError

MANY_FILES = 500  # from here on an index is worth keeping
_YAML_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
_CVAT = re.compile(r"obj_(\w+)_data", re.IGNORECASE)  # the folder of a split in CVAT's YOLO 1.1
_PROBED = 32  # images of a folder that are checked for labels beside them
_MAX_PARTS = 20  # of a path of another machine, where its end may be a folder of the dataset


def yolo_sources(root: Path, chosen: Path | None = None) -> list[Source]:
    """The splits of a YOLO dataset, none if it is not one.

    Folders are searched for, since data.yaml often gives their paths on another machine: ``SPLIT/images`` and
    ``SPLIT/labels``, or ``images/SPLIT`` and ``labels/SPLIT``, or ``images`` and ``labels``, or labels beside the
    images. Where data.yaml gives lists of images, or several folders for a split, data.yaml is followed.

    Args:
        root: the dataset's folder.
        chosen: the file to take as data.yaml.

    Raises:
        DataError: data.yaml cannot be read or leads out of the folder, or only the labels are in folders of splits.
    """
    settings = find_settings(root, chosen)
    splits = _splits(root, settings)
    if chosen and not splits and str(settings.content.get("path", "")).startswith(".."):
        raise DataError(
            f"The paths in {chosen} lead out of its folder, and only files in the folder are read",
            f"Open {root.absolute().parent}",
        )
    told: set[Path] = set()  # folders of labels whose left files are told of in an earlier split
    for parts in splits.values():
        others = tuple(part for of_split in splits.values() if of_split is not parts for part in of_split)
        parts[:] = [replace(part, tells_left=part.labels not in told, others=others) for part in parts]
        told.update(part.labels for part in parts if part.labels is not None)
    return [_source(name, parts, root, settings) for name, parts in splits.items()]


def _splits(root: Path, settings: Settings) -> dict[str, list[Part]]:
    named = {key: list(_named_parts(root, settings, key)) for key in _YAML_SPLITS}
    if any(len(parts) > 1 or part.labels is None for parts in named.values() for part in parts):
        splits = {_YAML_SPLITS[key]: parts for key, parts in named.items() if parts}
        for folder in subfolders(root):
            if _CVAT.fullmatch(folder.name) and _has_labels_beside(folder, root):
                splits.setdefault(_split_of(folder), [Part(folder, folder)])
        return splits
    whole = [part.images for parts in named.values() for part in parts]  # as data.yaml divides the images
    pairs = _folder_pairs(root).items()
    splits = {name: [part] for name, part in pairs if not any(one in part.images.parents for one in whole)}
    for key, parts in named.items():
        split = _YAML_SPLITS[key]
        known = [part.images for of_split in splits.values() for part in of_split]
        if parts and split not in splits and key not in splits and parts[0].images not in known:
            splits[split] = parts
    return splits


def has_labels(root: Path) -> bool:
    """Whether a folder has YOLO's folders of labels."""
    return bool(_folder_pairs(root))


def _source(name: str, parts: list[Part], root: Path, settings: Settings) -> Source:
    only_labels = parts[0].labels if len(parts) == 1 else None
    base = only_labels or root
    files: list[Path] = []
    folders: list[Path] = []
    for part in parts:
        if part.labels is not None and is_inside(part.labels, root):
            found = texts_in(part.labels)
            files += found
            folders += [part.images, part.labels, *{path.parent for path in found}]
        elif part.labels is None:
            files.append(part.images)
    others = [settings.file or root / YAML_NAMES[0], *class_files(root, base, settings)]
    return Source(
        name,
        base,
        lambda: ImageFiles(root, base, (parts[0].images,) if only_labels else (root,)),
        lambda findings, watch: Labels(root, base, parts, settings, findings, watch),
        (*folders, *files, *others),
        len(files) >= MANY_FILES or any(part.labels is None for part in parts),
        {"settings": str(settings.file)},
        format="yolo",
    )


def _folder_pairs(root: Path) -> dict[str, Part]:
    pairs = {}
    for folder in subfolders(root):
        images, labels = _inner(folder, "images"), _inner(folder, "labels")
        inner = {path.name for path in subfolders(labels)}  # if these are splits, it is a dataset by itself
        if images.is_dir() and labels.is_dir() and inner.isdisjoint(USUAL_SPLITS):
            pairs[folder.name] = Part(images, labels)
        elif not labels.is_dir() and _has_labels_beside(images, root):
            pairs[folder.name] = Part(images, images)
    images, labels = _inner(root, "images"), _inner(root, "labels")
    is_one = holds_images(images)  # then the folders in it are no splits, unless they have the names of such
    for folder in subfolders(labels):
        if is_one and folder.name.lower() not in USUAL_SPLITS:
            continue
        if (alike := _alike(images, folder.name)) is not None:
            pairs.setdefault(folder.name, Part(alike, folder))
    if not pairs and images.is_dir() and labels.is_dir():
        pairs = _by_images(images, labels)
    if not pairs:
        pairs = {
            _split_of(folder): Part(folder, folder) for folder in subfolders(root) if _has_labels_beside(folder, root)
        }
        if _has_labels_beside(root, root):
            pairs = {"train": Part(root, root)}
    return pairs


def _by_images(images: Path, labels: Path) -> dict[str, Part]:
    """The splits of ``images`` and ``labels`` where the labels are not in folders of splits; or one split of all."""
    if only := [folder.name for folder in subfolders(labels) if folder.name.lower() in USUAL_SPLITS]:
        raise DataError(
            f"Expected the folders of labels ({', '.join(only)}) in {images}, too, but they are only in {labels}",
            f"Put the images into such folders: {', '.join(f'images/{name}' for name in only)}",
        )
    splits = [folder for folder in subfolders(images) if folder.name.lower() in USUAL_SPLITS]
    return {folder.name: Part(folder, labels, images) for folder in splits} or {"train": Part(images, labels)}


def _split_of(folder: Path) -> str:
    """A folder's name; of CVAT's ``obj_train_data`` the split in it."""
    match = _CVAT.fullmatch(folder.name)
    return _YAML_SPLITS.get(match[1].lower(), match[1]) if match else folder.name


def _alike(folder: Path, name: str) -> Path | None:
    """The folder in `folder` with a name, if need be in other letter case."""
    alike = [path for path in subfolders(folder) if path.name.casefold() == name.casefold()]
    return next((path for path in alike if path.name == name), alike[0] if len(alike) == 1 else None)


def _inner(folder: Path, name: str) -> Path:
    """The folder of this name in `folder`, whatever its letter case; it may be missing."""
    return _alike(folder, name) or folder / name


def _has_labels_beside(folder: Path, root: Path) -> bool:
    """Whether text files beside images are labels, and not captions for example."""
    if not folder.is_dir() or not is_inside(folder, root):
        return False
    images = (path for path in folder.iterdir() if is_image(path.name) and not is_litter(path.name))
    labels = (text for path in islice(images, _PROBED) for text in (path.with_suffix(".txt"), Path(f"{path}.txt")))
    return any(is_inside(path, root) and is_label_file(path) for path in labels)


def _named_parts(root: Path, settings: Settings, key: str) -> Iterator[Part]:
    """The folders that data.yaml gives for a split, as far as they are in the dataset; the labels may be missing."""
    named = settings.content.get(key)
    for one in named if isinstance(named, list) else [named]:
        if isinstance(one, str) and is_text(one) and "\0" not in one:
            part = _named_part(root, settings, plain_path(one))
            if part is not None:
                yield part


def _named_part(root: Path, settings: Settings, named: str) -> Part | None:
    unlabelled = None
    for place in _places(root, settings, named):
        if not place.is_relative_to(root) or not is_inside(place, root):
            continue
        if place.suffix.lower() == ".txt" and os.path.isfile(place):  # unlike Path's, never raises: names may be long
            return Part(place, None)
        images = _alike(place, "images") or place
        if not os.path.isdir(images) or not is_inside(images, root):
            continue
        if (part := _labelled(images, root)) is not None:
            return part
        if unlabelled is None and images != root and images_in(images):
            swapped = [part if part.lower() != "images" else "labels" for part in images.parts[len(root.parts) :]]
            unlabelled = Part(images, root.joinpath(*swapped))  # an error when it is opened
    return unlabelled


def _places(root: Path, settings: Settings, named: str) -> Iterator[Path]:
    """Where a path of data.yaml may lead to: as it says, from the dataset's folder, or by its end."""
    folder = settings.file.parent if settings.file else root
    base: Any = settings.content.get("path")
    if isinstance(base, str) and "\0" not in base:
        yield from (Path(os.path.normpath(place / plain_path(base) / named)) for place in (folder, root))
    yield from (Path(os.path.normpath(place / named)) for place in (folder, root))
    inner = [part for part in named.split("/") if part not in ("", ".", "..") and not part.endswith(":")]
    ends = range(max(0, len(inner) - _MAX_PARTS), len(inner))
    yield from (root.joinpath(*inner[cut:]) for cut in ends if not cut or inner[cut:] != ["images"])


def _labelled(images: Path, root: Path) -> Part | None:
    """A folder of images with that of its labels: in ``labels`` instead of ``images``, beside the images, or, flat,
    in the ``labels`` beside the ``images`` that the folder is in."""
    inner = images.parts[len(root.parts) :]
    labels = root
    for part in inner:
        labels = _inner(labels, "labels") if part.lower() == "images" else labels / part
    if labels != images and labels.is_dir():
        return Part(images, labels)
    if _has_labels_beside(images, root):
        return Part(images, images)
    for base in (base for base in images.parents if base.name.lower() == "images" and base.is_relative_to(root)):
        flat = _inner(base.parent, "labels")
        if is_inside(flat, root) and any(map(is_label_file, islice(flat.glob("*.txt"), _PROBED))):
            return Part(images, flat, base)
    return None
