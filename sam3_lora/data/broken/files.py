"""Faults of the image files, in the split "files"."""

from __future__ import annotations

from sam3_lora.data.broken.fault import Case, FaultTable

_fault = FaultTable("files")
FAULTS = _fault.faults


@_fault("image-missing")
def _not_there(case: Case) -> None:
    """An image that the file names is not there."""
    case.path.unlink()


@_fault("image-unreadable")
def _no_image(case: Case) -> None:
    """A file with an image's name holds text."""
    case.path.write_text("Not Found\n", encoding="utf-8")


@_fault("size-mismatch")
def _of_another_size(case: Case) -> None:
    """The annotation file gives an image twice its true size."""
    case.image["width"] *= 2
    case.image["height"] *= 2
