"""The sample predictions of a run: pictures of the same images at each evaluation, with an index."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from sam3_lora.files import MB, LineFile, atomic_file, read_file

_INDEX = "samples.jsonl"
_MAX_BYTES = 100 * MB  # of the index: a few hundred bytes a picture


@dataclass(frozen=True)
class Sample:
    """Predictions on one image."""

    step: int  # after which they were made; 0 is the base model
    image: str  # its file name
    path: Path  # a PNG with the predictions drawn in; the index has its name only
    found: int  # predictions with a score of at least 0.5
    objects: int  # ground truth


def write_sample(
    folder: Path, step: int, position: int, image: str, picture: np.ndarray, found: int, objects: int
) -> None:
    """Stores a picture and its line in the index. Raises OSError.

    Args:
        folder: the run's samples folder.
        step: after which the predictions were made.
        position: of the image among the samples of a step, from 0.
        image: its file name.
        picture: uint8 (H, W, 3) RGB.
        found: predictions with a score of at least 0.5.
        objects: ground truth.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:08d}-{position}.png"
    with atomic_file(path) as file:
        Image.fromarray(picture).save(file, format="PNG")
    line = msgspec.json.encode(Sample(step, image, path, found, objects), enc_hook=lambda path: path.name)
    with LineFile(folder / _INDEX) as index:
        index.write(line)


def read_samples(folder: Path) -> list[Sample]:
    """All samples by step, then in the order of the images; a step that was repeated counts once."""
    try:
        lines = read_file(folder / _INDEX, _MAX_BYTES).splitlines()
    except OSError:
        return []
    samples: dict[Path, Sample] = {}
    for text in lines:
        try:
            sample = msgspec.json.decode(text, type=Sample, dec_hook=lambda _, name: folder / Path(name).name)
        except (msgspec.MsgspecError, RecursionError):
            continue
        samples[sample.path] = sample
    return [samples[path] for path in sorted(samples) if os.path.isfile(path)]
