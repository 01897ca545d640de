"""Prompts every image of a folder for the same phrases; images that cannot be read are skipped with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3_lora.data.folders import IMAGE_SUFFIXES, is_litter
from sam3_lora.data.images import read_image
from sam3_lora.errors import DataError
from sam3_lora.files import user_path
from sam3_lora.predict.export import FoundImage, found_image
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.references import Reference
from sam3_lora.predict.routing import Routing
from sam3_lora.predict.tiled.choice import TilesChoice, cut_as
from sam3_lora.structures import VISUAL

MIN_SCORE, MAX_OBJECTS = 0.05, 50  # lowest threshold, and objects per phrase before post-processing


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read."""

    name: str
    why: str  # one sentence


@dataclass(frozen=True)
class FolderPrediction:
    """An image and what was found in it."""

    found: FoundImage
    pixels: np.ndarray  # (H, W, 3) uint8 RGB


def images_in(folder: str | Path) -> list[Path]:
    """The image files in a folder and its subfolders, by their suffixes, sorted by name.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    root = user_path(folder)
    if not os.path.isdir(root):  # unlike Path.is_dir, never raises: the name may be too long
        raise DataError(f"Expected a folder of images, but there is none at {root}", "Check the path")
    found = []
    for where, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        images = (name for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        found += [Path(where, name) for name in images if not is_litter(name)]
    if not found:
        raise DataError(
            f"Expected images in the folder {root}, but found none", "Put JPEG, PNG, TIFF, WebP or AVIF files there"
        )
    return found


def predict_images(
    predictor: Predictor,
    paths: Sequence[Path],
    root: Path,
    phrases: Sequence[str],
    config: PostprocessConfig,
    thresholds: Mapping[str, float] | None = None,
    *,
    strength: float | None = None,
    routing: Routing | None = None,
    tiles: TilesChoice = "predictor",
    references: Sequence[Reference] = (),
    lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008, it holds no state
) -> Iterator[FolderPrediction | Skipped]:
    """Prompts one image after the other.

    Args:
        predictor: with the adapter, if there is one.
        paths: of the images.
        root: the folder that the images' names are relative to.
        phrases: noun phrases, such as "pothole".
        config: post-processing steps.
        thresholds: minimum scores of phrases that do not take the one of `config`.
        strength: of the adapter; None leaves it as it is.
        routing: see :meth:`sam3_lora.predict.predictor.Predictor.prompt`.
        tiles: how large images are cut; "predictor" as it does it.
        references: objects on other images that are looked for, with the phrases or without.
        lock: held while the model is at work, and released between two images.
    """
    # What post-processing drops by its score anyway needs no mask.
    own, asked = thresholds or {}, phrases or (VISUAL,)
    minimum = {phrase.strip(): max(MIN_SCORE, own.get(phrase.strip(), config.threshold)) for phrase in asked}
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            pixels = read_image(path)
        except DataError as error:
            yield Skipped(name, f"{error.message}.")
            continue
        with lock:
            if strength is not None:
                predictor.strength = strength
            predictor.set_image(pixels)
            with cut_as(predictor, tiles):
                use_presence = config.use_presence
                results = predictor.prompt(phrases, minimum, MAX_OBJECTS, references or None, use_presence, routing)
        size_hw = pixels.shape[0], pixels.shape[1]
        yield FolderPrediction(found_image(name, size_hw, postprocess_all(results, config, thresholds)), pixels)
