"""Where the tiles of an image are: a grid of overlapping windows. Numbers only, without images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from sam3_lora.config import DataConfig
from sam3_lora.config.fields import AUTO, MAX_TILE, MAX_TILE_OVERLAP, MIN_TILE, MIN_TILE_OVERLAP, TILE_OVERLAP

MIN_VISIBLE = 0.2  # share of an object's mask that makes what is left of it an object


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image, in pixels of the size that its annotations refer to.

    Attributes:
        left, top, width, height: of the part, inside the image.
        image_hw: height and width of the whole image.
    """

    left: int
    top: int
    width: int
    height: int
    image_hw: tuple[int, int]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Its height and width."""
        return self.height, self.width

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom); right and bottom are exclusive."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self.size_hw == self.image_hw

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Its part of the image's pixels (H, W, ...), which may have another size than the annotations refer to."""
        height, width = pixels.shape[:2]
        down, right = height / self.image_hw[0], width / self.image_hw[1]
        top, left = round(self.top * down), round(self.left * right)
        bottom = max(top + 1, round((self.top + self.height) * down))
        end = max(left + 1, round((self.left + self.width) * right))
        return pixels[top:bottom, left:end]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How images are cut.

    Attributes:
        size: side of a tile, in pixels of the image.
        overlap: of neighboring tiles, at least, as a share of the size.
    """

    size: Annotated[int, msgspec.Meta(ge=MIN_TILE, le=MAX_TILE)]
    overlap: Annotated[float, msgspec.Meta(ge=MIN_TILE_OVERLAP, le=MAX_TILE_OVERLAP)] = TILE_OVERLAP

    def windows(self, size_hw: tuple[int, int]) -> list[Window]:
        """The tiles of an image, row by row.

        They cover the image, are all of one size, and are spread evenly: neighbors overlap by at least the overlap, and
        none reaches beyond the image. Along an axis that is no longer than a tile there is one, as long as the image.

        Args:
            size_hw: the image's height and width in pixels.
        """
        height, width = (min(side, self.size) for side in size_hw)
        return [
            Window(left, top, width, height, size_hw)
            for top in self._starts(size_hw[0])
            for left in self._starts(size_hw[1])
        ]

    def count(self, size_hw: tuple[int, int]) -> int:
        """How many tiles an image has."""
        return len(self._starts(size_hw[0])) * len(self._starts(size_hw[1]))

    def cuts(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image has more than one tile."""
        return max(size_hw) > self.size

    def _starts(self, side: int) -> list[int]:
        room = side - self.size
        if room <= 0:
            return [0]
        step = max(1, int(self.size * (1 - self.overlap)))
        steps = -(-room // step)
        return [number * room // steps for number in range(steps + 1)]


def tiling_of(data: DataConfig) -> Tiling | None:
    """How a run cuts its images; None if it does not. data: its size of tiles is not auto."""
    assert data.tiles != AUTO, "expected settings without auto"
    return Tiling(data.tiles, data.tile_overlap) if data.tiles else None


def visible_boxes(boxes_xywh: np.ndarray, windows: list[Window]) -> tuple[np.ndarray, np.ndarray]:
    """How much of boxes is in windows.

    Args:
        boxes_xywh: (N, 4) in pixels of the image; width and height above zero.
        windows: T of them.

    Returns:
        Visible area in pixels, float (T, N); and the area that makes what is visible an object, (T, N), see
        :func:`enough`.
    """
    starts, sides = boxes_xywh[:, :2], boxes_xywh[:, 2:]
    corners = np.array([window.box_xyxy for window in windows], dtype=np.float64).reshape(-1, 4)
    low = np.maximum(corners[:, None, :2], starts)
    high = np.minimum(corners[:, None, 2:], starts + sides)
    visible = (high - low).clip(0).prod(-1)
    return visible, enough(sides.prod(1), sides, corners[:, None, 2:] - corners[:, None, :2])


def enough(area: np.ndarray, sides: np.ndarray, window_sides: np.ndarray) -> np.ndarray:
    """The visible area of an object that makes it one in a window: a fifth, of one larger than the window less.

    What fills a window of a surface, or runs through it of a crack, is an object of the window.

    Args:
        area: of the object, pixels.
        sides: (..., 2) width and height of its box, pixels.
        window_sides: (..., 2) width and height of the window.
    """
    share: np.ndarray = np.minimum(1, window_sides / sides).prod(-1)
    wanted: np.ndarray = MIN_VISIBLE * area * share
    return wanted
