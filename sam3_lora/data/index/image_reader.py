"""Reads the list 'images' of a split and finds the image files."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_lora.data.edits.reading import SplitEdits
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.folders import ImageFiles
from sam3_lora.data.images import ImageHeader, size_on_disk, unreadable_kind
from sam3_lora.data.index import entries as values
from sam3_lora.data.index.cache import Watched
from sam3_lora.data.index.coverage import KEYS, CoverageReader
from sam3_lora.data.index.gather import GatheredImage
from sam3_lora.data.index.image_headers import probe
from sam3_lora.data.index.image_search import Match, is_address, search
from sam3_lora.data.index.objects.notation import TEXT
from sam3_lora.text import short_repr, valid_text

MAX_IMAGES = 2_000_000  # of a split


@dataclass(frozen=True, slots=True)
class _Lost:
    """An image that is not where its file_name says.

    Attributes:
        image: still without its size.
        entry: of the annotation file.
        outside: whether its file_name leads out of the dataset's folder.
    """

    image: GatheredImage
    entry: dict[str, Any]
    outside: bool

    @property
    def name(self) -> str:
        """What tells most about where it is: the whole address if there is nothing else."""
        url = self.entry.get("coco_url")
        return url if self.entry.get("file_name") is None and isinstance(url, str) else self.image.file_name


class ImageReader:
    """The images of one split.

    Args:
        findings: of the split.
        files: finds the image files.
        folder: the folder that their paths count from.
        watched: is given every image file before it is opened.
        coverage: reads what an entry says about categories.
        edits: of the split.

    Attributes:
        by_id: id -> image; None if the image is known, but left out with all its annotations.
        is_empty: whether the list had no entry so far.
        probed: image files that were opened.
        orientation: how annotations were made where a size does not tell; see `ImageRecord`.
    """

    def __init__(
        self,
        findings: FindingCollector,
        files: ImageFiles,
        folder: Path,
        watched: Watched,
        coverage: CoverageReader,
        edits: SplitEdits,
    ) -> None:
        self._findings, self._files, self._folder, self._watched = findings, files, folder, watched
        self._coverage, self._edits = coverage, edits
        self.by_id: dict[int | str, GatheredImage | None] = {}
        self.is_empty = True
        self.probed = 0
        self.orientation = ""
        self._measured: list[str] = []  # images whose entry gives no size
        self._file_names: set[str] = set()
        self._repeated = 0  # entries that repeat another one in id and file
        self._lost: list[_Lost] = []

    def read(self, entries: Sequence[Any]) -> None:
        """Reads a piece of the list; entries that cannot be used become findings."""
        self.is_empty = self.is_empty and not entries
        for entry in entries:
            key, file_name = None, None
            if isinstance(entry, dict):
                key, file_name = values.identifier(entry.get("id")), values.file_name_of(entry)
            if key is not None and isinstance(file_name, str) and file_name.strip():
                self._read_entry(key, valid_text(file_name), entry)
                continue
            self._findings.add("bad-image", value=entry)
            if key is not None:
                self.by_id.setdefault(key, None)
        values.require_at_most(MAX_IMAGES, len(self.by_id), "images")

    def _read_entry(self, key: int | str, file_name: str, entry: dict[str, Any]) -> None:
        if self._edits.excludes(file_name):
            self.by_id.setdefault(key, None)
            return
        again = file_name in self._file_names
        if again and key not in self.by_id and self._edits.merges(file_name):
            self.by_id[key] = next((one for one in self.by_id.values() if one and one.file_name == file_name), None)
            return
        self._file_names.add(file_name)
        if again:
            self._findings.add("duplicate-file", file_name)
        if key not in self.by_id:
            image = self.by_id[key] = self._image(key, file_name, entry)
            if image is not None and not KEYS.isdisjoint(entry):
                self._coverage.read(entry, image)
            return
        known = self.by_id[key]
        if again and known is not None and known.file_name == file_name:
            self._repeated += 1
            return
        self._findings.add("duplicate-image-id", file_name, detail=f"id {key}")
        if known is not None:
            known.left_out = True

    def _image(self, key: int | str, file_name: str, entry: dict[str, Any]) -> GatheredImage | None:
        """A new image with its file and size; None if it cannot be used."""
        found = self._files.find(file_name)
        path, exists = found or ("", False)
        if path.endswith("/"):
            self._findings.add("link-outside-dataset", file_name)
            return None
        image = GatheredImage(len(self.by_id), key, file_name, path, not exists, 0, 0)
        if not exists:
            self._lost.append(_Lost(image, entry, outside=found is None))
            return image
        return image if self._has_size(image, entry) else None

    def _has_size(self, image: GatheredImage, entry: dict[str, Any]) -> bool:
        """Gives an image its size; whether it has one."""
        width, height = values.side_length(entry.get("width")), values.side_length(entry.get("height"))
        if not 0 < width * height <= values.MAX_PIXELS:
            detail = f"{short_repr(entry.get('width'))} x {short_repr(entry.get('height'))}"
            self._findings.add("bad-image-size", image.file_name, detail=detail)
            header = None if image.missing else self._header(image.path)
            if header is None or header.size[0] * header.size[1] > values.MAX_PIXELS:
                if not image.missing:
                    self.probed += 1
                    self._findings.add(unreadable_kind(self._folder / image.path), image.file_name)
                return False
            width, height = header.shown_size
            self._measured.append(image.file_name)
        elif str in (type(entry.get("width")), type(entry.get("height"))):
            self._findings.add("other-notation", image.file_name, causes=(TEXT,))
        image.width, image.height = width, height
        if not image.missing:
            self._edits.fit(image, self._header)
        return True

    def find_lost(self, siblings: Sequence[str]) -> None:
        """Searches the dataset's folder for the images that are not where their file_name says, all at once.

        Args:
            siblings: the names of the dataset's other splits, whose images are not meant.
        """
        if not self._lost:
            return
        names = {lost.name for lost in self._lost}
        taken = {image.path for image in self.by_id.values() if image is not None and not image.missing}
        found = search(self._files, names, taken, self._findings.split, siblings)
        for lost in self._lost:
            self._settle(lost, found[lost.name])
        if all(is_address(name) for name in names if not found[name].paths):
            self._findings.describe("image-missing", variant="address")
        if taken:  # others are where their names say, so that these may be images that were deleted
            self._findings.describe("image-elsewhere", severity="warning")
        self._lost.clear()

    def _settle(self, lost: _Lost, match: Match) -> None:
        image, paths = lost.image, [short_repr(path) for path in match.paths[:3]]
        if match.path:
            image.path, image.missing = match.path, False
            self._findings.add("image-elsewhere", image.file_name, detail=f"found as {paths[0]}")
        elif paths:
            several = f"{len(match.paths):,} files: {', '.join(paths)}"
            detail = several if len(paths) > 1 else f"{paths[0]} fits {match.names:,} entries"
            self._findings.add("image-ambiguous", image.file_name, detail=detail)
        else:
            self._findings.add("path-outside-dataset" if lost.outside else "image-missing", image.file_name)
        if not image.path:  # shown as missing, by a path that leads nowhere else
            image.path = posixpath.normpath("/" + image.file_name.replace("\\", "/")).strip("/")
        if (lost.outside and not match.paths) or not self._has_size(image, lost.entry):
            self.by_id[image.id] = None

    def _header(self, path: str) -> ImageHeader | None:
        self._watched.add(self._folder / path)
        return size_on_disk(self._folder / path)

    def kept(self) -> list[GatheredImage]:
        """The images that can be used, in the file's order."""
        images = {image.row: image for image in self.by_id.values() if image is not None and not image.left_out}
        return list(images.values())

    def probe(self, kept: Sequence[GatheredImage]) -> None:
        """Opens image files to compare their sizes and orientations with the entries."""
        present = [image for image in kept if not image.missing]
        probed, self.orientation = probe(present, self._measured, self._folder, self._header, self._findings)
        self.probed += probed

    def describe(self) -> None:
        """Adds to the findings what is known once all images are read."""
        for kind in ("image-unreadable", "size-mismatch", "image-scaled"):
            self._findings.describe(kind, probed=self.probed)
        if self._repeated and self._repeated == self._findings.count("duplicate-file"):
            self._findings.describe("duplicate-file", variant="same-id")
