"""What every format becomes before it is read: COCO's three lists, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_lora.data.findings.findings import WORDINGS, FindingCollector, Wording
from sam3_lora.data.folders import ImageFiles, is_inside
from sam3_lora.data.formats.coco import CocoFile
from sam3_lora.errors import DataError

KEPT_FROM = 2**22  # bytes of annotations from which an index is worth keeping


# Faults of how files lie or are written, which no entry of a COCO file can have.
SOURCE_WORDINGS: dict[str, Wording] = WORDINGS | {
    "link-outside-dataset": Wording(
        "error",
        "{images} {are} behind a link that leads out of the dataset's folder; {they} {are} not opened",
        "Copy the files into the dataset's folder, or point at the folder that holds the images",
    ),
    "bad-label-line": Wording(
        "error",
        "{annotations} cannot be read, because the line is neither a box (class x y width height) nor a polygon "
        "(class x y x y x y ...)",
        "Correct the lines, or export the dataset again; numbers are fractions of the image's width and height, and no "
        "confidence stands behind them",
    ),
    "bad-label-file": Wording(
        "error",
        "The annotation files of {images} cannot be read; {their} objects are not known, so {they} {are} left out",
        "Export the dataset again, or delete these images",
    ),
    "labels-in-pixels": Wording(
        "error",
        "{annotations} {have} numbers far above 1: these are pixels, where YOLO wants fractions of the image's width "
        "and height; {they} {are} left out",
        "Divide x and width by the image's width, y and height by its height, or export again as YOLO",
    ),
    "keypoints-not-read": Wording(
        "warning",
        "{annotations} {have} keypoints, which SAM 3 does not know: only the box is learned, and no mask",
        "Nothing, if boxes are enough; else export the dataset with polygons",
    ),
    "image-without-label-file": Wording(
        "info",
        "{images} {have} no label file and {are} taken as images without objects",
        "Nothing, if no objects are in {them}; else put the label files where those of the other images are",
    ),
    "label-without-image": Wording(
        "warning",
        "{images} that an annotation file is there for {are} not there",
        "Put {them} into the folder of the images, or delete the annotation files",
    ),
    "class-without-name": Wording(
        "warning",
        "{categories} {have} no name in data.yaml or classes.txt and {are} called by number, which means nothing to "
        "SAM 3",
        "Write the names into data.yaml",
    ),
    "annotation-file-not-read": Wording(
        "warning",
        "{files} beside those that are read {are} not read",
        "Nothing, if intended; else open each by itself, or lay the splits out as the README shows",
    ),
    "phrase-from-folder": Wording(
        "warning",
        "The annotation files give no categories, so all objects are called what the folder is called",
        "Give the phrase for these objects when you open the dataset, or rename the folder",
    ),
}
# What is said otherwise of YOLO's labels than of COCO's JSON.
YOLO_WORDINGS: dict[str, Wording] = SOURCE_WORDINGS | {
    kind: SOURCE_WORDINGS[kind]._replace(**words)
    for kind, words in {
        "no-objects": {
            "fix": "Follow the other findings of the split, or check that the label files are named like the images "
            "and have lines in them"
        },
        "no-images": {
            "message": "The folder of images has none that can be used",
            "fix": "Put the images there, or correct the path in data.yaml",
        },
        "image-missing": {
            "message": "{images} named in the list {are} not there",
            "fix": "Put {them} there, or delete {their} line from the list",
        },
        "unknown-category": {
            "message": "{annotations} {name} a class number that data.yaml gives no name, and {are} left out",
            "fix": "Add the class to 'names' in data.yaml, or correct the number",
        },
        "boxes-normalized": {
            "message": "{annotations} of {boxes} {have} a box within the image's first pixel, and {are} left out",
            "fix": "Delete the lines, or correct them: x, y, width and height are fractions of the image's size",
        },
        "boxes-outside-image": {
            "fix": "Check that a line is: class, x and y of the centre, width, height, in fractions of the image's size"
        },
        "bad-bbox": {"fix": "Write width and height above zero, as fractions of the image's size"},
        "bad-segmentation": {"fix": "Write: class x y x y ..., with at least 3 points"},
        "bad-category": {"fix": "Give each class in data.yaml a name with letters or digits in it"},
        "image-unreadable": {"fix": "Replace the file, or delete it with its label file"},
    }.items()
}


@dataclass(frozen=True)
class Unusable:
    """In place of an annotation that cannot be read: nobody may claim that its category is absent from the image.

    category_id: None if it cannot be read either, so that it may be any; whole_image: no object can be read, so that
    the image is left out.
    """

    image_id: int | str
    category_id: int | None = None
    whole_image: bool = False


Watch = Callable[[Path], None]


class Content(Protocol):
    """The lists 'categories', 'images' and 'annotations'; entries of any type, faulty ones and Unusable among them.

    looked_into: image files whose size was read from them; sketch: the top of the file with the first
    entries of each list, empty if there is no such file; progress is called with the share that is read, in [0, 1].
    """

    looked_into: int

    def sketch(self) -> dict[str, Any]: ...
    def categories(self) -> Any: ...
    def images(self, progress: Callable[[float], None]) -> Iterator[list[Any]]: ...
    def annotations(self, progress: Callable[[float], None]) -> Iterator[list[Any]]: ...


@dataclass(frozen=True)
class Source:
    """Where one split is read from.

    name: the split's; path: its annotation file, or the folder of its annotation files; files: finds its
    images; open: reads the annotations and may note faults of its own, raises DataError if there is no
    reading it, and is given what to call with each file besides `inputs` before it is read; options: what else
    changes how it is read; inputs: annotation files; large: worth an index; wordings: of its findings.
    """

    name: str
    path: Path
    files: Callable[[], ImageFiles]
    open: Callable[[FindingCollector, Watch], Content]
    inputs: tuple[Path, ...]
    large: bool
    options: dict[str, Any] = field(default_factory=dict)
    wordings: Mapping[str, Wording] = field(default_factory=lambda: SOURCE_WORDINGS)


def coco_source(
    name: str, path: Path, root: Path, folders: tuple[Path, ...] = (), outside: Path | None = None
) -> Source:
    """A split in a COCO file.

    Args:
        root: the dataset's folder: nothing outside is looked at.
        folders: where images may lie; none: beside the file and in ``images/`` there.
        outside: a folder that the user pointed at, wherever it is.
    """
    size = path.stat().st_size if path.is_file() else 0
    return Source(
        name,
        path,
        lambda: ImageFiles(root, path.parent, folders, outside),
        lambda faults, watch: CocoFile(_inside(path, root)),
        (path,),
        size >= KEPT_FROM,
        {"folders": list(map(str, folders)), "outside": str(outside)},
    )


def _inside(path: Path, root: Path) -> Path:
    if is_inside(path, root):
        return path
    raise DataError(
        f"{path} lies behind a link that leads out of the dataset's folder, so it is not opened",
        "Put the files themselves there, or open the folder that the link leads to",
    )
