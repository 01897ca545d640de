"""Recognises the format of a dataset by its files and folders, and lists its splits as sources."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from sam3_lora.data.folders import ANNOTATION_FILE, is_inside, listing, subfolders, usual_order
from sam3_lora.data.formats.segment_anything import is_per_image, segment_anything_source
from sam3_lora.data.formats.sources import Source, coco_source
from sam3_lora.data.formats.unsupported import foreign_format, is_archive, mask_folders
from sam3_lora.data.formats.yolo import has_labels, yolo_sources
from sam3_lora.data.formats.yolo_settings import has_settings, is_settings
from sam3_lora.errors import DataError
from sam3_lora.text import valid_text

_INSTANCES = re.compile(
    r"(?:(?:instances?|coco|annotations?)[-_])?(train|validation|valid|val|test|default)((?:[-_]?\w*)?)\.json",
    re.IGNORECASE,
)
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")  # COCO has them beside
_EXPORT = "Export the dataset in the format COCO (in Roboflow: COCO Segmentation) or YOLO and give the unpacked folder"
_MAX_FOLDERS = 64  # that are searched for the images of a single file


@dataclass(frozen=True)
class Layout:
    """What was recognized.

    Attributes:
        format: in words.
        sources: one per split.
        ignored: annotation files that are not read.
        root: the dataset's folder, if it is neither the one that was opened nor that of the file.
    """

    format: str
    sources: list[Source]
    ignored: tuple[Path, ...] = ()
    root: Path | None = None


def recognize(root: Path, images: Path | None = None, phrase: str = "") -> Layout:
    """The format and the splits of the dataset in a folder. The formats are tried in the order below.

    Args:
        root: the folder, a COCO file, or YOLO's data.yaml, whose labels are then read even beside COCO files.
        images: a further folder to look for images in, wherever it is.
        phrase: the category of all objects where the annotations have no categories.

    Raises:
        DataError: there is no such folder, or no format is recognized.
    """
    layout = _recognize(root, images, phrase)
    names = [source.name for source in layout.sources]
    apart = [replace(one, siblings=tuple(name for name in names if name != one.name)) for one in layout.sources]
    return replace(layout, sources=apart)


def _recognize(root: Path, images: Path | None, phrase: str) -> Layout:
    if root.suffix.lower() == ".json" and root.is_file():
        return _of_annotations(root.parent, images, root.name) or _single(root, root.parent, images)
    if is_settings(root):
        return _yolo(root.parent, root) or _unrecognized(root.parent, listing(root.parent))
    if is_archive(root) and root.is_file():
        raise DataError(f"Expected a dataset's folder, but {root} is an archive", "Unpack it and give the folder")
    names = listing(root)
    return (
        _of_annotations(root, images)
        or _roboflow(root, images)
        or _classic(root, names, images)
        or _per_image(root, images, phrase)
        or _one_file(root, names, images)
        or _yolo(root)
        or _unrecognized(root, names)
    )


def _roboflow(root: Path, images: Path | None) -> Layout | None:
    splits = usual_order(name for name in subfolders(root) if (root / name / ANNOTATION_FILE).is_file())
    if not splits:
        return None
    sources = [coco_source(name, root / name / ANNOTATION_FILE, root, (), images) for name in splits]
    words = "COCO JSON, one folder per split, as Roboflow exports it"
    if any((root / name / "labels").is_dir() for name in splits):
        words += f" (the YOLO labels beside it are {'read by opening data.yaml' if has_settings(root) else 'not read'})"
    own = root / ANNOTATION_FILE
    return Layout(words, sources, (own,) if own.is_file() else ())


def _of_annotations(folder: Path, images: Path | None, only: str = "") -> Layout | None:
    """COCO's own layout, opened by its folder ``annotations`` or by the file `only` in it: the images are beside it."""
    folder = folder.absolute()
    if folder.name != "annotations" or (layout := _classic(folder.parent, listing(folder.parent), images)) is None:
        return None
    sources = [source for source in layout.sources if only in ("", source.path.name)]
    ignored = () if only else layout.ignored
    return replace(layout, sources=sources, ignored=ignored, root=folder.parent) if sources else None


def _classic(root: Path, names: list[str], images: Path | None) -> Layout | None:
    """``annotations/instances_train2017.json`` and the like, or such files in the folder itself."""
    if ANNOTATION_FILE in names:
        return None
    for folder in (root / "annotations", root):
        if not folder.is_dir():
            continue
        files = [name for name in listing(folder) if name.lower().endswith(".json")]
        found = {name: match for name in files if (match := _INSTANCES.fullmatch(name))}
        if folder == root and len(found) < 2:
            return None
        splits = _split_names(found)
        if splits:
            sources = [
                coco_source(split, folder / name, root, _image_folders(root, folder, split, found[name]), images)
                for split, name in splits.items()
            ]
            where = "in annotations/, as COCO itself has them" if folder != root else "side by side"
            ignored = tuple(folder / name for name in files if name not in found and not name.startswith(_OTHER_TASKS))
            return Layout(f"COCO JSON, one file per split {where}", sources, ignored)
        if len(files) == 1 and folder != root:
            return _single(folder / files[0], root, images)
    return None


def _split_names(found: dict[str, re.Match[str]]) -> dict[str, str]:
    """File names by split: "train" for instances_train2017.json, or "train2017" if there is another "train".

    Where that is ambiguous, a split is named after its file.
    """
    splits: dict[str, str] = {}
    plain = [match[1].lower() for match in found.values()]
    for name, match in found.items():
        split = match[1].lower() if plain.count(match[1].lower()) == 1 else (match[1] + match[2]).lower()
        split = "train" if split == "default" and len(found) == 1 else split
        splits[split if split not in splits else name.removesuffix(".json")] = name
    return {split: splits[split] for split in usual_order(splits)}


def _image_folders(root: Path, folder: Path, split: str, match: re.Match[str]) -> tuple[Path, ...]:
    written = match[1] + match[2]
    places = [root / written, root / "images" / written, root / split, root / "images" / split]
    places += [root / "images", root, folder, folder / "images"]
    return tuple(dict.fromkeys(place for place in places if place.is_dir()))


def _one_file(root: Path, names: list[str], images: Path | None) -> Layout | None:
    files = [ANNOTATION_FILE] if ANNOTATION_FILE in names else [n for n in names if n.lower().endswith(".json")]
    return _single(root / files[0], root, images) if len(files) == 1 else None


def _single(path: Path, root: Path, images: Path | None) -> Layout:
    """One file; its images beside it, in ``images/``, or in any other folder there."""
    folders = [root, root / "images", path.parent, path.parent / "images"]
    folders += [root / name for name in subfolders(root)[:_MAX_FOLDERS]]
    places = tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))
    match = _INSTANCES.fullmatch(path.name)
    split = next(iter(_split_names({path.name: match}))) if match else "train"
    return Layout("COCO JSON, a single file", [coco_source(split, path, root, places, images)])


def _per_image(root: Path, images: Path | None, phrase: str) -> Layout | None:
    folders = [root, *(root / name for name in usual_order(subfolders(root)))]
    sources = []
    for folder in folders:
        if not is_inside(folder, root):
            continue
        files = [folder / name for name in listing(folder) if name.lower().endswith(".json")]
        if files and is_per_image(files, root):
            name = folder.name
            if folder == root:
                name = "train" if not (root / "train").is_dir() else f"{root.name} (top folder)"
            places = tuple(place for place in (folder, folder / "images", root / "images") if place.is_dir())
            sources.append(segment_anything_source(name, folder, files, root, phrase, places, images))
    words = "JSON with one file per image, like Segment Anything (SA-1B) and Roboflow's SAM 2 export"
    return Layout(words, sources) if sources else None


def _yolo(root: Path, settings: Path | None = None) -> Layout | None:
    sources = yolo_sources(root, settings)
    by_name = {source.name: source for source in sources}
    ordered = [by_name[name] for name in usual_order(by_name)]
    return Layout("YOLO labels, one text file per image", ordered) if sources else None


def _unrecognized(root: Path, names: list[str]) -> NoReturn:
    wanted = f"Expected train/{ANNOTATION_FILE} (and the like for other splits) in {root}"
    deeper = next((root / name for name in subfolders(root)[:_MAX_FOLDERS] if _has_splits(root, name)), None)
    if deeper is not None:
        raise DataError(f"{wanted}, but its splits are one folder deeper", f"Open {deeper}")
    if has_settings(root):
        raise DataError(
            f"Expected YOLO's labels in labels/ beside the images in images/ (or train/labels beside train/images) in "
            f"{root}, since a data.yaml is there, but found none",
            "Put images and labels there, or correct the paths in data.yaml",
        )
    inner = listing(root / "annotations") if (root / "annotations").is_dir() else []
    candidates = [name for name in names if name.lower().endswith(".json")]
    candidates += [f"annotations/{name}" for name in inner if name.lower().endswith(".json")]
    if masks := mask_folders(root):
        raise DataError(
            f"{wanted}, but found masks as image files in {masks[1]}",
            f"Convert them: python -m sam3_lora convert-masks {masks[0]} {masks[1]} OUT --class 1=crack",
        )
    if foreign := foreign_format(root):
        raise DataError(f"{wanted}, but the files there look like those of {foreign}, which are not read", _EXPORT)
    if candidates:
        listed = ", ".join(map(valid_text, candidates[:3])) + (", ..." if len(candidates) > 3 else "")
        raise DataError(
            f"{wanted}, but found {len(candidates)} other JSON files ({listed})",
            f"Put each split's file and images into a folder of their own and name the file {ANNOTATION_FILE}, "
            "or open one of the files",
        )
    raise DataError(f"{wanted}, but there is no annotation file", _EXPORT)


def _has_splits(root: Path, name: str) -> bool:
    """Whether a folder in `root` is a dataset by itself."""
    folder = root / name
    if not is_inside(folder, root):
        return False
    names = subfolders(folder)
    annotated = any((folder / inner / ANNOTATION_FILE).is_file() for inner in names)
    return annotated or ("annotations" in names and any((folder / "annotations").glob("*.json"))) or has_labels(folder)
