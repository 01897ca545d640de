"""The same phrases asked of a folder of images, one after the other; what cannot be read is told and passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3_lora.errors import DataError
from sam3_lora.predict.export import FoundImage, found_image
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor, read_image

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MIN_SCORE, MAX_OBJECTS = 0.05, 50  # what is asked for; the refinement then takes its part of it


@dataclass(frozen=True)
class Skipped:
    """An image that nothing was asked of. why: one sentence."""

    name: str
    why: str


@dataclass(frozen=True)
class ImagePredictions:
    """An image that was asked. pixels (H, W, 3) uint8, for whoever wants to draw on them now."""

    found: FoundImage
    pixels: np.ndarray


def images_in(folder: str | Path) -> list[Path]:
    """The image files in a folder and in those below it, by their endings, in the order of their names.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    root = Path(os.path.expanduser(folder))
    if not os.path.isdir(root):  # unlike Path.is_dir, never raises: the name may be too long
        raise DataError(f"Expected a folder of images, but there is none at {root}", "Check the path")
    found = [
        Path(where, name)
        for where, folders, names in os.walk(root)
        if not folders.sort()  # None: sorts the folders that are walked into next
        for name in sorted(names)
        if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
    ]
    if not found:
        endings = ", ".join(ending[1:] for ending in IMAGE_ENDINGS)
        raise DataError(f"Expected images in the folder {root}, but found none", f"Give one with files of {endings}")
    return found


def predict_images(
    predictor: Predictor,
    paths: Sequence[Path],
    root: Path,
    phrases: Sequence[str],
    how: PostprocessConfig,
    thresholds: Mapping[str, float] | None = None,
    *,
    strength: float | None = None,
    turn: Callable[[], AbstractContextManager] = nullcontext,
) -> Iterator[ImagePredictions | Skipped]:
    """Asks the phrases of one image after the other.

    Args:
        predictor: with the adapter, if there is one.
        root: the folder that the images' names are told from.
        how, thresholds: as :func:`sam3_lora.predict.postprocess.postprocess_all` takes them.
        strength: of the adapter; None leaves it as it is.
        turn: held while the model is at work, and not between two images.
    """
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            pixels = read_image(path)
        except DataError as error:
            yield Skipped(name, f"{error.message}.")
            continue
        with turn():
            if strength is not None:
                predictor.strength = strength
            predictor.set_image(pixels)
            results = predictor.prompt(phrases, MIN_SCORE, MAX_OBJECTS)
        yield ImagePredictions(found_image(name, pixels.shape[:2], postprocess_all(results, how, thresholds)), pixels)
