"""The types that faults are written with: a fault, the image it damages, and the split under construction."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from sam3_lora.data.folders import ANNOTATION_FILE
from sam3_lora.masks import encode_rle


class SplitDraft:
    """A split before it is written.

    Attributes:
        folder: of the split.
        data: the content of its annotation file.
        keep: share of the file to write.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.data: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        self.keep = 1.0

    def add(self, name: str, path: Path, image: dict, annotations: list[dict], known: list[dict]) -> Case:
        """Copies an image and its annotations into the split under another name.

        Args:
            name: of the new file, without suffix.
            path: of the image file.
            image: its entry.
            annotations: its annotations.
            known: the categories.
        """
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


@dataclass
class Case:
    """One image to damage."""

    split: SplitDraft
    image: dict[str, Any]  # its entry
    annotations: list[dict[str, Any]]  # its annotations, at least one
    path: Path  # its file

    @property
    def data(self) -> dict[str, Any]:
        """The content of the split's annotation file."""
        return self.split.data

    @property
    def first(self) -> dict[str, Any]:
        """The image's first annotation."""
        return self.annotations[0]

    def picture(self) -> Image.Image:
        """The image, RGB."""
        with Image.open(self.path) as picture:
            return picture.convert("RGB")

    def put(self, picture: Image.Image, suffix: str, **options: Any) -> None:
        """Replaces the file by a picture, in the format of the suffix, and updates the entry."""
        self.path.unlink()
        self.path = self.path.with_suffix(suffix)
        picture.save(self.path, **options)
        self.image |= {"file_name": self.path.name, "width": picture.width, "height": picture.height}

    def drop_annotations(self) -> None:
        """Removes the annotations of the image."""
        self.data["annotations"] = [entry for entry in self.data["annotations"] if entry not in self.annotations]

    def add_object(self, box_xywh: tuple[int, int, int, int], segmentation: Any = None) -> dict[str, Any]:
        """Adds an annotation of the first one's category to the image; without a mask if none is given."""
        entry = {"id": self.new_id("annotations"), "image_id": self.image["id"], "iscrowd": 0}
        entry |= {"category_id": self.first["category_id"], "bbox": list(box_xywh)}
        if segmentation is not None:
            entry["segmentation"] = segmentation
        self.data["annotations"].append(entry)
        return entry

    def rectangle(self, box_xywh: tuple[int, int, int, int]) -> dict[str, Any]:
        """The run lengths of a rectangle in the image."""
        x, y, w, h = box_xywh
        mask = np.zeros((self.image["height"], self.image["width"]), dtype=bool)
        mask[y : y + h, x : x + w] = True
        return encode_rle(mask)

    def add_category(self, name: str) -> int:
        """Adds a category to the split and returns its id."""
        number = 1 + max(entry.get("id", 0) for entry in self.data["categories"])
        self.data["categories"].append({"id": number, "name": name, "supercategory": "pavement"})
        return number

    def set_category(self, name: str) -> None:
        """Gives the first annotation a category of its own."""
        self.first["category_id"] = self.add_category(name)

    def new_id(self, key: str) -> int:
        """An id that nothing in the split's list `key` has."""
        return 1 + max([1000, *(entry.get("id", 0) for entry in self.data[key] if isinstance(entry, dict))])


@dataclass(frozen=True)
class Fault:
    """A problem that the app can find, and how to make it."""

    kind: str  # of the finding
    split: str  # that gets the fault
    sentence: str  # what is done
    damage: Callable[[Case], None]


def faults_in(module: ModuleType, splits: str | Mapping[str, str]) -> dict[str, Fault]:
    """A module's faults by kind: its public functions, each named after the kind, with what it does as its docstring.

    Args:
        module: with the functions.
        splits: the split that gets the faults, or that of each kind.
    """
    faults = {}
    for name, damage in vars(module).items():
        if inspect.isfunction(damage) and damage.__module__ == module.__name__ and not name.startswith("_"):
            kind = name.replace("_", "-")
            split = splits if isinstance(splits, str) else splits[kind]
            faults[kind] = Fault(kind, split, damage.__doc__ or "", damage)
    return faults
