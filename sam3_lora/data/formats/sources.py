"""What every format becomes before it is read: a source per split that gives COCO's three lists in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.findings.messages_formats import LIBERTIES
from sam3_lora.data.folders import ImageFiles, require_inside
from sam3_lora.data.formats.coco import CocoFile

KEPT_FROM = 2**22  # bytes of annotations from which an index is worth keeping

Progress = Callable[[float], None]  # called with the share that is read, in [0, 1]
Watch = Callable[[Path], None]  # called with each file before it is read


@dataclass(frozen=True)
class Unusable:
    """In place of an annotation that cannot be read: its category must not become a negative phrase of the image.

    Attributes:
        image_id: of the image.
        category_id: None if it cannot be read either, so that it may be any.
        whole_image: no object can be read, so that the image is left out.
    """

    image_id: int | str
    category_id: int | None = None
    whole_image: bool = False


class Content(Protocol):
    """The open annotations of one split, as COCO's lists; entries may be of any type, invalid ones and Unusable too.

    Attributes:
        looked_into: image files whose size was read from them.
    """

    looked_into: int

    def sketch(self) -> dict[str, Any]:
        """The top of the file with the first entries of each list; empty if there is no such file."""
        ...

    def categories(self) -> Any:
        """The list 'categories', or whatever is in its place."""
        ...

    def images(self, progress: Progress) -> Iterator[list[Any]]:
        """The list 'images' in pieces."""
        ...

    def annotations(self, progress: Progress) -> Iterator[list[Any]]:
        """The list 'annotations' in pieces, read after the images."""
        ...


@dataclass(frozen=True)
class Layout:
    """What was recognized in a folder.

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


@dataclass(frozen=True)
class Source:
    """Where one split is read from.

    Attributes:
        name: of the split.
        path: its annotation file, or the folder of its annotation files.
        files: finds its images.
        open: reads the annotations; may add findings of its own, and raises DataError if they cannot be read at all.
        inputs: the annotation files; further ones are given to Watch.
        large: whether an index is worth keeping.
        options: what else changes how it is read.
        format: "yolo" where the words of findings differ from those for COCO.
        siblings: the names of the dataset's other splits.
    """

    name: str
    path: Path
    files: Callable[[], ImageFiles]
    open: Callable[[FindingCollector, Watch], Content]
    inputs: tuple[Path, ...]
    large: bool
    options: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    siblings: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that the paths of the images count from."""
        return self.path if self.path.is_dir() else self.path.parent


def coco_source(
    name: str, path: Path, root: Path, folders: tuple[Path, ...] = (), outside: Path | None = None
) -> Source:
    """A split in a COCO file.

    Args:
        name: of the split.
        path: the file.
        root: the dataset's folder: nothing outside is read.
        folders: where images may be; none: beside the file and in ``images/`` there.
        outside: a further folder for images that the user named, wherever it is.
    """
    size = path.stat().st_size if path.is_file() else 0
    return Source(
        name,
        path,
        lambda: ImageFiles(root, path.parent, folders, outside),
        lambda findings, watch: _open_coco(require_inside(path, root), findings),
        (path,),
        size >= KEPT_FROM,
        {"folders": list(map(str, folders)), "outside": str(outside)},
    )


def _open_coco(path: Path, findings: FindingCollector) -> CocoFile:
    file = CocoFile(path)
    if file.encoding:
        findings.add("text-not-utf-8", encoding=file.encoding)
        if not file.encoding.startswith("UTF"):
            findings.describe("text-not-utf-8", variant="guessed", severity="warning")
    if file.liberties:
        findings.add("json-not-strict", liberties=", ".join(map(LIBERTIES.__getitem__, file.liberties)))
    return file
