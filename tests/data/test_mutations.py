"""Whatever stands in a COCO file, opening it gives findings or one DataError, and what was opened can be used."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import numpy as np
import pytest

from sam3_lora.data.coco import Dataset, open_dataset
from sam3_lora.data.prompts import phrase_of, phrases_for
from sam3_lora.data.samples import SampleDataset
from sam3_lora.errors import DataError
from tests.factories import coco, tiny_processor, write_split

WILD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, -1e308, 10**400, math.nan, math.inf, -math.inf),
    *("", " ", "x", "0", "../../x", "\ud800", "\0", "a" * 3000),
    *([], [[]], [None], [[None]], [1, 2, 3, 4], [math.nan] * 4, ["a"] * 6, [[1, 2, 3, 4, 5, 6]], [[[0, 0], [1, 1]]]),
    *({}, {"a": 1}, {"size": [48, 64], "counts": "]]oo"}, {"size": [48, 64], "counts": [5, -5]}, {"id": 1}),
)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in the file: a container and the key or index in it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *nodes(value[key])]]


def mutate(data: dict, rng: random.Random) -> None:
    """Replaces, deletes, repeats or renames one thing somewhere in the file."""
    container, key = rng.choice(nodes(data))
    action = rng.choice(("replace", "replace", "replace", "delete", "repeat", "move"))
    if action == "replace":
        container[key] = copy.deepcopy(rng.choice(WILD))
    elif action == "delete":
        del container[key]
    elif isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        new_key = rng.choice(("bboxes", "masks", "id", "image_id", "segmentation", "x"))
        container[new_key] = container[key] if action == "repeat" else container.pop(key)


def check(dataset: Dataset) -> None:
    """What every part that uses a dataset relies on."""
    for finding in dataset.findings:
        text = f"{finding.message} {finding.fix} {finding.locations}"
        text.encode("utf-8")
        assert finding.count >= 1 and len(finding.message) < 700
    for split in dataset.splits.values():
        for record in split.images:
            assert record.width > 0 and record.height > 0
            for item in record.annotations:
                x, y, w, h = item.bbox_xywh
                assert x >= 0 and y >= 0 and w > 0 and h > 0
                assert x + w <= record.width + 1e-6 and y + h <= record.height + 1e-6
            _, negatives = phrases_for(record, dataset.categories, 3, np.random.default_rng(0))
            there = {item.category for item in record.annotations} | record.unusable_categories
            assert len(negatives) == 3 and not set(negatives) & set(map(phrase_of, there))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    data = coco(images=3)
    write_split(folder / "train", data)
    return folder, data


@pytest.mark.parametrize("seed", range(10))
def test_random_mutations_never_crash(sound, seed):
    folder, data = sound
    rng = random.Random(seed)
    opened = 0
    for _ in range(25):
        mutated = copy.deepcopy(data)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            mutate(mutated, rng)
        (folder / "train" / "_annotations.coco.json").write_text(json.dumps(mutated))
        try:
            dataset = open_dataset(folder)
        except DataError as error:
            str(error).encode("utf-8")
            continue
        opened += 1
        check(dataset)
        samples = SampleDataset(dataset.split("train"), tiny_processor(), dataset.categories, 2, seed)
        for index in range(len(samples)):
            try:
                targets = samples[index].targets
            except DataError as error:  # an image that is not there
                str(error).encode("utf-8")
                continue
            assert len(targets.boxes) == targets.counts.sum()
            assert ((targets.boxes >= 0) & (targets.boxes <= 1)).all()
    assert opened >= 15  # most mutations leave something to open


@pytest.mark.parametrize("seed", range(5))
def test_files_cut_off_or_with_flipped_bytes_never_crash(sound, seed):
    folder, data = sound
    rng = random.Random(seed)
    content = json.dumps(data).encode()
    for _ in range(20):
        broken = bytearray(content[: rng.randrange(len(content))] if rng.random() < 0.3 else content)
        for _ in range(rng.choice((0, 1, 3, 30)) if broken else 0):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        (folder / "train" / "_annotations.coco.json").write_bytes(bytes(broken))
        try:
            check(open_dataset(folder))
        except DataError as error:
            str(error).encode("utf-8")
