"""Counts what a dataset holds, in a form that a chart can show and that stays small for any dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3_lora.data.records import Split

CELLS = 24  # a side of the heat map
# Shares of the image's area, four bins per power of ten; and width / height, four bins per doubling.
SHARE_EDGES = tuple(float(f"{10 ** (power / 4):.4g}") for power in range(-24, 1))
ASPECT_EDGES = tuple(float(f"{2 ** (power / 4):.4g}") for power in range(-16, 17))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fall into bins; values beyond the edges count in the outermost bins."""

    edges: tuple[float, ...]  # ascending
    counts: tuple[int, ...]  # counts[i]: values in [edges[i], edges[i + 1])
    median: float | None  # None without values


@dataclass(frozen=True, slots=True)
class Statistics:
    """The images and objects of a dataset in numbers; crowds are not counted.

    Attributes:
        images: split -> images.
        objects_per_category: split -> category -> objects, with every category of the split.
        crowds_per_category: split -> category -> crowd regions, which no other number counts.
        object_shares: area of the mask, or else of the box, over that of the image.
        aspect_ratios: width over height of boxes.
        objects_per_image: number of objects -> images with that many.
        image_sizes: (width, height) in pixels -> images, most frequent first.
        heat_map: CELLS rows from top to bottom of CELLS shares in [0, 1]: the share of objects whose box covers the
            cell, with all images scaled to one square as for the model.
    """

    images: dict[str, int]
    objects_per_category: dict[str, dict[str, int]]
    crowds_per_category: dict[str, dict[str, int]]
    object_shares: Histogram
    aspect_ratios: Histogram
    objects_per_image: dict[int, int]
    image_sizes: dict[tuple[int, int], int]
    heat_map: tuple[tuple[float, ...], ...]

    @property
    def num_objects(self) -> int:
        """Objects in all splits."""
        return sum(sum(counts.values()) for counts in self.objects_per_category.values())


def count(splits: Sequence[Split], mask_areas: Sequence[np.ndarray]) -> Statistics:
    """The statistics of images.

    Args:
        splits: with the images to count.
        mask_areas: of all their annotations, split by split, in pixels, NaN without a mask: float64 arrays that
            together have one value per annotation.
    """
    tables = [split.images for split in splits]
    is_object = np.concatenate([~table.iscrowd for table in tables])
    boxes = np.concatenate([table.boxes_xywh for table in tables])[is_object]
    sizes = np.concatenate([table.sizes_wh[table.image_index] for table in tables])[is_object]
    areas = np.concatenate([np.zeros(0), *mask_areas])[is_object]
    shares = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas) / sizes.prod(axis=1)
    per_image = [np.bincount(table.image_index[~table.iscrowd], minlength=len(table)) for table in tables]
    image_sizes = Counter((width, height) for table in tables for width, height in table.sizes_wh.tolist())
    return Statistics(
        images={split.name: len(split.images) for split in splits},
        objects_per_category={split.name: split.objects_per_category() for split in splits},
        crowds_per_category={split.name: split.crowds_per_category() for split in splits},
        object_shares=_histogram(shares, SHARE_EDGES),
        aspect_ratios=_histogram(boxes[:, 2] / boxes[:, 3], ASPECT_EDGES),
        objects_per_image=dict(sorted(Counter(np.concatenate(per_image).tolist()).items())),
        image_sizes=dict(image_sizes.most_common()),
        heat_map=_heat_map(boxes, sizes),
    )


def _heat_map(boxes: np.ndarray, sizes: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """boxes: (N, 4) in pixels; sizes: (N, 2), width and height of the image of each."""
    scale = CELLS / sizes
    first = np.clip(np.floor(boxes[:, :2] * scale), 0, CELLS - 1).astype(int)
    beyond = np.clip(np.ceil((boxes[:, :2] + boxes[:, 2:]) * scale), 1, CELLS).astype(int)
    beyond = np.maximum(beyond, first + 1)
    # The change of the number of boxes over a cell from the cells above and to the left (2-D difference array).
    steps = np.zeros((CELLS + 1, CELLS + 1), np.int64)
    for rows, columns, step in ((first, first, 1), (first, beyond, -1), (beyond, first, -1), (beyond, beyond, 1)):
        np.add.at(steps, (rows[:, 1], columns[:, 0]), step)
    covers = steps.cumsum(axis=0).cumsum(axis=1)[:CELLS, :CELLS]
    heat = covers / max(len(boxes), 1)
    return tuple(tuple(round(value, 4) for value in row) for row in heat.tolist())


def _histogram(values: np.ndarray, edges: tuple[float, ...]) -> Histogram:
    values = values.astype(np.float32)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    return Histogram(edges, tuple(counts.tolist()), float(f"{np.median(values):.4g}") if len(values) else None)
