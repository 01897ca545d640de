"""What a fault is, and the split that it is put into while that is being written."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3_lora.data.folders import ANNOTATION_FILE


class SplitDraft:
    """A split before it is written. data: the content of its annotation file; keep: share of the file to write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.data: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        self.keep = 1.0

    def add(self, name: str, path: Path, image: dict, annotations: list[dict], known: list[dict]) -> Case:
        """Copies an image and its annotations into the split under another name."""
        if not self.data["categories"]:
            self.data["categories"] = copy.deepcopy(known)
        image = {**image, "id": len(self.data["images"]) + 1, "file_name": name + path.suffix}
        shutil.copyfile(path, self.folder / image["file_name"])
        self.data["images"].append(image)
        first = len(self.data["annotations"]) + 1
        added = [
            {**copy.deepcopy(entry), "id": first + offset, "image_id": image["id"]}
            for offset, entry in enumerate(annotations)
        ]
        self.data["annotations"] += added
        return Case(self, image, added, self.folder / image["file_name"])

    def write(self) -> None:
        """Writes the annotation file."""
        text = json.dumps(self.data, separators=(",", ":"))
        (self.folder / ANNOTATION_FILE).write_text(text[: int(self.keep * len(text))], encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """One image to damage: its entry, those of its annotations (at least one), its file, and the split around it."""

    split: SplitDraft
    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    path: Path

    @property
    def data(self) -> dict[str, Any]:
        return self.split.data

    @property
    def first(self) -> dict[str, Any]:
        """The image's first annotation."""
        return self.annotations[0]

    def add_category(self, name: str) -> int:
        """Adds a category to the split and returns its id."""
        number = 1 + max(entry["id"] for entry in self.data["categories"])
        self.data["categories"].append({"id": number, "name": name, "supercategory": "pavement"})
        return number

    def new_id(self, key: str) -> int:
        """An id that nothing in the split's list `key` has."""
        return 1001 + len(self.data[key])


@dataclass(frozen=True)
class Fault:
    """kind: of the finding; split: where it is put; sentence: what is done; damage: does it to an image's case."""

    kind: str
    split: str
    sentence: str
    damage: Callable[[Case], None]


@dataclass
class FaultTable:
    """Gathers the faults of one split: its functions are decorated with ``@table("kind-of-finding")``."""

    split: str
    faults: dict[str, Fault] = field(default_factory=dict)

    def __call__(self, kind: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
        def note(damage: Callable[[Case], None]) -> Callable[[Case], None]:
            assert kind not in self.faults
            self.faults[kind] = Fault(kind, self.split, damage.__doc__ or "", damage)
            return damage

        return note
