"""The pictures of a run's samples folder: the same images at each evaluation, to watch the run learn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_INDEX = "samples.jsonl"


@dataclass(frozen=True)
class Sample:
    """One image as the model saw it after a step; step 0 is the base model.

    path: a PNG with what was found drawn in; found: objects with a score of at least 0.5; objects: how
    many are annotated.
    """

    step: int
    image: str
    path: Path
    found: int
    objects: int


def write_sample(
    folder: Path, step: int, position: int, image: str, picture: np.ndarray, found: int, objects: int
) -> None:
    """Stores a picture, uint8 (H, W, 3) RGB, and its line in the index. Raises OSError."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:08d}-{position}.png"
    partial = path.with_suffix(".tmp")
    Image.fromarray(picture).save(partial, format="PNG")
    partial.replace(path)
    line = json.dumps({"step": step, "image": image, "path": path.name, "found": found, "objects": objects})
    with (folder / _INDEX).open("a", encoding="utf-8") as file:
        file.write("\n" + line)  # in front: half a line, left by a process that was killed, must not swallow this one


def read_samples(folder: Path) -> list[Sample]:
    """All samples by step, then in the order of the images; a step that was done again counts once."""
    try:
        lines = (folder / _INDEX).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found: dict[str, Sample] = {}
    for line in lines:
        try:
            values = json.loads(line)
            sample = Sample(**{**values, "path": folder / values["path"]})
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        found[sample.path.name] = sample
    return [found[name] for name in sorted(found) if found[name].path.is_file()]
