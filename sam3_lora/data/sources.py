"""What every format becomes before it is read: COCO's three lists, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3_lora.data.coco_file import CocoFile
from sam3_lora.data.folders import ImageFiles
from sam3_lora.data.health import Faults

KEPT_FROM = 2**22  # bytes of annotations from which an index is worth keeping


class Content(Protocol):
    """The lists 'categories', 'images' and 'annotations'; entries of any type, faulty ones among them.

    progress is called with the share that is read, in [0, 1].
    """

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
        lambda faults: CocoFile(path),
        (path,),
        size >= KEPT_FROM,
        {"folders": list(map(str, folders)), "outside": str(outside)},
    )
