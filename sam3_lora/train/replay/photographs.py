"""A folder of unlabelled photographs, as images to replay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam3_lora.data.images import size_on_disk
from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import ConfigError
from sam3_lora.predict.folder import images_in


def photographs(folder: str, limit: int, seed: int) -> list[ImageRecord]:
    """Images of a folder and its subfolders, without annotations.

    Args:
        folder: with images; "~" is the home folder.
        limit: how many, at most, drawn by the seed.
        seed: of the run.

    Raises:
        ConfigError: no folder is given.
        DataError: there is none, or it has no image.
    """
    if not folder:
        raise ConfigError(
            "replay.source is folder, but replay.folder is empty",
            "Give a folder of photographs, or set replay.source to own",
        )
    paths = images_in(folder)
    chosen = sorted(np.random.default_rng(seed).permutation(len(paths))[:limit].tolist())
    return [_record(number, paths[number]) for number in chosen]


def _record(number: int, path: Path) -> ImageRecord:
    """Loading the image says more where its size cannot be read."""
    header = size_on_disk(path)
    width, height = (1, 1) if header is None else header.shown_size
    return ImageRecord(number, path.name, path, width, height, ())
