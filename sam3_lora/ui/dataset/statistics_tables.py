"""The numbers of the charts of a dataset's statistics, as rows of tables."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sam3_lora.data.doctor import Histogram, Statistics

Rows = list[dict[str, object]]
MAX_ROWS = 500  # categories or image sizes


def category_rows(statistics: Statistics) -> Rows:
    """The objects of each category in each split, the most frequent category first."""
    by_split = statistics.objects_per_category
    total = sum(map(Counter, by_split.values()), Counter[str]())
    return [
        {"Category": name, "Objects": count}
        | {f"In {split}": counts.get(name, 0) for split, counts in by_split.items()}
        for name, count in total.most_common(MAX_ROWS)
    ]


def place_rows(statistics: Statistics) -> Rows:
    """The mean share of objects, in percent, that cover a position in each ninth of the image."""
    cells = [np.array_split(rows, 3, axis=1) for rows in np.array_split(np.asarray(statistics.heat_map), 3)]
    rows: Rows = []
    for name, row in zip(("Top", "Middle", "Bottom"), cells, strict=True):
        left, center, right = (round(100 * float(cell.mean()), 1) for cell in row)
        rows.append({"% of objects": name, "Left": left, "Center": center, "Right": right})
    return rows


def histogram_rows(histogram: Histogram, unit: str, scale: float = 1.0) -> Rows:
    """The objects in each bin that has any.

    Args:
        histogram: of the objects.
        unit: of the edges as they are shown.
        scale: what the edges are multiplied by.
    """
    edges = [float(f"{scale * edge:.3g}") for edge in histogram.edges]
    bins = zip(edges[:-1], edges[1:], histogram.counts, strict=True)
    return [{f"From ({unit})": low, f"To ({unit})": high, "Objects": count} for low, high, count in bins if count]


def count_rows(statistics: Statistics) -> Rows:
    """How many images have so many objects."""
    return [{"Objects": objects, "Images": images} for objects, images in sorted(statistics.objects_per_image.items())]


def image_size_rows(statistics: Statistics) -> Rows:
    """How many images have which size, the most frequent first."""
    sizes = list(statistics.image_sizes.items())[:MAX_ROWS]
    return [{"Width": width, "Height": height, "Images": images} for (width, height), images in sizes]
