"""The demo dataset can be made again, the same from the same seed, and what ships is small."""

import runpy

import pytest

from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset

SCRIPT = ASSETS.parent / "scripts" / "make_demo_dataset.py"


def make(folder, seed: int) -> dict[str, bytes]:
    """Two images and their annotation file, by name."""
    runpy.run_path(str(SCRIPT))["write_split"](folder / "train", 2, (seed, 0))
    return {path.name: path.read_bytes() for path in (folder / "train").iterdir()}


def test_same_seed_same_dataset_and_another_seed_another(tmp_path):
    first = make(tmp_path / "a", seed=3)
    assert len(first) == 3
    assert first == make(tmp_path / "b", seed=3)
    assert not set(first.values()) & set(make(tmp_path / "c", seed=4).values())
    dataset = open_dataset(tmp_path / "a")
    assert {finding.kind for finding in dataset.findings} <= {"unused-category"}
    assert dataset.split("train").num_objects >= 2


def test_what_ships_is_as_large_as_promised():
    dataset = open_dataset("demo")
    assert [len(split.images) for split in dataset.splits.values()] == [64, 24]
    assert sum(path.stat().st_size for path in dataset.root.rglob("*")) <= 6 * 2**20


@pytest.mark.parametrize("split", ["train", "valid"])
def test_images_show_one_several_or_none_of_the_categories(split):
    shown = [{item.category for item in image.annotations} for image in open_dataset("demo").split(split).images]
    assert {len(categories) for categories in shown} >= {0, 1, 2, 3}
