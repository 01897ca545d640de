"""Duplicate images, in the split "copies"."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam3_lora.demo.faults.fault import Case, FaultTable

_fault = FaultTable("copies")
FAULTS = _fault.faults


def _sound_image(case: Case, split: str) -> Path:
    """The file of the sound image of a split."""
    return next((case.split.folder.parent / split).glob("sound.*"))


def _save_again(case: Case, source: Path) -> None:
    shutil.copyfile(source, case.path)
    case.put(case.picture(), ".jpg", quality=50)


@_fault("identical-images")
def _copied(case: Case) -> None:
    """An image is a copy of another one."""
    shutil.copyfile(_sound_image(case, "copies"), case.path)


@_fault("similar-images")
def _saved_again(case: Case) -> None:
    """An image is another one, saved again at a lower quality."""
    _save_again(case, _sound_image(case, "copies"))


@_fault("leaked-images")
def _copied_from_train(case: Case) -> None:
    """An image is a copy of one in the split "train"."""
    shutil.copyfile(_sound_image(case, "train"), case.path)


@_fault("leaked-similar")
def _saved_again_from_another_split(case: Case) -> None:
    """An image is one of the split "categories", saved again at a lower quality."""
    _save_again(case, _sound_image(case, "categories"))
