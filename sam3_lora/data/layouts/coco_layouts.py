"""Finds the COCO files of a dataset, by their keys and names, and the folders of their images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from sam3_lora.data.folders import (
    ANNOTATION_FILE,
    MASK_FOLDERS,
    files_ending,
    holds_images,
    is_inside,
    subfolders,
)
from sam3_lora.data.formats.sources import Layout, coco_source
from sam3_lora.data.formats.unsupported import format_of, other_task
from sam3_lora.data.layouts.json_outlines import outline_of
from sam3_lora.data.splits.names import split_word, usual_order

_SPLIT = re.compile(
    r"(?:.*[^a-z])?(train|validation|valid|val|test|default)((?:ing|val|-?dev|[-_])?\d*)((?:[-_. ].*)?)\.json",
    re.IGNORECASE,
)
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")  # COCO has them beside
_ANNOTATIONS = ("annotations", "annotation", "anns", "ann")
_FOLDERS = (*_ANNOTATIONS, "labels", "json", "jsons", "coco")
_IMAGES = ("images", "img", "imgs", "data", "JPEGImages")
_USUAL = ("annotations", "annotation", "annotations_coco", "annotation_coco", "coco", "instances", "labels")
MAX_FOLDERS = 64  # that are looked into
_MAX_FILES = 64  # of a folder, whose beginning is read


def coco_layout(root: Path, images: Path | None) -> Layout | None:
    """The splits of a dataset with several COCO files, or with one in a folder of annotations; None if it is not one.

    Args:
        root: the dataset's folder.
        images: a further folder to look for images in, wherever it is.
    """
    if roboflow := _split_folders(root, root, images, only=ANNOTATION_FILE):
        return roboflow
    if (root / ANNOTATION_FILE).is_file():
        return None
    for folder in sorted(_annotation_folders(root), key=lambda path: _FOLDERS.index(path.name.casefold())):
        if layout := in_annotations(folder, root, images):
            return layout
    return _side_by_side(root, root, images) or _split_folders(root, root, images)


def in_annotations(folder: Path, root: Path, images: Path | None) -> Layout | None:
    """COCO's own layout: ``annotations/instances_train2017.json`` and the like; None if there are no COCO files.

    Args:
        folder: of the annotations.
        root, images: as for :func:`coco_layout`.
    """
    if layout := _side_by_side(folder, root, images):
        return layout
    files = coco_files(folder, root)
    return single_file(files[0], root, images) if len(files) == 1 else _split_folders(folder, root, images)


def in_another_folder(root: Path, images: Path | None) -> Layout | None:
    """COCO files in the only folder that has some, whatever its name, with the images beside it; None if unclear.

    Args:
        root, images: as for :func:`coco_layout`.
    """
    folders = {path.parent for path in all_coco_files(root)}
    return in_annotations(folders.pop(), root, images) if len(folders) == 1 else None


def all_coco_files(root: Path) -> list[Path]:
    """The COCO files in a folder and in those in it."""
    return [path for folder in (root, *subfolders(root)[:MAX_FOLDERS]) for path in coco_files(folder, root)]


def is_annotations_folder(folder: Path) -> bool:
    """Whether a folder is one of annotations only, whose images are beside it."""
    return folder.name.casefold() in _ANNOTATIONS and not _has_images(folder)


def one_file(root: Path, images: Path | None) -> Layout | None:
    """The only COCO file in a folder; None if there is none, or if there are several.

    Args:
        root, images: as for :func:`coco_layout`.
    """
    files = [root / ANNOTATION_FILE] if (root / ANNOTATION_FILE).is_file() else coco_files(root, root)
    return single_file(files[0], root, images) if len(files) == 1 else None


def single_file(path: Path, root: Path, images: Path | None) -> Layout:
    """One file; its images beside it, in ``images/``, or in the only other folder of images.

    Args:
        path: of the file.
        root, images: as for :func:`coco_layout`.
    """
    match = _SPLIT.fullmatch(path.name)
    split = next(iter(_split_names({path: match}))) if match else "train"
    of_split = _folders_of_split(root, path.parent, split, match) if match else ()
    usual = [root, root / "images", path.parent, path.parent / "images"]
    places = _places([*of_split, *usual, *_image_folders(root)])
    return Layout("COCO JSON, a single file", [coco_source(split, path, root, places, images)])


def coco_files(folder: Path, root: Path) -> list[Path]:
    """The COCO files in a folder. Those for other tasks than detection do not count, and COCO's own for
    keypoints and stuff only if there is no other.

    Args:
        folder: is looked into.
        root: the dataset's folder: nothing outside is read.
    """
    paths = files_ending(folder, root, ".json")
    paths.sort(key=lambda path: _SPLIT.fullmatch(path.name) is None and path.stem.casefold() not in _USUAL)
    kinds = {path: _kind(outline_of(path, root)) for path in paths[:_MAX_FILES]}
    found = [path for path, kind in kinds.items() if kind == "coco"]
    found = [path for path in found if not path.name.startswith(_OTHER_TASKS)] or found
    # One that cannot be read is an error of its split.
    found += [path for path, kind in kinds.items() if kind == "broken" and found and _SPLIT.fullmatch(path.name)]
    return sorted(found)


def _kind(outline: Any) -> Literal["coco", "broken", "other"]:
    if not outline:
        return "broken"
    if not isinstance(outline, dict) or other_task(outline):
        return "other"
    images, annotations = (outline.get(key) or [None] for key in ("images", "annotations"))
    if isinstance(images, list) and isinstance(images[0], dict):
        return "coco"
    is_other = format_of(outline) or isinstance(outline.get("image"), dict)  # the latter of one image, as in SA-1B
    entry = annotations[0] if isinstance(annotations, list) and not is_other else None
    return "coco" if isinstance(entry, dict) and "image_id" in entry else "other"


def _side_by_side(folder: Path, root: Path, images: Path | None) -> Layout | None:
    """A file per split in one folder: in a folder of annotations one is enough."""
    files = coco_files(folder, root)
    found = {path: match for path in files if (match := _SPLIT.fullmatch(path.name))}
    if not found or (folder == root and len(files) < 2):
        return None
    sources = [
        coco_source(split, path, root, _folders_of_split(root, folder, split, found[path]), images)
        for split, path in _split_names(found).items()
    ]
    where = f"in {folder.name}/, as COCO itself has them" if folder != root else "side by side"
    ignored = tuple(path for path in files if path not in found)
    return Layout(f"COCO JSON, one file per split {where}", sources, ignored)


def _split_names(found: dict[Path, re.Match[str]]) -> dict[str, Path]:
    """Files by split: "train" for instances_train2017.json, or "train2017" if there is another "train".

    Where that is ambiguous, a split is named after its file.
    """
    splits: dict[str, Path] = {}
    plain = [match[1].lower() for match in found.values()]
    for path, match in found.items():
        split = "".join(match.groups()).lower() if plain.count(match[1].lower()) > 1 else match[1].lower()
        split = "train" if split == "default" and len(found) == 1 else split
        splits[split if split not in splits else path.name.removesuffix(".json")] = path
    return {split: splits[split] for split in usual_order(splits)}


def _folders_of_split(root: Path, folder: Path, split: str, match: re.Match[str]) -> tuple[Path, ...]:
    names = ("".join(match.groups()), match[1] + match[2], split)
    own = [root / images / name for name in names for images in ("", *_IMAGES)]
    own = [path for path in own if path.is_dir()]
    if not own:  # train2017 for lvis_v1_train.json
        places = (root, *(root / name for name in _IMAGES))
        alike = [path for place in places for path in subfolders(place) if _is_same(match[1], path.name)]
        own = alike if len(alike) == 1 else []
    own += [path / name for path in tuple(own) for name in _IMAGES]
    return _places([*own, *(root / name for name in _IMAGES), root, folder, folder / "images"])


def _split_folders(parent: Path, root: Path, images: Path | None, only: str = "") -> Layout | None:
    """A folder per split with its COCO file, as Roboflow has it, and many others under other names."""
    if not is_inside(parent, root):
        return None
    folders = [path for path in subfolders(parent)[:MAX_FOLDERS] if only or path.name.casefold() not in _FOLDERS]
    files = {folder.name: _file_of_split(folder, root, only) for folder in folders}
    chosen = {name: path for name, (path, _) in files.items() if path is not None}
    if not chosen:
        return None
    for folder in folders:  # a file that cannot be read is an error of its split
        beside = (folder / path.relative_to(parent / other) for other, path in chosen.items())
        if folder.name not in chosen and (path := next(filter(os.path.lexists, beside), None)):
            chosen[folder.name] = path
    words = "COCO JSON, one folder per split" + (", as Roboflow exports it" if only else "")
    ignored = coco_files(parent, root)
    ignored += [path for name in chosen for path in files[name][1] if path != chosen[name]]
    is_whole = len(chosen) == 1 and not any(map(split_word, chosen))
    sources = [
        coco_source("train" if is_whole else name, path, root, _own_places(parent / name, root, path), images)
        for name, path in ((name, chosen[name]) for name in usual_order(chosen))
    ]
    return Layout(words, sources, tuple(ignored))


def _file_of_split(folder: Path, root: Path, only: str) -> tuple[Path | None, list[Path]]:
    """The COCO file of a split's folder, None if there is none or if it is unclear which; and all that are there."""
    if only:
        return (folder / only if os.path.lexists(folder / only) else None), []
    if not is_inside(folder, root) or not (split_word(folder.name) or _has_images(folder)):
        return None, []
    found = [path for place in (folder, *_annotation_folders(folder)) for path in coco_files(place, root)]
    wanted = [ANNOTATION_FILE.removesuffix(".json"), *_USUAL, folder.name.casefold()]
    ranks = [wanted.index(path.stem.casefold()) if path.stem.casefold() in wanted else len(wanted) for path in found]
    best = [path for path, rank in zip(found, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        best = [path for path in best if (match := _SPLIT.fullmatch(path.name)) and _is_same(match[1], folder.name)]
    return best[0] if len(best) == 1 else None, found


def _is_same(split: str, folder: str) -> bool:
    return split_word(split) == split_word(folder) != ""


def _own_places(folder: Path, root: Path, path: Path) -> tuple[Path, ...]:
    """Where the images of a split's folder may be; none for the usual places of its file."""
    if path == folder / ANNOTATION_FILE:
        return ()
    own = [folder, *(folder / name for name in _IMAGES), path.parent, *_image_folders(folder)]
    return _places([*own, *(root / name / folder.name for name in ("", *_IMAGES))])


def _places(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Folders that are there, each once."""
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def _annotation_folders(root: Path) -> list[Path]:
    """The folders in a folder that annotations may be in, by their names."""
    return [path for path in subfolders(root) if path.name.casefold() in _FOLDERS]


def _image_folders(root: Path) -> list[Path]:
    """The only folder of images in a folder; none if there are several, whose images may have the same names."""
    folders = subfolders(root)[:MAX_FOLDERS]
    found = [path for path in folders if path.name.casefold() not in (*MASK_FOLDERS, *_FOLDERS) and holds_images(path)]
    return found if len(found) == 1 else []


def _has_images(folder: Path) -> bool:
    """Whether there are images in a folder or in one in it."""
    return any(map(holds_images, (folder, *subfolders(folder)[:MAX_FOLDERS])))
