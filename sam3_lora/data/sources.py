"""What every format becomes before it is read: COCO's three lists, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_lora.data.coco_file import CocoFile
from sam3_lora.data.folders import ImageFiles, is_inside
from sam3_lora.data.health import WORDINGS, Faults, Wording
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
        "Correct the lines, or export the dataset again; numbers are fractions of the image's width and height",
    ),
    "bad-label-file": Wording(
        "error",
        "The annotation files of {images} cannot be read; {their} objects are not known, so {they} {are} left out",
        "Export the dataset again, or delete these images",
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


class Content(Protocol):
    """The lists 'categories', 'images' and 'annotations'; entries of any type, faulty ones among them.

    looked_into: image files whose size was read from them; sketch: the top of the file with the first
    entries of each list; progress is called with the share that is read, in [0, 1].
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
    reading it; options: what else changes how it is read; inputs: annotation files; large: worth an index.
    """

    name: str
    path: Path
    files: Callable[[], ImageFiles]
    open: Callable[[Faults], Content]
    inputs: tuple[Path, ...]
    large: bool
    options: dict[str, Any] = field(default_factory=dict)


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
        lambda faults: CocoFile(_inside(path, root)),
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
