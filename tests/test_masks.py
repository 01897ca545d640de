"""Every segmentation format gives the bitmap drawn by hand; whatever is none raises DataError."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from sam3_lora.errors import DataError
from sam3_lora.masks import (
    decode_resized,
    decode_segmentation,
    decode_window,
    encode_crop_rle,
    encode_rle,
    mask_area,
    mask_to_box_xyxy,
)
from tests.factories import ellipse, uncompressed_rle


def resize_masks(masks: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """Bitmaps bool (N, H, W) at another size, as SAM 3's training resizes them (sam3/train/transforms/basic.py)."""
    resized = torch.nn.functional.interpolate(masks[:, None].to(torch.uint8), size=size_hw, mode="nearest")
    return resized[:, 0].bool()


BY_HAND = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 1, 0, 1],
    ],
    dtype=bool,
)


def test_uncompressed_run_lengths_go_down_the_columns():
    assert uncompressed_rle(BY_HAND) == {"size": [3, 5], "counts": [4, 2, 1, 2, 5, 1]}
    segmentation = {"size": [3, 5], "counts": [4, 2, 1, 2, 5, 1]}
    np.testing.assert_array_equal(decode_segmentation(segmentation, (3, 5)), BY_HAND)


def test_polygon_fills_whole_pixels():
    mask = decode_segmentation([[1, 1, 3, 1, 3, 3, 1, 3]], (3, 5))
    np.testing.assert_array_equal(mask, BY_HAND & (np.arange(5) < 4))


def test_several_polygons_are_one_object_and_degenerate_ones_are_ignored():
    square, other = [1, 1, 3, 1, 3, 3, 1, 3], [4, 2, 5, 2, 5, 3, 4, 3]
    np.testing.assert_array_equal(decode_segmentation([square, [0, 0, 1, 1], other], (3, 5)), BY_HAND)


def test_polygon_that_overhangs_is_cut_off():
    assert decode_segmentation([[-2, -2, 7, -2, 7, 5, -2, 5]], (3, 5)).all()


@pytest.mark.parametrize("seed", range(30))
def test_compressed_run_lengths_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 60, 2))
    mask = rng.random((height, width)) < rng.choice([0, 0.02, 0.5, 0.98, 1])
    rle = encode_rle(mask)
    assert isinstance(rle["counts"], str)
    np.testing.assert_array_equal(decode_segmentation(rle, (height, width)), mask)
    np.testing.assert_array_equal(coco_mask.decode(rle).astype(bool), mask)
    np.testing.assert_array_equal(decode_segmentation(uncompressed_rle(mask), (height, width)), mask)


@pytest.mark.parametrize("seed", range(40))
def test_what_skips_the_whole_bitmap_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    size_hw = height, width = tuple(int(side) for side in rng.integers(1, 90, 2))
    if seed % 2:
        corners = np.sort(rng.uniform(-0.2, 1.2, (2, 2)), axis=0) * (width, height)
        (x0, y0), (x1, y1) = corners.tolist()
        segmentation = [[x0, y0, x1, y0, x1, y1], [x0, y0, x0, y1, x1, y1]]
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        np.testing.assert_array_equal(decode_segmentation(segmentation, size_hw), coco_mask.decode(rle).astype(bool))
    else:
        segmentation = encode_rle(rng.random(size_hw) < rng.choice([0, 0.02, 0.5, 1]))
    mask = decode_segmentation(segmentation, size_hw)
    assert mask_area(segmentation, size_hw) == mask.sum()
    for to_hw in ((17, 17), (168, 168), (17, 168), (168, 17), size_hw):
        resized = resize_masks(torch.from_numpy(mask)[None], to_hw)[0].numpy()
        np.testing.assert_array_equal(decode_resized(segmentation, size_hw, to_hw), resized)


def test_long_runs_survive_compression():
    mask = np.zeros((1000, 1500), dtype=bool)
    mask[3:990, 2:1400] = True
    np.testing.assert_array_equal(decode_segmentation(encode_rle(mask), mask.shape), mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "polygon",
        3,
        [],
        {},
        [[1, 1, 2, 2]],
        [[1, 1, 2, 2, 3]],
        [[1, 1, 2, 2, 3, float("nan")]],
        [[1, 1, 2, 2, 3, 10**400]],
        [[1, 1, 2, 2, "3", []]],
        [1, 1, 2, 2, 3, 3],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {"size": [3, 5]},
        {"size": [5, 3], "counts": [15]},
        {"size": [3, 5], "counts": [14]},
        {"size": [3, 5], "counts": [-1, 16]},
        {"size": [3, 5], "counts": [2**62, 2**62, 2**63]},
        {"size": [3, 5], "counts": [10**30]},
        {"size": [3, 5], "counts": [7.5, 7.5]},
        {"size": [3, 5], "counts": ""},
        {"size": [3, 5], "counts": "\x01"},
        {"size": [3, 5], "counts": "é"},
        {"size": [3, 5], "counts": "oooooooooooooooooo"},
        {"size": "35", "counts": [15]},
    ],
)
def test_what_is_no_segmentation_raises(segmentation):
    with pytest.raises(DataError):
        decode_segmentation(segmentation, (3, 5))


def test_random_text_as_run_lengths_never_breaks_memory():
    # pycocotools' own decoder crashes the whole process on such text.
    rng = np.random.default_rng(0)
    for _ in range(3000):
        counts = bytes(rng.integers(33, 127, rng.integers(0, 40)).astype(np.uint8)).decode()
        try:
            mask = decode_segmentation({"size": [20, 30], "counts": counts}, (20, 30))
        except DataError:
            continue
        assert mask.shape == (20, 30)


def test_box_is_tight_and_exclusive():
    assert mask_to_box_xyxy(BY_HAND) == (1, 1, 5, 3)
    assert mask_to_box_xyxy(np.zeros((4, 4), bool)) is None
    assert mask_to_box_xyxy(np.ones((4, 6), bool)) == (0, 0, 6, 4)


@pytest.mark.parametrize("size_hw", [(48, 64), (96, 128), (24, 31), (112, 112)])
def test_resized_mask_keeps_its_place(size_hw):
    mask = ellipse((48, 64), (40, 20), (15, 10))
    resized = decode_resized(encode_rle(mask), mask.shape, size_hw)
    assert resized.dtype == bool and resized.shape == size_hw
    scale = np.array((size_hw[1] / 64, size_hw[0] / 48) * 2)
    expected = np.array(mask_to_box_xyxy(mask)) * scale
    np.testing.assert_allclose(mask_to_box_xyxy(resized), expected, atol=1)


@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_crops_and_windows_are_those_of_the_whole_bitmap(height: int, width: int, data: st.DataObject) -> None:
    mask = data.draw(arrays(bool, (height, width)))
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    left, right = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    window, area = decode_window(encode_rle(mask), (height, width), (left, top, right, bottom))
    assert np.array_equal(window, mask[top:bottom, left:right])
    assert area == mask.sum()
    only = np.zeros_like(mask)
    only[top:bottom, left:right] = window
    assert encode_crop_rle(window, (top, left), (height, width)) == encode_rle(only)
