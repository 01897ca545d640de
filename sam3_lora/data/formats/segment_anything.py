"""Reads one JSON file per image, the format of SA-1B (Segment Anything) and of Roboflow's SAM 2 export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.folders import NO_TEXT, ImageFiles, is_inside, is_text
from sam3_lora.data.formats.sources import Progress, Source
from sam3_lora.errors import DataError
from sam3_lora.files import read_file
from sam3_lora.text import short_repr, valid_text

MAX_BYTES = 2**27  # of one image's file
MANY_FILES = 500  # from here on an index is worth keeping
_PROBED = 16


class _Whole(msgspec.Struct):
    """A file of one image, decoded."""

    image: dict[str, Any]
    annotations: list[Any]


class _Head(msgspec.Struct):
    """A file of one image, its annotations left as JSON."""

    image: dict[str, Any]
    annotations: msgspec.Raw


def is_per_image(files: list[Path], root: Path) -> bool:
    """Whether JSON files hold one image each: {"image": {...}, "annotations": [...]}, judged by a sample of them."""
    some = files[:: max(1, len(files) // _PROBED)]
    return any(_read(path, root, _Head) is not None for path in some[: 2 * _PROBED])


def segment_anything_source(
    name: str, folder: Path, files: list[Path], root: Path, phrase: str, places: tuple[Path, ...], outside: Path | None
) -> Source:
    """A split of files with one image each.

    Args:
        name: of the split.
        folder: of the files.
        files: one per image.
        root: the dataset's folder: nothing outside is read.
        phrase: the category of all objects; empty: the name of the dataset's folder.
        places: where images may be.
        outside: a further folder for images that the user named, wherever it is.
    """
    return Source(
        name,
        folder,
        lambda: ImageFiles(root, folder, places, outside),
        lambda findings, watch: _Content(files, root, phrase, findings),
        (folder, *files),
        len(files) >= MANY_FILES,
        {"phrase": phrase, "outside": str(outside)},
    )


class _Content:
    """The files of one split as COCO's lists: see :class:`sam3_lora.data.formats.sources.Content`."""

    looked_into = 0

    def __init__(self, files: list[Path], root: Path, phrase: str, findings: FindingCollector) -> None:
        self._files, self._root, self._findings = files, root, findings
        self._phrase = phrase or valid_text(root.resolve().name)
        if not any(map(str.isalnum, self._phrase)):
            raise DataError(
                f"Expected a name for the objects, since the annotation files give no categories, but that of the "
                f"folder ({short_repr(self._phrase)}) has no letter",
                "Give a phrase when you open the dataset",
            )
        if not phrase:
            findings.add("phrase-from-folder", detail=self._phrase)

    def sketch(self) -> dict[str, Any]:
        return {"images": [], "annotations": []}

    def categories(self) -> list[Any]:
        return [{"id": 0, "name": self._phrase}]

    def images(self, progress: Progress) -> Iterator[list[Any]]:
        for number, path in enumerate(self._files, start=1):
            content = _read(path, self._root, _Head) if is_text(path.name) else None
            progress(number / len(self._files))
            if content is None:
                detail = "" if is_text(path.name) else NO_TEXT
                self._findings.add("bad-label-file", valid_text(path.name), detail=detail)
            else:
                yield [content.image | {"id": path.name}]

    def annotations(self, progress: Progress) -> Iterator[list[Any]]:
        for number, path in enumerate(self._files, start=1):
            content = _read(path, self._root, _Whole) if is_text(path.name) else None
            progress(number / len(self._files))
            if content is not None:
                yield [_entry(entry, path, place) for place, entry in enumerate(content.annotations)]


def _entry(entry: Any, path: Path, place: int) -> Any:
    if not isinstance(entry, dict):
        return entry
    # Ids are unique within a file only.
    return entry | {"id": f"{path.stem}:{place}", "image_id": path.name, "category_id": 0}


def _read(path: Path, root: Path, kind: type[msgspec.Struct]) -> Any:
    """A file of one image; None if it is not one, or is outside the dataset."""
    try:
        return msgspec.json.decode(read_file(path, MAX_BYTES), type=kind) if is_inside(path, root) else None
    except (OSError, ValueError, RecursionError):
        return None
