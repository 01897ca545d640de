"""Faults of masks and their boxes, in the split "train"."""

from __future__ import annotations

from sam3_lora.demo.faults.fault import Case, FaultTable

_fault = FaultTable("train")
FAULTS = _fault.faults


@_fault("box-mask-mismatch")
def _box_elsewhere(case: Case) -> None:
    """A box lies in a corner of the image, its mask elsewhere."""
    case.first["bbox"] = [2, 2, 30, 30]
    case.first["segmentation"] = case.rectangle((200, 200, 100, 100))


@_fault("empty-mask")
def _no_pixel(case: Case) -> None:
    """A mask's run lengths hold no pixel."""
    case.first["segmentation"] = case.rectangle((0, 0, 0, 0))


@_fault("polygon-crosses-itself")
def _hourglass(case: Case) -> None:
    """A polygon is drawn like an hourglass."""
    case.first["bbox"] = [100, 100, 200, 200]
    case.first["segmentation"] = [[100, 100, 300, 100, 100, 300, 300, 300]]


@_fault("polygon-short-part")
def _two_points(case: Case) -> None:
    """A polygon has a second part of two points."""
    case.first["bbox"] = [100, 100, 200, 200]
    case.first["segmentation"] = [[100, 100, 300, 100, 300, 300, 100, 300], [20, 20, 40, 40]]
