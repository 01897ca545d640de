"""Datasets of one split with one change to their annotation file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from sam3_lora.data.dataset import Dataset, open_dataset
from tests.factories import SIZE_HW, coco, write_split

HEIGHT, WIDTH = SIZE_HW
Change = Callable[[dict[str, Any]], None]


def opened(folder, change: Change, **options) -> Dataset:
    """A dataset of one split whose sound file was changed after its images were written."""
    data = coco(**options)
    write_split(folder / "train", data)
    changed = copy.deepcopy(data)
    change(changed)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(changed))
    return open_dataset(folder)


def first(**values) -> Change:
    """Changes the first annotation (a polygon); None deletes a key."""

    def change(data):
        entry = data["annotations"][0]
        entry.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del entry[key]

    return change


def image(**values) -> Change:
    return lambda data: data["images"][0].update(values)


def append(key: str, entry: Any) -> Change:
    return lambda data: data[key].append(entry)


def again(key: str, **values) -> Change:
    return lambda data: data[key].append({**data[key][0], **values})


def every_annotation(change: Callable[[dict], None]) -> Change:
    return lambda data: [change(entry) for entry in data["annotations"]] and None
