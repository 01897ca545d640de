"""Filters and orders of the grid, on a split made for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.ui.split_index import COUNTS, SIZES, SORTS, ImageFilter, SplitIndex

SMALL, MEDIUM, LARGE = SIZES


CATEGORIES = ("crack", "pothole", "joint")
IMAGES: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("wall_b.png", (("crack", 10), ("pothole", 100))),
    ("Road_a.png", (("crack", 200),)),
    ("road_c.png", ()),
    ("twin.png", tuple(("pothole", 50 + place) for place in range(7))),
    ("twin.png", (("crack", 40), ("joint", 31.9))),
)


def index_of(folder: Path, images: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> SplitIndex:
    """The index of a split whose images hold square objects, each a category and a side; no file is there."""
    annotations = [
        {"image_id": number, "category_id": CATEGORIES.index(category), "bbox": [0, 0, side, side], "iscrowd": 0}
        for number, (_, objects) in enumerate(images)
        for category, side in objects
    ]
    data = {
        "images": [
            {"id": number, "file_name": name, "width": 500, "height": 500} for number, (name, _) in enumerate(images)
        ],
        "annotations": [{"id": number, **item} for number, item in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CATEGORIES)],
    }
    (folder / "train").mkdir()
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8")
    return SplitIndex(open_dataset(folder).split("train"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> SplitIndex:
    return index_of(tmp_path_factory.mktemp("split"), IMAGES)


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [
        (ImageFilter(), [0, 1, 2, 3, 4]),
        (ImageFilter(categories=("pothole", "joint")), [0, 3, 4]),
        (ImageFilter(text="ROAD"), [1, 2]),
        (ImageFilter(text="id 4"), [4]),
        (ImageFilter(images=frozenset({"twin.png", "elsewhere.png"})), [3, 4]),
        (ImageFilter(count="Without objects"), [2]),
        (ImageFilter(count="With objects"), [0, 1, 3, 4]),
        (ImageFilter(count="One"), [1]),
        (ImageFilter(count="2 to 5"), [0, 4]),
        (ImageFilter(count="6 to 20"), [3]),
        (ImageFilter(size=SMALL), [0, 4]),
        (ImageFilter(size=LARGE), [0, 1]),
        (ImageFilter(size=LARGE, categories=("crack",)), [1]),
        (ImageFilter(size=MEDIUM, text="twin", count="2 to 5"), [4]),
        (ImageFilter(sort="File name"), [1, 2, 3, 4, 0]),
        (ImageFilter(sort="Most objects first"), [3, 0, 4, 1, 2]),
        (ImageFilter(sort="Fewest objects first"), [2, 1, 0, 4, 3]),
        (ImageFilter(sort="Smallest object first"), [0, 4, 3, 1, 2]),
        (ImageFilter(sort="Largest object first", count="With objects"), [1, 0, 3, 4]),
    ],
)
def test_filters_and_orders(index: SplitIndex, wanted: ImageFilter, positions: list[int]) -> None:
    assert index.select(wanted).tolist() == positions


def test_names_that_repeat_get_their_id(index: SplitIndex) -> None:
    assert index.labels[2:] == ("road_c.png", "twin.png (id 3)", "twin.png (id 4)")
    assert [index.positions[label] for label in index.labels] == list(range(5))
    assert index.find("twin.png") == "twin.png (id 3)"
    assert index.find("road_c.png") == "road_c.png"
    assert index.find("no such.png") is None


def test_every_choice_works_on_a_split_without_any_object(tmp_path: Path) -> None:
    empty = index_of(tmp_path, (("a.png", ()),))
    for wanted in (
        *(ImageFilter(count=count) for count in COUNTS if count != "Without objects"),
        *(ImageFilter(size=size, categories=("crack",)) for size in SIZES),
        *(ImageFilter(sort=sort, text="b") for sort in SORTS),
    ):
        assert empty.select(wanted).tolist() == []
    assert all(empty.select(ImageFilter(sort=sort)).tolist() == [0] for sort in SORTS)
