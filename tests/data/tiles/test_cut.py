"""Tiles as images: what each shows of the objects, which of them are learned from, and that nothing gets lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_lora.config import Negatives
from sam3_lora.data.content_hashes import ContentHashes
from sam3_lora.data.images import load_image
from sam3_lora.data.prompts import image_phrases, phrases_for
from sam3_lora.data.samples import SampleDataset
from sam3_lora.data.tiles.choose import choose_tiles
from sam3_lora.data.tiles.cut import EMPTY_SHARE, TiledImages, cut
from sam3_lora.data.vision_features import identity_of
from sam3_lora.masks import decode_segmentation, mask_to_box_xyxy
from sam3_lora.tiles import MIN_VISIBLE, Tiling
from tests.ellipses import NAMES, SIZE_HW, Ellipse, split_of
from tests.factories import ellipse, tiny_processor

TILING = Tiling(100, 0.2)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(20, 380), st.floats(20, 280), st.floats(2, 150), st.floats(2, 110))
def test_each_tile_shows_what_is_there_of_an_object(tmp_path_factory, x, y, rx, ry):
    record = split_of(tmp_path_factory.mktemp("tiles"), [[(1, (x, y), (rx, ry))]]).images[0]
    whole = ellipse(SIZE_HW, (x, y), (rx, ry))
    put_together = np.zeros(SIZE_HW, bool)
    for window in TILING.windows(SIZE_HW):
        tile, expected = cut(record, window), window.crop(whole)
        assert (tile.width, tile.height) == (window.width, window.height)
        known = image_phrases(tile, NAMES)
        if tile.annotations:
            (one,) = tile.annotations
            mask = decode_segmentation(one.segmentation, (tile.height, tile.width))
            assert np.array_equal(mask, expected)
            left, top, width, height = one.bbox_xywh
            assert (left, top, left + width, top + height) == mask_to_box_xyxy(mask)
            put_together[window.top : window.top + window.height, window.left : window.left + window.width] |= mask
        elif expected.any():
            assert expected.sum() < MIN_VISIBLE * whole.sum()
            assert not known.lacks("pothole"), "what is there in part is no negative"
        else:
            assert known.lacks("pothole")
            assert not known.lacks("pothole") or not expected.any()
    assert (put_together & whole).sum() >= 0.5 * whole.sum()
    if max(rx, ry) < 9:  # smaller than the overlap
        assert np.array_equal(put_together, whole)


def test_a_phrase_of_which_only_a_fragment_is_left_is_no_negative_and_not_exhaustive(tmp_path):
    whole, fragment = (1, (50.0, 50.0), (20.0, 20.0)), (1, (110.0, 50.0), (15.0, 15.0))
    record = split_of(tmp_path, [[whole, fragment, (0, (110.0, 20.0), (15.0, 15.0))]]).images[0]
    tile = cut(record, TILING.windows(SIZE_HW)[0])
    positives, negatives = phrases_for(tile, NAMES, Negatives(2), np.random.default_rng(0))
    assert [(one.phrase, len(one.annotations), one.exhaustive) for one in positives] == [("pothole", 1, False)]
    assert "crack" not in negatives
    assert "joint" in negatives


def test_an_object_with_a_box_alone_is_learned_where_it_is_whole(tmp_path):
    objects: list[Ellipse] = [
        (1, (50.0, 50.0), (10.0, 10.0)),
        (0, (98.0, 50.0), (10.0, 10.0)),
        (2, (200.0, 150.0), (90.0, 90.0)),
    ]
    split = split_of(tmp_path, [objects], masks=False)
    record, windows = split.images[0], TILING.windows(SIZE_HW)
    first = cut(record, windows[0])
    assert [(one.category, one.bbox_xywh) for one in first.annotations] == [("pothole", (40.0, 40.0, 20.0, 20.0))]
    assert not image_phrases(first, NAMES).lacks("crack")
    tiles = TiledImages(split.images, TILING)
    assert tiles.never_seen == 1, "the joint is larger than any tile"
    assert {one.category for tile in tiles for one in tile.annotations} == {"pothole", "crack"}


def test_tiles_without_objects_are_a_bounded_share_and_empty_images_keep_one(tmp_path):
    objects: list[Ellipse] = [(1, (50.0 + 80 * number, 50.0), (8.0, 8.0)) for number in range(4)]
    split = split_of(tmp_path, [objects, [], [], objects])
    tiles = TiledImages(split.images, TILING)
    full = [number for number, tile in enumerate(tiles) if tile.annotations]
    empty = [number for number in range(len(tiles)) if number not in full]
    assert {1, 2} == {int(tiles.image_index[number]) for number in empty if tiles.image_index[number] in (1, 2)}
    assert 2 <= len(empty) <= max(2, EMPTY_SHARE * len(tiles))
    assert np.array_equal(tiles.num_objects, [len(tile.annotations) for tile in tiles])
    assert np.array_equal(tiles.num_phrases, [len(image_phrases(tile, NAMES).objects) for tile in tiles])
    assert tiles.left_out + len(tiles) == 4 * TILING.count(SIZE_HW)
    assert [tile.window for tile in TiledImages(split.images, TILING)] == [tile.window for tile in tiles]
    assert [tile.window for tile in tiles[2:4]] == [tiles[2].window, tiles[3].window]
    assert tiles.never_seen == 0


@pytest.mark.parametrize("file_scale", [1, 2])
def test_samples_hold_the_pixels_and_targets_of_tiles(tmp_path, file_scale):
    split = split_of(
        tmp_path, [[(1, (50.0, 50.0), (20.0, 12.0)), (0, (300.0, 200.0), (30.0, 30.0))]], file_scale=file_scale
    )
    tiles = TiledImages(split.images, TILING)
    samples = SampleDataset(tiles, tiny_processor(), NAMES, Negatives(2), seed=0)
    assert len(samples) == len(tiles)
    whole = load_image(split.images[0])
    for number, tile in enumerate(tiles):
        assert np.array_equal(load_image(tile), whole if tile.window is None else tile.window.crop(whole))
        sample = samples[number]
        assert sample.targets.counts.sum() == len(tile.annotations)
        assert sample.image.window == tile.window
        if len(sample.targets.boxes):
            assert (sample.targets.boxes >= 0).all()
            assert (sample.targets.boxes <= 1).all()
    hashes = ContentHashes(tmp_path / "hashes")
    assert len({identity_of(tile, hashes) for tile in tiles}) == len(tiles), "the vision cache tells tiles apart"


@pytest.mark.parametrize(
    ("radius", "count", "reason"), [(60.0, 3, "visible"), (4.0, 3, "small-objects"), (14.0, 40, "many-objects")]
)
def test_tiles_are_chosen_by_the_sizes_and_numbers_of_objects(tmp_path, radius, count, reason):
    rng = np.random.default_rng(0)
    centers = rng.uniform((radius, radius), (400 - radius, 300 - radius), (count, 2)).tolist()
    split = split_of(tmp_path, [[(1, (x, y), (radius, radius)) for x, y in centers]])
    choice = choose_tiles(split.images, side=168, queries=32, overlap=0.2)
    assert choice.reason == reason
    assert (choice.size > 0) == (reason != "visible")
    if reason == "small-objects":
        assert 2 * radius * 168 / choice.size >= 15.9
    if reason == "many-objects":
        tiles = TiledImages(split.images, Tiling(choice.size, 0.2))
        assert tiles.num_objects.max() < count
