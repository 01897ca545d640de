"""Few images per category and shares that are held out: deterministic by seed, stratified, near-copies together."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.choosing import held_out_edit
from sam3_lora.data.edits.kinds import EditList, ExcludeImages, KeepPerCategory
from sam3_lora.data.index import cache
from sam3_lora.data.splits.holdout import image_categories
from sam3_lora.errors import DataError
from tests.factories import write_dataset


def per_category(split) -> np.ndarray:
    """Images with each category."""
    return np.bincount(image_categories(split)[:, 1], minlength=len(split.categories))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_so_many_images_of_each_category(count):
    whole = open_dataset("demo").split("train")
    kept = open_dataset("demo", edits=EditList((KeepPerCategory("train", count),))).split("train")
    assert (per_category(kept) >= np.minimum(count, per_category(whole))).all()
    assert per_category(kept).min() == count and len(kept.images) <= count * 4
    assert set(kept.images.names) < set(whole.images.names)
    assert open_dataset("demo", edits=EditList((KeepPerCategory("train", count),))).split("train").images.names == (
        kept.images.names
    )
    other = open_dataset("demo", edits=EditList((KeepPerCategory("train", count, seed=1),))).split("train")
    assert other.images.names != kept.images.names


def test_an_image_less_changes_little():
    kept = open_dataset("demo", edits=EditList((KeepPerCategory("train", 4),))).split("train").images.names
    others = [name for name in open_dataset("demo").split("train").images.names if name not in kept]
    edits = EditList((ExcludeImages("train", (others[0],)), KeepPerCategory("train", 4)))
    assert open_dataset("demo", edits=edits).split("train").images.names == kept


def test_a_share_is_held_out():
    train = open_dataset("demo").split("train")
    edit = held_out_edit(train, "test", 0.25, seed=0)
    assert edit == held_out_edit(train, "test", 0.25, seed=0) != held_out_edit(train, "test", 0.25, seed=1)
    dataset = open_dataset("demo", edits=EditList((edit,)))
    test, rest = dataset.split("test"), dataset.split("train")
    assert {name.removeprefix("train/") for name in test.images.names} | {*rest.images.names} == {*train.images.names}
    assert len(test.images) == pytest.approx(0.25 * len(train.images), abs=2)
    shares = per_category(test) / per_category(train)
    assert shares.min() > 0.1 and shares.max() < 0.4


def test_too_few_images_are_one_sentence(tmp_path):
    split = open_dataset(write_dataset(tmp_path, images=2)).split("train")
    with pytest.raises(DataError, match="too few"):
        held_out_edit(split, "test", 0.5, seed=0)


def test_large_datasets_with_and_without_edits_have_indexes_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("sam3_lora.data.formats.sources.KEPT_FROM", 0)
    monkeypatch.setattr("sam3_lora.data.edits.choosing.KEPT_FROM", 0)
    folder = write_dataset(tmp_path / "data")
    name = open_dataset(folder).split("train").images.names[0]
    edits = EditList((ExcludeImages("train", (name,)),))
    for _ in range(2):
        assert name in open_dataset(folder).split("train").images.names
        assert name not in open_dataset(folder, edits=edits).split("train").images.names
    assert cache.cache_folder().is_dir()
