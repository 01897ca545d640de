"""Predictions on the same few validation images at each evaluation, drawn into pictures in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from sam3_lora.data.images import load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.records import Annotation, ImageRecord, Split
from sam3_lora.draw import category_colors, outlines, overlay
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_resized
from sam3_lora.predict.export import to_draw
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.samples import write_sample
from sam3_lora.runs.writer import RunWriter, SilentWriter
from sam3_lora.tiles import tiling_of
from sam3_lora.train.setup import Setup

IMAGES = 4  # where the settings name none
PHRASES = 6  # per image: first those of its objects, then others of the dataset
SCORE_THRESHOLD = 0.5
_MIN_SIDE = 480  # pixels of a picture, also for a model that sees less: labels would hide the objects


class SampleWriter:
    """Writes a run's sample predictions.

    Args:
        folder: where they go.
        setup: the run; its model is used in place.
        report: gets a line for each image that cannot be loaded, and a note where pictures cannot be written, which is
            no reason to end a run.
    """

    def __init__(self, folder: Path, setup: Setup, report: RunWriter | SilentWriter) -> None:
        self._folder = folder
        self._setup = setup
        self._report = report
        split = setup.data.splits.valid or setup.data.splits.train
        own = setup.config.data.category_phrases
        self._known_phrases = tuple(dict.fromkeys(phrase_of(name, own) for name in setup.data.splits.categories))
        self._images = choose_images(split, setup.config.output.sample_images, report.log)

    def write(self, step: int, base: bool = False) -> None:
        """Predicts all images; leaves the model in eval mode.

        Args:
            step: after which this is.
            base: without the adapter.
        """
        # A new one each time: a predictor caches features, which training changes.
        predictor = Predictor(self._setup.model.base, self._setup.model.peft, self._setup.config.training.precision)
        predictor.strength = 0.0 if base else 1.0
        predictor.tiles = tiling_of(self._setup.config.data)
        try:
            for position, image in enumerate(self._images):
                self._write_one(predictor, step, position, image)
        except OSError as error:
            reason = error.strerror or error
            message = f"The samples cannot be written to {self._folder}: {reason}. The run goes on without."
            self._report.note(step, "samples-not-written", message)
        finally:
            predictor.strength = 1.0

    def _write_one(self, predictor: Predictor, step: int, position: int, image: ImageRecord) -> None:
        try:
            whole = load_image(image)
        except DataError as error:
            self._report.log(f"No sample of {image.file_name}: {error}")
            return
        own = self._setup.config.data.category_phrases
        objects = [item for item in image.annotations if not item.iscrowd]
        phrases = sample_phrases((phrase_of(item.category, own) for item in objects), self._known_phrases)
        pixels = _at_most(whole, max(self._setup.model.base.image_size, _MIN_SIDE))
        if predictor.tiles is None:
            predictor.set_image(pixels)
        else:
            predictor.set_image(whole, (image.height, image.width))
        found = predictor.prompt(phrases, threshold=SCORE_THRESHOLD)
        results = {
            phrase: one.resized((pixels.shape[0], pixels.shape[1]))
            for phrase, one in postprocess_all(found, PostprocessConfig(SCORE_THRESHOLD)).items()
        }
        predictions = to_draw(results, category_colors(self._known_phrases).__getitem__)
        picture = overlay(outlines(pixels, _gt_masks(objects, image, pixels.shape[:2])), predictions, boxes=False)
        write_sample(self._folder, step, position, image.file_name, picture, len(predictions), len(objects))


def choose_images(split: Split, names: Iterable[str], log: Callable[[str], None]) -> tuple[ImageRecord, ...]:
    """The images of these names, or the first few with objects if there are none.

    Args:
        split: the images to choose from.
        names: file names.
        log: gets a line for names that the split does not have.
    """
    by_name = {image.file_name: image for image in split.images}
    if missing := [name for name in names if name not in by_name]:
        log(f"output.sample_images names images that are not in the split '{split.name}': {', '.join(missing)}.")
    chosen = [by_name[name] for name in names if name in by_name]
    with_objects = [image for image in split.images if any(not item.iscrowd for item in image.annotations)]
    return tuple(chosen or with_objects[:IMAGES])


def sample_phrases(present: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The prompts of an image: the phrases of its objects, then others, which should find nothing."""
    return tuple(phrase for phrase in dict.fromkeys((*present, *known)) if phrase)[:PHRASES]


def _gt_masks(objects: Iterable[Annotation], image: ImageRecord, size_hw: tuple[int, int]) -> list[np.ndarray]:
    """The masks of objects that have one, at a picture's size; none where a segmentation cannot be read."""
    masks = []
    for item in objects:
        if item.segmentation is not None:
            with suppress(DataError):
                masks.append(decode_resized(item.segmentation, (image.height, image.width), size_hw))
    return masks


def _at_most(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scaled down to at most `side` pixels: hardly more than the model sees, so that the pictures stay small."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)
