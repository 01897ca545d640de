"""Recognises text files that look like YOLO's labels and are those of other formats, which are not read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from sam3_lora.data.folders import beginning, is_image, is_inside, is_litter
from sam3_lora.data.formats.unsupported import Foreign
from sam3_lora.data.formats.yolo_lines import is_label_file
from sam3_lora.errors import DataError
from sam3_lora.text import valid_text

_KITTI = Foreign(
    "annotations of KITTI (text files with 15 values per object)",
    "Convert them with Datumaro: datum convert -if kitti -i FOLDER -f coco -o OUT -- --save-media",
)
_DOTA = Foreign(
    "annotations of DOTA (text files with four corners in pixels and a class name)",
    "Convert them to YOLO OBB, whose corners are read as polygons: in Ultralytics convert_dota_to_yolo_obb(), or write "
    "the class number first and the corners as fractions of the image's width and height",
)
_OPEN_IMAGES = Foreign(
    "annotations of the Open Images toolkit OIDv4 (text files with a class name and a box in pixels)",
    "Download the images with FiftyOne (foz.load_zoo_dataset('open-images-v7', ...)) and export them as COCO, or write "
    "each line as YOLO does: class number, x and y of the center, width, height, as fractions of the image's size",
)
_VISDRONE = Foreign(
    "annotations of VisDrone (text files with 8 numbers per object, separated by commas)",
    "Convert them to YOLO or COCO; the script in Ultralytics' VisDrone.yaml writes YOLO",
)
_TEXT_REGIONS = Foreign(
    "annotations of text regions (ICDAR: corners, separated by commas, and the text)",
    "Convert them to YOLO OBB: the class number first, then the corners as fractions of the image's width and height",
)
_ALONE = Foreign(
    "YOLO's labels, and there is no image",
    "Put the images into images/ beside labels/, or beside the label files (in CVAT export with 'Save images')",
)
_APART = (
    "Name the folder of the images images and that of the labels labels, and put them side by side: images/ and "
    "labels/, or in each split train/images/ and train/labels/"
)
_MAX_FOLDERS, _MAX_FILES, _MAX_LINES, _HEAD = 256, 20, 20, 4096


def foreign_texts(root: Path) -> tuple[Path, Foreign] | None:
    """A text file of the dataset in a folder that cannot be read, and what it holds: another format, or labels of YOLO
    that are not where those of the images are looked for; None if there is none."""
    labels: Path | None = None
    images: Path | None = None
    for place, folders, names in islice(os.walk(root), _MAX_FOLDERS):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        images = images or (Path(place) if any(map(is_image, names)) else None)
        for name in islice((name for name in sorted(names) if name.lower().endswith(".txt")), _MAX_FILES):
            path = Path(place, name)
            if is_litter(name) or not is_inside(path, root):
                continue
            if found := _text_format(path, root):
                return path, found
            labels = labels or (path if is_label_file(path) else None)
    if labels and images:
        folder = valid_text(images.relative_to(root).as_posix())
        return labels, Foreign(f"YOLO's labels, while images are in {folder}/, which is not where they belong", _APART)
    return (labels, _ALONE) if labels else None


def require_yolo(paths: Iterable[Path], root: Path) -> None:
    """Raises DataError if one of the first label files of the dataset in a folder is in another format."""
    for path in islice(paths, _MAX_FILES):
        if found := _text_format(path, root):
            raise DataError(f"Expected YOLO's labels, but {path} holds {found.holds}", found.fix)


def _text_format(path: Path, root: Path) -> Foreign | None:
    """The format of a text file with one object per line, if it is one of those that are not read."""
    text = beginning(path, root, _HEAD).decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines()[: None if len(text) < _HEAD else -1] if line.strip()][:_MAX_LINES]
    kinds = {_of_line(line.strip()) for line in lines}
    return kinds.pop() if len(kinds) == 1 else None


def _of_line(line: str) -> Foreign | None:
    tokens = line.split()
    if line.startswith(("imagesource:", "gsd:")):
        return _DOTA
    if len(tokens) in (15, 16) and not _number(tokens[0]) and all(map(_number, tokens[1:])):
        return _KITTI
    if len(tokens) in (9, 10) and all(map(_number, tokens[:8])) and not _number(tokens[8]):
        return _DOTA
    if len(tokens) >= 5 and all(map(_number, tokens[-4:])) and not any(map(_number, tokens[:-4])):
        return _OPEN_IMAGES if max(map(float, tokens[-4:])) > 2 else None  # in pixels
    parts = [part for part in line.split(",") if part.strip()]
    if len(parts) >= 8 and all(map(_number, parts[:8])):
        return _VISDRONE if len(parts) == 8 else None if all(map(_number, parts)) else _TEXT_REGIONS
    return None


def _number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
