"""Filters and orders of the grid, on a split made in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3_lora.data.records import Annotation, ImageRecord, Split
from sam3_lora.ui.split_index import COUNTS, SIZES, SORTS, SplitIndex, Wanted

SMALL, MEDIUM, LARGE = SIZES


def record(key: int, name: str, *objects: tuple[str, float]) -> ImageRecord:
    """An image with square objects, each a category and a side."""
    annotations = tuple(
        Annotation(place, category, (0.0, 0.0, side, side), None, False)
        for place, (category, side) in enumerate(objects)
    )
    return ImageRecord(key, name, Path(name), 500, 500, annotations)


@pytest.fixture
def index() -> SplitIndex:
    images = (
        record(0, "wall_b.png", ("crack", 10), ("pothole", 100)),
        record(1, "Road_a.png", ("crack", 200)),
        record(2, "road_c.png"),
        record(3, "twin.png", *[("pothole", 50)] * 7),
        record(4, "twin.png", ("crack", 40), ("joint", 31.9)),
    )
    return SplitIndex(Split("train", Path("x.json"), images, ("crack", "pothole", "joint")))


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [
        (Wanted(), [0, 1, 2, 3, 4]),
        (Wanted(categories=("pothole", "joint")), [0, 3, 4]),
        (Wanted(text="ROAD"), [1, 2]),
        (Wanted(text="id 4"), [4]),
        (Wanted(images=frozenset({"twin.png", "elsewhere.png"})), [3, 4]),
        (Wanted(count="Without objects"), [2]),
        (Wanted(count="With objects"), [0, 1, 3, 4]),
        (Wanted(count="One"), [1]),
        (Wanted(count="2 to 5"), [0, 4]),
        (Wanted(count="6 to 20"), [3]),
        (Wanted(size=SMALL), [0, 4]),
        (Wanted(size=LARGE), [0, 1]),
        (Wanted(size=LARGE, categories=("crack",)), [1]),
        (Wanted(size=MEDIUM, text="twin", count="2 to 5"), [4]),
        (Wanted(sort="File name"), [1, 2, 3, 4, 0]),
        (Wanted(sort="Most objects first"), [3, 0, 4, 1, 2]),
        (Wanted(sort="Fewest objects first"), [2, 1, 0, 4, 3]),
        (Wanted(sort="Smallest object first"), [0, 4, 3, 1, 2]),
        (Wanted(sort="Largest object first", count="With objects"), [1, 0, 3, 4]),
    ],
)
def test_filters_and_orders(index: SplitIndex, wanted: Wanted, positions: list[int]) -> None:
    assert index.select(wanted).tolist() == positions


def test_names_that_repeat_get_their_id(index: SplitIndex) -> None:
    assert index.labels[2:] == ("road_c.png", "twin.png (id 3)", "twin.png (id 4)")
    assert [index.positions[label] for label in index.labels] == list(range(5))
    assert index.find("twin.png") == "twin.png (id 3)"
    assert index.find("road_c.png") == "road_c.png"
    assert index.find("no such.png") is None


def test_every_choice_works_on_a_split_without_any_image() -> None:
    empty = SplitIndex(Split("train", Path("x.json"), (), ("crack",)))
    for wanted in (
        *(Wanted(count=count) for count in COUNTS),
        *(Wanted(size=size, categories=("crack",)) for size in SIZES),
        *(Wanted(sort=sort, text="a") for sort in SORTS),
    ):
        assert empty.select(wanted).tolist() == []
