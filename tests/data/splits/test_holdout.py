"""Which images are held out: disjoint, whole groups, about the share of each category, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import Split, open_dataset
from sam3_lora.data.splits.holdout import HeldOut, choose, hold_out, image_categories
from tests.factories import coco, write_split


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pairs_of(categories: list[tuple[int, ...]]) -> np.ndarray:
    """(image, category) pairs of images with these categories."""
    return np.array([(i, c) for i, of_image in enumerate(categories) for c in of_image], np.int64).reshape(-1, 2)


def train_split(folder: Path, **options: object) -> Split:
    write_split(folder / "train", coco(**options))
    return open_dataset(folder).split("train")


def rename(folder: Path, names: dict[str, str]) -> Split:
    """The split after some of its images got other names, in the annotations too."""
    file = folder / "train" / "_annotations.coco.json"
    text = file.read_text()
    for old, new in names.items():
        (folder / "train" / old).rename(folder / "train" / new)
        text = text.replace(f'"{old}"', f'"{new}"')
    file.write_text(text)
    return open_dataset(folder).split("train")


def counts(chosen: np.ndarray, pairs: np.ndarray, categories: int) -> list[int]:
    return np.bincount(pairs[chosen[pairs[:, 0]], 1], minlength=categories).tolist()


def test_each_category_has_its_share_and_rare_ones_stay_in_training() -> None:
    categories = [(0,)] * 200 + [(1,)] * 60 + [(0, 1)] * 40 + [(2,)] * 20 + [(3,)] * 3 + [(4,)] + [()] * 50
    pairs = pairs_of(categories)
    chosen = choose(np.arange(len(categories)), pairs, 0.1, seed=0)
    found = counts(chosen, pairs, 5)
    assert found[0] == pytest.approx(24, abs=2) and found[1] == pytest.approx(10, abs=1)
    assert found[2:] == [2, 0, 0]
    assert chosen[-50:].sum() == 5, "images without objects, too"
    assert chosen.sum() == pytest.approx(37, abs=1)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_datasets_keep_every_category_in_training(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    popularity = rng.pareto(1, 30)
    images = [
        tuple(np.unique(rng.choice(30, size=rng.integers(0, 4), p=popularity / popularity.sum()))) for _ in range(150)
    ]
    groups = rng.integers(0, 100, len(images))
    _, groups = np.unique(groups, return_inverse=True)
    pairs = pairs_of(images)
    chosen = choose(groups, pairs, share, seed)
    assert 0 < chosen.sum() < len(images)
    assert not set(groups[chosen]) & set(groups[~chosen]), "groups stay whole"
    assert set(pairs[~chosen[pairs[:, 0]], 1]) == set(pairs[:, 1])
    assert chosen[pairs[:, 0]].any(), "some image with an object"
    assert np.array_equal(chosen, choose(groups, pairs, share, seed))
    assert not np.array_equal(chosen, choose(groups, pairs, share, seed + 100))


def test_a_large_dataset_of_many_categories_is_quick_and_exact() -> None:
    rng = np.random.default_rng(0)
    images = 20_000
    pairs = np.unique(np.stack([rng.integers(0, images, 60_000), rng.integers(0, 1200, 60_000)], 1), axis=0)
    chosen = choose(np.arange(images), pairs, 0.1, 0)
    assert chosen.mean() == pytest.approx(0.1, abs=0.01)
    of = np.bincount(pairs[:, 1])
    assert (np.bincount(pairs[chosen[pairs[:, 0]], 1], minlength=1200) <= np.floor(of * 0.1 + 0.5)).all()


@pytest.mark.parametrize(
    ("options", "held_out", "obstacle"),
    [
        ({"images": 3, "empty_images": 1}, 0, "few-images"),
        ({"images": 4, "empty_images": 1, "objects": 3}, 1, None),
        ({"images": 1, "empty_images": 9}, 0, "few-objects"),
        ({"images": 2, "empty_images": 8, "objects": 3}, 1, None),
        ({"images": 30, "empty_images": 0, "categories": ("crack",)}, 3, None),
        ({"images": 18, "empty_images": 12}, 3, None),
    ],
)
def test_small_datasets(tmp_path: Path, options: dict[str, object], held_out: int, obstacle: str | None) -> None:
    split = train_split(tmp_path, **options)
    found = hold_out(split, 0.1, 0)
    assert (len(found.images), found.obstacle, found.of) == (held_out, obstacle, len(split.images))
    if not held_out:
        return
    train, valid = found.divide(split)
    assert sorted(train.images.names + valid.images.names) == sorted(split.images.names)
    assert not set(train.images.names) & set(valid.images.names)
    assert valid.num_objects and set(train.categories) == set(split.categories)
    assert {c for c, n in train.objects_per_category().items() if n} == set(split.categories)
    assert valid.name != train.name


def test_the_seed_decides_and_the_share_counts(tmp_path: Path) -> None:
    split = train_split(tmp_path, images=40, empty_images=0)
    assert hold_out(split, 0.1, 0).images == hold_out(split, 0.1, 0).images
    assert hold_out(split, 0.1, 0).images != hold_out(split, 0.1, 1).images
    assert [len(hold_out(split, share, 0).images) for share in (0.01, 0.1, 0.5)] == [1, 4, 20]


def versions(picture: Image.Image) -> list[Image.Image]:
    return [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), picture.rotate(90, expand=True)]


def test_augmented_versions_of_a_photograph_are_held_out_together(tmp_path: Path) -> None:
    """As Roboflow names them; the photographs of two sources may have the same name."""
    split = train_split(tmp_path, images=30, empty_images=0)
    names = split.images.names
    rng = np.random.default_rng(0)
    origin: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for photograph in range(10):
        picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
        for number, version in enumerate(versions(picture)):
            old = names[3 * photograph + number]
            version.resize((64, 48)).save(tmp_path / "train" / old)
            renamed[old] = f"image_{photograph % 5}_png.rf.{photograph}{number}.png"
            origin[renamed[old]] = photograph
    found = hold_out(rename(tmp_path, renamed), 0.2, 0)
    held_out = {origin[name] for name in found.images}
    assert len(found.images) == 3 * len(held_out) == 6


def test_fewer_than_five_photographs_in_many_versions_are_few_images(tmp_path: Path) -> None:
    split = train_split(tmp_path, images=12, empty_images=0)
    for number, name in enumerate(split.images.names):
        source = tmp_path / "train" / split.images.names[number % 4]
        (tmp_path / "train" / name).write_bytes(source.read_bytes())
    assert hold_out(open_dataset(tmp_path).split("train"), 0.1, 0).obstacle == "few-images"


def near_copies(split: Split, folder: Path, group_of: list[int]) -> None:
    """Overwrites the images: those of one group differ by a little noise only."""
    rng = np.random.default_rng(0)
    views = [rng.integers(0, 255, (6, 8, 3), np.uint8) for _ in range(max(group_of) + 1)]
    for name, group in zip(split.images.names, group_of, strict=True):
        picture = Image.fromarray(views[group]).resize((64, 48), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture, np.int16) + rng.integers(-2, 3, (48, 64, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / "train" / name)


def test_near_copies_are_held_out_together(tmp_path: Path) -> None:
    split = train_split(tmp_path, images=40, empty_images=0)
    groups = [number // 2 for number in range(40)]
    near_copies(split, tmp_path, groups)
    found = hold_out(split, 0.2, 0)
    places = [split.images.names.index(name) for name in found.images]
    assert len(places) == 8 and not found.alike
    assert {groups[place] for place in places} == {place // 2 for place in places}
    assert len({place // 2 for place in places}) == 4


def test_one_camera_is_split_all_the_same_and_said(tmp_path: Path) -> None:
    split = train_split(tmp_path, images=30, empty_images=0)
    near_copies(split, tmp_path, [0] * 25 + [1, 2, 3, 4, 5])
    found = hold_out(split, 0.1, 0)
    assert found.alike and len(found.images) == 3


def test_a_moved_dataset_is_recognized_and_another_one_is_not(tmp_path: Path) -> None:
    split = train_split(tmp_path / "one", images=6)
    found = hold_out(split, 0.2, 0)
    assert found.is_of(split)
    assert not found.is_of(train_split(tmp_path / "two", images=6, objects=3))
    (tmp_path / "one").rename(tmp_path / "moved")
    assert found.is_of(open_dataset(tmp_path / "moved").split("train"))


def test_images_are_read_once_and_again_after_a_change(tmp_path: Path, cache: Path) -> None:
    split = train_split(tmp_path / "data", images=8)
    steps: list[str] = []

    def chosen() -> HeldOut:
        steps.clear()
        return hold_out(split, 0.2, 0, lambda share, step: steps.append(step))

    first = chosen()
    assert len(steps) == len(split.images)
    assert chosen() == first and not steps
    path = split.images.paths[0]
    path.write_bytes(path.read_bytes() + b" ")
    assert chosen().images and steps
    for file in cache.glob("*.groups"):
        file.write_bytes(b"damaged")
    assert chosen().images == first.images and steps


def test_crowds_are_no_objects(tmp_path: Path) -> None:
    data = coco(images=6, objects=1, empty_images=0, categories=("crack",))
    for item in data["annotations"][:5]:
        item["iscrowd"] = 1
    write_split(tmp_path / "train", data)
    assert len(image_categories(open_dataset(tmp_path).split("train"))) == 1


def test_a_comparison_that_is_given_up_ends_at_once(tmp_path: Path) -> None:
    split = train_split(tmp_path, images=30)

    def give_up(share: float, step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold_out(split, 0.2, 0, give_up)
    assert len(hold_out(split, 0.2, 0).images) == 6
