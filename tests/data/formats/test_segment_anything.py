"""Datasets with one JSON file per image open with a phrase as their category."""

from __future__ import annotations

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.masks import decode_segmentation
from tests.data.formats.helpers import per_image, sizes
from tests.factories import SIZE_HW, ellipse, kinds

HEIGHT, WIDTH = SIZE_HW


@pytest.mark.parametrize("count", [1, 3])
def test_one_json_per_image_with_the_users_phrase_or_the_folders_name(tmp_path, count):
    per_image(tmp_path / "pothole", count)
    dataset = open_dataset(tmp_path / "pothole")
    assert "Segment Anything" in dataset.format
    assert dataset.categories == ("pothole",) and kinds(dataset) == ["phrase-from-folder"]
    assert sizes(dataset) == {"train": (count, 2 * count)}
    dataset = open_dataset(tmp_path / "pothole", phrase="hole in the road")
    assert dataset.categories == ("hole in the road",) and kinds(dataset) == []
    mask = decode_segmentation(dataset.split("train").images[0].annotations[1].segmentation, SIZE_HW)
    assert (mask == ellipse(SIZE_HW, (35, 20), (9, 9))).all()


def test_one_json_per_image_in_splits(tmp_path):
    for split, count in (("valid", 1), ("train", 2)):
        per_image(tmp_path / split, count)
    dataset = open_dataset(tmp_path, phrase="hole")
    assert sizes(dataset) == {"train": (2, 4), "valid": (1, 2)} and list(dataset.splits) == ["train", "valid"]


def test_a_damaged_file_of_one_image_is_a_finding(tmp_path):
    per_image(tmp_path)
    (tmp_path / "sa_1.json").write_text('{"image": {')
    dataset = open_dataset(tmp_path, phrase="hole")
    assert kinds(dataset) == ["bad-label-file"] and sizes(dataset) == {"train": (2, 4)}
    assert dataset.findings[0].image_names == ("sa_1.json",)


def test_splits_of_one_name_stay_apart(tmp_path):
    per_image(tmp_path, 2)
    per_image(tmp_path / "train", 3)
    assert sorted(len(split.images) for split in open_dataset(tmp_path).splits.values()) == [2, 3]
