"""Whatever stands in a COCO file, opening it gives findings or one DataError, and what was opened can be used."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_lora.config import Negatives
from sam3_lora.data.dataset import Dataset, open_dataset
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
            _, negatives = phrases_for(record, dataset.categories, Negatives(3), np.random.default_rng(0))
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
        samples = SampleDataset(dataset.split("train").images, tiny_processor(), dataset.categories, Negatives(2), seed)
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


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, tuple[Any, Any, Any]]:
    """By format: the dataset's folder, the file with its annotations, and sound annotations."""
    data = coco(images=2, kinds=("polygon", "rle", "uncompressed"))
    roots = {name: tmp_path_factory.mktemp(name) for name in ("coco", "classic", "per image", "yolo")}
    write_split(roots["coco"] / "train", data)
    write_split(roots["classic"] / "images", data)
    write_split(roots["per image"], data)
    write_split(roots["yolo"] / "images", data)
    for path in (roots["per image"], roots["yolo"] / "images", roots["classic"] / "images"):
        (path / "_annotations.coco.json").unlink()
    (roots["classic"] / "annotations").mkdir()
    (roots["yolo"] / "labels").mkdir()
    one = {"image": data["images"][0], "annotations": data["annotations"][:2]}
    lines = [[0, 0.5, 0.5, 0.2, 0.2], [1, 0.1, 0.1, 0.3, 0.1, 0.3, 0.4], [2, 0.2, 0.3, 0.1, 0.1]]
    name = data["images"][0]["file_name"].replace(".png", ".txt")
    return {
        "coco": (roots["coco"], roots["coco"] / "train" / "_annotations.coco.json", data),
        "classic": (roots["classic"], roots["classic"] / "annotations" / "instances_train.json", data),
        "per image": (roots["per image"], roots["per image"] / "a.json", one),
        "yolo": (roots["yolo"], roots["yolo"] / "labels" / name, {"lines": lines, "names": ["a", "b", "c"]}),
    }


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.sampled_from(("coco", "classic", "per image", "yolo")), st.randoms(use_true_random=False), st.integers(1, 8))
def test_a_thousand_mutated_datasets_give_findings_or_one_error(formats, kind, rng, mutations):
    root, path, sound_data = formats[kind]
    data = copy.deepcopy(sound_data)
    for _ in range(mutations):
        if nodes(data):
            mutate(data, rng)
    if kind == "yolo":
        lines = data.get("lines") if isinstance(data.get("lines"), list) else [data.get("lines")]
        text = "\n".join(" ".join(map(str, line)) if isinstance(line, list) else str(line) for line in lines)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        (root / "data.yaml").write_text(json.dumps({"names": data.get("names"), "train": data.get("x")}))
    else:
        path.write_text(json.dumps(data))
    try:
        check(open_dataset(root))
    except DataError as error:
        str(error).encode("utf-8")
        assert "\n" not in str(error)
