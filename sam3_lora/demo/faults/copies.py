"""Duplicate images, in the split "copies"."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam3_lora.demo.faults.fault import Case


def _sound_image(case: Case, split: str) -> Path:
    """The file of the sound image of a split."""
    return next((case.split.folder.parent / split).glob("sound.*"))


def _save_again(case: Case, source: Path) -> None:
    shutil.copyfile(source, case.path)
    case.put(case.picture(), ".jpg", quality=50)


def identical_images(case: Case) -> None:
    """An image is a copy of another one."""
    shutil.copyfile(_sound_image(case, "copies"), case.path)


def similar_images(case: Case) -> None:
    """An image is another one, saved again at a lower quality."""
    _save_again(case, _sound_image(case, "copies"))


def leaked_images(case: Case) -> None:
    """An image is a copy of one in the split "train"."""
    shutil.copyfile(_sound_image(case, "train"), case.path)


def leaked_similar(case: Case) -> None:
    """An image is one of the split "categories", saved again at a lower quality."""
    _save_again(case, _sound_image(case, "categories"))
