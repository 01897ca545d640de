"""Counts what a dataset holds, in a form that a chart can show and that stays small for any dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sam3_lora.data.records import ImageRecord, Split

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
        object_shares: area of the mask, or else of the box, over that of the image.
        aspect_ratios: width over height of boxes.
        objects_per_image: number of objects -> images with that many.
        image_sizes: (width, height) in pixels -> images, most frequent first.
        heat_map: CELLS rows from top to bottom of CELLS shares in [0, 1]: the share of objects whose box covers the
            cell, with all images scaled to one square as for the model.
    """

    images: dict[str, int]
    objects_per_category: dict[str, dict[str, int]]
    object_shares: Histogram
    aspect_ratios: Histogram
    objects_per_image: dict[int, int]
    image_sizes: dict[tuple[int, int], int]
    heat_map: tuple[tuple[float, ...], ...]

    @property
    def num_objects(self) -> int:
        """Objects in all splits."""
        return sum(sum(counts.values()) for counts in self.objects_per_category.values())


@dataclass
class StatisticsBuilder:
    """Counts image by image."""

    images: Counter[str] = field(default_factory=Counter)
    objects: dict[str, Counter[str]] = field(default_factory=dict)
    shares: list[np.ndarray] = field(default_factory=list)
    aspects: list[np.ndarray] = field(default_factory=list)
    per_image: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    # The change of the number of boxes over a cell from the cells above and to the left (2-D difference array).
    steps: np.ndarray = field(default_factory=lambda: np.zeros((CELLS + 1, CELLS + 1), np.int64))

    def begin(self, split: Split) -> None:
        """Takes in the categories of a split, before its images."""
        self.images[split.name] = 0
        self.objects[split.name] = Counter(dict.fromkeys(split.categories, 0))

    def add(self, split: str, record: ImageRecord, areas: Sequence[int | None]) -> None:
        """Takes in one image.

        Args:
            split: its split.
            record: the image.
            areas: of the masks of its annotations in pixels, None without a mask.
        """
        objects = [(item, area) for item, area in zip(record.annotations, areas, strict=True) if not item.iscrowd]
        self.images[split] += 1
        self.per_image[len(objects)] += 1
        self.sizes[record.width, record.height] += 1
        if not objects:
            return
        self.objects[split].update(item.category for item, _ in objects)
        boxes = np.array([item.bbox_xywh for item, _ in objects], dtype=np.float64)
        box_areas = boxes[:, 2] * boxes[:, 3]
        known = np.array([area is not None for _, area in objects])
        masks = np.array([area or 0 for _, area in objects], dtype=np.float64)
        self.shares.append((np.where(known, masks, box_areas) / (record.width * record.height)).astype(np.float32))
        self.aspects.append((boxes[:, 2] / boxes[:, 3]).astype(np.float32))
        scale = CELLS / np.array([record.width, record.height])
        first = np.clip(np.floor(boxes[:, :2] * scale), 0, CELLS - 1).astype(int)
        beyond = np.clip(np.ceil((boxes[:, :2] + boxes[:, 2:]) * scale), 1, CELLS).astype(int)
        beyond = np.maximum(beyond, first + 1)
        for rows, columns, step in (
            (first[:, 1], first[:, 0], 1),
            (first[:, 1], beyond[:, 0], -1),
            (beyond[:, 1], first[:, 0], -1),
            (beyond[:, 1], beyond[:, 0], 1),
        ):
            np.add.at(self.steps, (rows, columns), step)

    def build(self) -> Statistics:
        """The statistics of all images taken in."""
        covers = self.steps.cumsum(axis=0).cumsum(axis=1)[:CELLS, :CELLS]
        objects = sum(count.total() for count in self.objects.values())
        heat = covers / max(objects, 1)
        return Statistics(
            images=dict(self.images),
            objects_per_category={split: dict(counts) for split, counts in self.objects.items()},
            object_shares=_histogram(self.shares, SHARE_EDGES),
            aspect_ratios=_histogram(self.aspects, ASPECT_EDGES),
            objects_per_image=dict(sorted(self.per_image.items())),
            image_sizes=dict(self.sizes.most_common()),
            heat_map=tuple(tuple(round(value, 4) for value in row) for row in heat.tolist()),
        )


def _histogram(parts: list[np.ndarray], edges: tuple[float, ...]) -> Histogram:
    if not parts:
        return Histogram(edges, (0,) * (len(edges) - 1), None)
    values = np.concatenate(parts)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    return Histogram(edges, tuple(counts.tolist()), float(f"{np.median(values):.4g}"))
