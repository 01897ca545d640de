"""Recognises the format of a dataset by its files and folders, and lists its splits as sources."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

from sam3_lora.data.findings.wrong_keys import LIKELY
from sam3_lora.data.folders import ANNOTATION_FILE, files_ending, is_inside, listing, subfolders
from sam3_lora.data.formats.segment_anything import is_per_image, segment_anything_source
from sam3_lora.data.formats.sources import Layout
from sam3_lora.data.formats.unsupported import Foreign, foreign_format, is_archive, mask_folders
from sam3_lora.data.formats.unsupported_text import foreign_texts
from sam3_lora.data.formats.yolo import has_labels, yolo_sources
from sam3_lora.data.formats.yolo_settings import has_settings, is_settings
from sam3_lora.data.layouts.coco_layouts import (
    MAX_FOLDERS,
    all_coco_files,
    coco_layout,
    in_annotations,
    in_another_folder,
    is_annotations_folder,
    one_file,
    single_file,
)
from sam3_lora.data.layouts.json_outlines import outline_of
from sam3_lora.data.splits.names import usual_order
from sam3_lora.errors import DataError
from sam3_lora.text import first_names, plural, valid_text

_DEEPEST = 3  # folders below the one that was opened, where a dataset is looked for
_EXPORT = "Export the dataset in the format COCO (in Roboflow: COCO Segmentation) or YOLO and give the unpacked folder"


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
        return _of_annotations(root.parent, images, root.name) or single_file(root, root.parent, images)
    if is_settings(root):
        return _yolo(root.parent, root) or _unrecognized(root.parent, listing(root.parent))
    if is_archive(root) and root.is_file():
        raise DataError(f"Expected a dataset's folder, but {root} is an archive", "Unpack it and give the folder")
    names = listing(root)
    return (
        _of_annotations(root, images)
        or _beside_labels(coco_layout(root, images), root)
        or _beside_labels(one_file(root, images), root)
        or _per_image(root, images, phrase)
        or _yolo(root)
        or _beside_labels(in_another_folder(root, images), root)
        or _unreadable(root, images)
        or _unrecognized(root, names)
    )


def _beside_labels(found: Layout | None, root: Path) -> Layout | None:
    """A layout of COCO files; its words say what becomes of YOLO's labels beside them."""
    labels = {folder / "labels" for folder in (root, *subfolders(root)[:MAX_FOLDERS]) if (folder / "labels").is_dir()}
    if found is None or labels <= {source.path.parent for source in found.sources}:
        return found
    read = "read by opening data.yaml" if has_settings(root) else "not read"
    return replace(found, format=f"{found.format} (the YOLO labels beside it are {read})")


def _of_annotations(folder: Path, images: Path | None, only: str = "") -> Layout | None:
    """COCO's own layout, opened by its folder ``annotations`` or by the file `only` in it: the images are beside it."""
    folder = folder.absolute()
    if not is_annotations_folder(folder) or (found := in_annotations(folder, folder.parent, images)) is None:
        return None
    sources = [source for source in found.sources if only in ("", source.path.name)]
    ignored = () if only else found.ignored
    return replace(found, sources=sources, ignored=ignored, root=folder.parent) if sources else None


def _unreadable(root: Path, images: Path | None) -> Layout | None:
    """The only JSON file, if it may be meant as COCO: reading it tells what is wrong with it."""
    outlines = {path: outline_of(path, root) for path in files_ending(root, root, ".json")}
    files = [
        path
        for path, outline in outlines.items()
        if not (isinstance(outline, dict) and outline) or "images" in outline or not LIKELY.isdisjoint(outline)
    ]
    if len(files) != 1 or foreign_format(root):
        return None
    return _beside_labels(single_file(files[0], root, images), root)


def _per_image(root: Path, images: Path | None, phrase: str) -> Layout | None:
    folders = [root, *(root / name for name in usual_order(path.name for path in subfolders(root)))]
    sources = []
    for folder in folders:
        files = files_ending(folder, root, ".json")
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


def _refuse(root: Path, path: Path, foreign: Foreign) -> NoReturn:
    name = valid_text(path.relative_to(root).as_posix())
    raise DataError(f"Expected a dataset as COCO or YOLO in {root}, but {name} holds {foreign.holds}", foreign.fix)


def _unrecognized(root: Path, names: list[str]) -> NoReturn:
    wanted = f"Expected train/{ANNOTATION_FILE} (and the like for other splits) in {root}"
    if (deeper := _deeper(root)) is not None:
        depth = len(deeper.relative_to(root).parts)
        raise DataError(f"{wanted}, but the dataset is {plural(depth, 'folder')} deeper", f"Open {deeper}")
    if any("\\" in name for name in names):
        raise DataError(
            f"{wanted}, but found files with backslashes in their names, as of an archive from Windows that was "
            "unpacked without making its folders",
            "Unpack it again with a program that makes them, such as unzip or 7-Zip",
        )
    if found := foreign_texts(root):
        _refuse(root, *found)
    packed = [valid_text(name) for name in names if is_archive(Path(name))]
    unpack = DataError(f"{wanted}, but found archives ({first_names(packed, 3)})", "Unpack them there")
    if has_settings(root):
        if packed:
            raise unpack
        raise DataError(
            f"Expected YOLO's labels in labels/ beside the images in images/ (or train/labels beside train/images) in "
            f"{root}, since a data.yaml is there, but found none",
            "Put images and labels there, or correct the paths in data.yaml",
        )
    if masks := mask_folders(root):
        raise DataError(
            f"{wanted}, but found masks as image files in {masks[1]}",
            f"Convert them: python -m sam3_lora convert-masks {masks[0]} {masks[1]} OUT --class 1=crack",
        )
    if found := foreign_format(root):
        _refuse(root, *found)
    coco = all_coco_files(root)
    places = [root, *filter(is_annotations_folder, subfolders(root))]
    if others := coco or [path for place in places for path in files_ending(place, root, ".json")]:
        listed = first_names([valid_text(path.relative_to(root).as_posix()) for path in others], 3)
        raise DataError(
            f"{wanted}, but found {plural(len(others), 'other JSON file')} ({listed})",
            "Open one of the files, or put each split's file and images into a folder named after the split"
            if coco
            else _EXPORT,
        )
    raise unpack if packed else DataError(f"{wanted}, but there is no annotation file", _EXPORT)


def _deeper(root: Path) -> Path | None:
    """The first folder below `root` that is a dataset by itself, the nearest ones first."""
    places = [root]
    for depth in range(1, _DEEPEST + 1):
        found = (inner for place in places for inner in subfolders(place)[:MAX_FOLDERS])
        places = [folder for folder in islice(found, MAX_FOLDERS) if is_inside(folder, root)]
        for folder in places:
            if coco_layout(folder, None) or has_labels(folder) or (depth > 1 and one_file(folder, None)):
                return folder
    return None
