"""Tiles cover an image, are of one size and overlap enough, whatever the sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sam3_lora.config.fields import MAX_TILE_OVERLAP, MIN_TILE, MIN_TILE_OVERLAP
from sam3_lora.tiles import Tiling, Window

sides = st.integers(1, 5_000)
tilings = st.builds(Tiling, st.integers(MIN_TILE, 4_000), st.floats(MIN_TILE_OVERLAP, MAX_TILE_OVERLAP))


@given(tilings, sides, sides)
def test_tiles_cover_the_image_with_one_size_and_the_overlap(tiling: Tiling, height: int, width: int) -> None:
    windows = tiling.windows((height, width))
    assert len(windows) == tiling.count((height, width))
    assert (len(windows) > 1) == tiling.cuts((height, width))
    assert {window.size_hw for window in windows} == {(min(height, tiling.size), min(width, tiling.size))}
    for axis, side in ((0, width), (1, height)):
        starts = sorted({window.box_xyxy[axis] for window in windows})
        length = min(side, tiling.size)
        assert starts[0] == 0
        assert starts[-1] + length == side
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (length - steps >= int(tiling.overlap * tiling.size)).all()
        # Not more tiles than the overlap needs: one less would not reach, by steps of whole pixels.
        step = int(tiling.size * (1 - tiling.overlap))
        assert len(starts) == 1 or (len(starts) - 2) * step < side - length


@given(st.data())
def test_a_window_of_an_image_of_another_scale_is_the_same_part(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    window = Window(left, top, width - left, height - top, (height, width))
    pixels = np.arange(height * width).reshape(height, width)
    part = window.crop(pixels)
    assert np.array_equal(window.crop(pixels.repeat(3, 0).repeat(2, 1))[::3, ::2], part)
    assert np.array_equal(part, pixels[top:, left:])
