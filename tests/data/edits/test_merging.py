"""Two datasets become one: what only one of them annotates is unknown in the images of the other."""

from __future__ import annotations

import random

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.merging import CategoryMatch, edits_of, match_categories
from sam3_lora.data.edits.writing import write_dataset
from sam3_lora.data.prompts import Negatives, phrases_for
from sam3_lora.errors import DataError
from tests.data.edits.test_mutated import tree
from tests.factories import write_dataset as write_sound


@pytest.fixture
def two(tmp_path):
    one = write_sound(tmp_path / "one", ("train", "valid"), categories=("crack", "pothole"))
    other = write_sound(tmp_path / "other", ("train", "test"), categories=("Potholes", "manhole", "shadow"))
    return one, other


def test_categories_are_matched_by_spelling(two):
    one, other = map(open_dataset, two)
    found = match_categories(one, other)
    assert [(match.name, match.becomes) for match in found] == [
        ("Potholes", "pothole"),
        ("manhole", "manhole"),
        ("shadow", "shadow"),
    ]
    assert sum(match.objects for match in found) == sum(split.num_objects for split in other.splits.values())
    assert [match.becomes for match in match_categories(one, one)] == [*one.categories]
    assert not edits_of(match_categories(one, one))


def test_both_are_written_as_one(two, tmp_path):
    before = [tree(folder) for folder in two]
    one = open_dataset(two[0])
    matches = match_categories(one, open_dataset(two[1]))
    other = open_dataset(two[1], edits=edits_of([*matches[:2], CategoryMatch("shadow", 0, None)]))
    written = write_dataset(one, tmp_path / "both", others=[other])
    both = open_dataset(written.folder)
    assert both.categories == ("crack", "pothole", "manhole") and {*both.splits} == {"train", "valid", "test"}
    for name, split in both.splits.items():
        parts = [each.splits[name] for each in (one, other) if name in each.splits]
        assert len(split.images) == sum(len(part.images) for part in parts)
        assert split.num_objects == sum(part.num_objects for part in parts)
    assert [tree(folder) for folder in two] == before
    train = both.split("train")
    asked = {True: set[str](), False: set[str]()}
    for number, record in enumerate(train.images):
        is_first = number < len(one.split("train").images)
        assert record.incomplete_categories == ({"manhole"} if is_first else {"crack"})
        for seed in range(5):
            wanted = Negatives(count=8, foreign=0)
            _, negatives = phrases_for(record, both.categories, wanted, random.Random(seed))
            asked[is_first].update(negatives)
    assert "manhole" not in asked[True] and "crack" not in asked[False] and "pothole" in asked[False]


def test_the_new_folder_is_beside_both(two, tmp_path):
    one, other = map(open_dataset, two)
    with pytest.raises(DataError):
        write_dataset(one, two[1] / "new", others=[other])
