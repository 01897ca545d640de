"""Converts segmentations (polygons, RLE) to bitmaps and back; resizing and IoU of bitmaps."""

from __future__ import annotations

import functools
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam3_lora.errors import DataError

REEXPORT = "Export the annotations again, or correct this one"


def decode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """A COCO segmentation as a bitmap.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]`` in pixels, or a run-length dict
            ``{"size": [H, W], "counts": ...}`` whose counts are a list or COCO's compressed text.
        size_hw: the image's size in pixels.

    Returns:
        bool (H, W).

    Raises:
        DataError: it is neither, or does not fit an image of this size.
    """
    return _whole(*decode_columns(segmentation, size_hw), size_hw)


def decode_resized(segmentation: Any, size_hw: tuple[int, int], to_hw: tuple[int, int]) -> np.ndarray:
    """:func:`decode_segmentation` at another size, by nearest neighbor as in SAM 3's training.

    The bitmap of the whole image is never made.

    Source: ``sam3/train/transforms/basic.py``, which resizes target masks with ``mode="nearest"``.

    Args:
        segmentation, size_hw: as for :func:`decode_segmentation`.
        to_hw: the size of the bitmap.

    Returns:
        bool (h, w).

    Raises:
        DataError: as :func:`decode_segmentation` does.
    """
    return _whole(*decode_columns(segmentation, size_hw, to_hw), to_hw)


def decode_columns(
    segmentation: Any, size_hw: tuple[int, int], to_hw: tuple[int, int] | None = None
) -> tuple[np.ndarray, int]:
    """The columns of :func:`decode_segmentation` that hold all of it; or of :func:`decode_resized`, given `to_hw`.

    Its cost grows with the width of the object, not of the image.

    Args:
        segmentation: as for :func:`decode_segmentation`.
        size_hw: the image's size in pixels.
        to_hw: the size of the bitmap, if it is resized.

    Returns:
        bool (H, C), and the index of the first of these columns.
    """
    runs = _runs(segmentation, size_hw)
    ends = np.cumsum(runs)[: len(runs) - len(runs) % 2]  # up to the last run of ones
    if not len(ends):
        return np.zeros(((to_hw or size_hw)[0], 0), bool), 0
    if to_hw is None or to_hw == size_hw:
        return _columns(ends, size_hw[0])
    grid = _grid(size_hw, to_hw)
    columns, first = _columns(grid.ends(ends), to_hw[0])
    if len(grid.copies) == to_hw[1]:  # as where the bitmap shrinks
        return columns, first
    copies = grid.copies[first : first + columns.shape[1]]
    return np.repeat(columns, copies, axis=1), int(grid.copies[:first].sum())


def decode_window(
    segmentation: Any, size_hw: tuple[int, int], box_xyxy: tuple[int, int, int, int]
) -> tuple[np.ndarray, int]:
    """The part of :func:`decode_segmentation` in a window; the rest is never made.

    Args:
        segmentation, size_hw: as for :func:`decode_segmentation`.
        box_xyxy: of the window, inside the image, in pixels; right and bottom are exclusive.

    Returns:
        bool (bottom - top, right - left), and the number of pixels of the whole mask.

    Raises:
        DataError: as :func:`decode_segmentation` does.
    """
    runs, (left, top, right, bottom), height = _runs(segmentation, size_hw), box_xyxy, size_hw[0]
    ends = np.cumsum(runs)[: len(runs) - len(runs) % 2].clip(left * height, right * height) - left * height
    window = np.zeros((bottom - top, right - left), bool)
    if len(ends):
        columns, first = _columns(ends, height)
        window[:, first : first + columns.shape[1]] = columns[top:bottom]
    return window, int(runs[1::2].sum())


def _columns(ends: np.ndarray, height: int) -> tuple[np.ndarray, int]:
    """The columns bool (height, C) that hold all runs of ones, and the index of the first.

    Args:
        ends: where the runs end that alternate from zeros to ones, int64 (R,), R even; they go down the columns.
        height: of a column.
    """
    first, stop = int(ends[0]) // height, -(-int(ends[-1]) // height)
    values = np.zeros(height * (stop - first), bool)
    # Not by pycocotools: with counts that do not add up its decoder writes outside its memory.
    filled = np.repeat(np.arange(len(ends)) % 2 == 1, np.diff(ends, prepend=first * height))
    values[: len(filled)] = filled
    return values.reshape(stop - first, height).T, first


@dataclass(frozen=True)
class _Grid:
    """The pixels that nearest neighbor takes of a bitmap, numbered down the columns it takes, each column once."""

    height: int  # of the bitmap
    rows: int  # that are taken
    rows_above: np.ndarray  # (height + 1,) rows that are taken above each
    columns_before: np.ndarray  # (width + 1,) columns that are taken before each
    copies: np.ndarray  # of each taken column

    def ends(self, ends: np.ndarray) -> np.ndarray:
        """Ends of runs over the bitmap as ends of runs over the taken pixels: the number of those before each."""
        columns, rows = np.divmod(ends, self.height)
        before = self.columns_before[columns]
        is_taken = self.columns_before[np.minimum(columns + 1, len(self.columns_before) - 1)] > before
        return before * self.rows + np.where(is_taken, self.rows_above[rows], 0)


@functools.lru_cache(maxsize=64)
def _grid(size_hw: tuple[int, int], to_hw: tuple[int, int]) -> _Grid:
    rows = _nearest(size_hw[0], to_hw[0])
    columns, copies = np.unique(_nearest(size_hw[1], to_hw[1]), return_counts=True)
    return _Grid(
        height=size_hw[0],
        rows=len(rows),
        rows_above=np.searchsorted(rows, np.arange(size_hw[0] + 1)),
        columns_before=np.searchsorted(columns, np.arange(size_hw[1] + 1)),
        copies=copies,
    )


def mask_area(segmentation: Any, size_hw: tuple[int, int]) -> int:
    """The number of pixels of :func:`decode_segmentation`, without the bitmap. Raises DataError as it does."""
    return int(_runs(segmentation, size_hw)[1::2].sum())


def check_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> None:
    """Raises the DataError that :func:`decode_segmentation` would, in a fraction of its time."""
    _parse(segmentation, size_hw)


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """A bitmap bool (H, W) as COCO's compressed run lengths, ready for JSON: {"size": [H, W], "counts": str}."""
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_crop_rle(crop: np.ndarray, top_left: tuple[int, int], size_hw: tuple[int, int]) -> dict[str, Any]:
    """:func:`encode_rle` of a bitmap that is zero outside of a crop; the bitmap itself is never made.

    Args:
        crop: bool (h, w).
        top_left: row and column of its first pixel in the bitmap.
        size_hw: of the bitmap.
    """
    from pycocotools import mask as coco_mask

    (top, left), height, pixels = top_left, size_hw[0], size_hw[0] * size_hw[1]
    # Where zeros and ones change along each column, which begins and ends with zeros.
    padded = np.zeros((crop.shape[1], crop.shape[0] + 2), np.int8)
    padded[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(padded, axis=1))
    changes = (left + column) * height + top + row
    # A run that goes on in the next column does not change there.
    is_pair = changes[1:] == changes[:-1]
    changes = changes[~(np.append(is_pair, False) | np.insert(is_pair, 0, False))] if len(changes) else changes
    ends = [*changes.tolist(), *([pixels] if not len(changes) or changes[-1] < pixels else [])]
    counts = np.diff(ends, prepend=0).tolist()
    rle = coco_mask.frPyObjects({"size": list(size_hw), "counts": counts}, *size_hw)
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def mask_to_box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The tight box of a bitmap bool (H, W), in pixels; right and bottom are exclusive. None if it is empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _whole(columns: np.ndarray, first: int, size_hw: tuple[int, int]) -> np.ndarray:
    bitmap = np.zeros(size_hw, bool)
    bitmap[:, first : first + columns.shape[1]] = columns
    return bitmap


def _nearest(side: int, size: int) -> np.ndarray:
    """Which rows or columns of `side` torch's nearest neighbor takes for `size` ones."""
    import torch

    if side >= 2**24:  # float32 could not name them
        raise DataError(f"Expected an image of at most {2**24:,} pixels a side, got {side:,}", "Scale the image down")
    places = torch.arange(side, dtype=torch.float32)[None, None]
    return torch.nn.functional.interpolate(places, size=size, mode="nearest")[0, 0].long().numpy()


def _runs(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """Run lengths int64 (R,) of any valid segmentation. Raises DataError."""
    shape = _parse(segmentation, size_hw)
    if isinstance(shape, np.ndarray):
        return shape
    from pycocotools import mask as coco_mask

    rle = coco_mask.frPyObjects([points.tolist() for points in shape], *size_hw)
    return _runs_of_text((rle[0] if len(rle) == 1 else coco_mask.merge(rle))["counts"])


def _parse(segmentation: Any, size_hw: tuple[int, int]) -> list[np.ndarray] | np.ndarray:
    """A segmentation as valid polygons float64 (2K,), or as valid run lengths int64 (R,). Raises DataError."""
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, size_hw)
    if isinstance(segmentation, list):
        return _polygons(segmentation, size_hw)
    raise DataError(
        f"Expected polygons or a run-length dict as segmentation, got {_shown(segmentation)}",
        "Write [[x, y, x, y, ...], ...] in pixels, or {'size': [height, width], 'counts': ...}",
    )


def _polygons(polygons: list, size_hw: tuple[int, int]) -> list[np.ndarray]:
    """The polygons of at least 3 points; others are left out."""
    proper = [points for polygon in polygons if len(points := _points(polygon)) >= 6]
    if not proper:
        raise DataError("Expected a polygon of at least 3 points, got none", REEXPORT)
    for points in proper:
        for values, side in ((points[0::2], size_hw[1]), (points[1::2], size_hw[0])):
            # pycocotools walks every edge pixel by pixel: a stray corner at 1e9 would exhaust the memory.
            if values.min() < -side or values.max() > 2 * side:
                raise DataError(
                    f"Expected a polygon inside the image ({size_hw[1]} x {size_hw[0]} pixels), "
                    f"but it reaches {values[np.abs(values).argmax()]:g}",
                    REEXPORT,
                )
    return proper


def _points(polygon: Any) -> np.ndarray:
    """A polygon's numbers, float64; raises DataError unless they are finite x, y pairs."""
    if not isinstance(polygon, list):
        raise DataError(f"Expected a list of polygons, found {_shown(polygon)} in it", "Write [[x, y, x, y, ...], ...]")
    points = _flat(polygon, np.float64)
    if points is None or not np.isfinite(points).all():
        raise DataError(f"Expected a polygon of finite numbers, got {_shown(polygon)}", REEXPORT)
    if len(points) % 2:
        raise DataError(f"Expected x, y pairs in a polygon, got {len(points)} numbers", REEXPORT)
    return points


def _flat(numbers: list, dtype: type | None = None) -> np.ndarray | None:
    """A list of numbers as an array; None if it is anything else."""
    try:
        array = np.array(numbers, dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.ndim == 1 else None


def _run_lengths(rle: dict, size_hw: tuple[int, int]) -> np.ndarray:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, (list, tuple)) or list(size) != list(size_hw):
        raise DataError(
            f"Expected run lengths of size [{size_hw[0]}, {size_hw[1]}] (height, width) like the image, "
            f"got size {_shown(size)}",
            "Export the annotations again for images of this size",
        )
    runs = _runs_of_text(counts) if isinstance(counts, (str, bytes)) else _runs_of_list(counts)
    pixels = size_hw[0] * size_hw[1]
    # Compared one by one first: the sum of absurd runs could overflow into the right number.
    if (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise DataError(f"Expected run lengths that add up to {pixels} pixels, got others", REEXPORT)
    return runs


def _runs_of_list(counts: Any) -> np.ndarray:
    runs = _flat(counts) if isinstance(counts, list) else None
    if runs is None or runs.dtype.kind not in "iu":
        raise DataError(f"Expected run lengths as a list of integers or as text, got {_shown(counts)}", REEXPORT)
    return runs.astype(np.int64)


def _runs_of_text(counts: str | bytes) -> np.ndarray:
    """Run lengths int64 from COCO's compressed text.

    Each character carries 6 bits (its code minus 48): five of the number, lowest first, and one that
    says another character follows; the last one's fifth bit is the sign. From the fourth number on,
    numbers are differences to the one before the previous.
    """
    raw = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    last = (codes & 0x20) == 0
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or not last[-1]:
        raise DataError("Expected COCO's compressed run lengths, got text that is none", REEXPORT)
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > 8:  # 40 bits hold every run of any image
        raise DataError("Expected run lengths of an image, got larger numbers", REEXPORT)
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & 0x1F) << shifts, starts)
    negative = (codes[last] & 0x10) != 0
    numbers -= negative.astype(np.int64) << (5 * lengths)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


_shown = reprlib.repr  # short, however large the value
