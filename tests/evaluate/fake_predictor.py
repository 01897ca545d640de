"""A predictor that knows the ground truth and degrades it as configured, so that a whole evaluation takes a second."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sam3_lora.data.dataset import ImageRecord, Split, load_image
from sam3_lora.data.prompts import phrase_of
from sam3_lora.evaluate.predictions import ImagePredictions, asked_of, predict_image
from sam3_lora.evaluate.validation_loss import ImageTargets
from sam3_lora.masks import decode_segmentation
from sam3_lora.predict.chunks import Chunk
from sam3_lora.predict.postprocess import PhraseResult


class FakePredictor:
    """Predicts the objects of a split.

    base, adapter: by phrase, (recall, the share of images with a false positive); the adapter's at any strength.
    """

    def __init__(self, split: Split, base: dict[str, tuple], adapter: dict[str, tuple] | None = None) -> None:
        self._known = {load_image(image).tobytes(): (number, image) for number, image in enumerate(split.images)}
        self._quality = {0.0: base, 1.0: adapter}
        self.has_adapter = adapter is not None
        self.strength = 1.0 if self.has_adapter else 0.0
        self.processor = None
        self.tiles = None
        self.cuts = False
        self.prompts: list[tuple[int, float, tuple[str, ...]]] = []

    def set_image(self, pixels: np.ndarray, size_hw: tuple[int, int], backbone: None) -> None:
        self._number, self._image = self._known[pixels.tobytes()]
        assert size_hw == (self._image.height, self._image.width)

    def prompt_in_chunks(self, phrases, thresholds: dict[str, float]) -> Iterator[Chunk]:
        self.prompts.append((self._number, self.strength, tuple(phrases)))
        for phrase in phrases:  # without detections: there is no loss
            yield Chunk({phrase: self._predict(phrase).above(thresholds[phrase])}, None)

    def _predict(self, phrase: str) -> PhraseResult:
        image, rng = self._image, np.random.default_rng((self._number, len(phrase)))
        recall, false = self._quality.get(self.strength, self._quality[1.0]).get(phrase, (0.0, 0.0))
        found = [
            (
                decode_segmentation(one.segmentation, (image.height, image.width)),
                one.bbox_xywh,
                0.6 + 0.3 * rng.random(),
            )
            for one in image.annotations
            if phrase_of(one.category) == phrase and one.segmentation is not None and rng.random() < recall
        ]
        if rng.random() < false:
            mask = np.zeros((image.height, image.width), dtype=bool)
            mask[2:12, 2:12] = True
            found.append((mask, (2, 2, 10, 10), 0.55 + 0.2 * rng.random()))
        found.sort(key=lambda one: -one[2])
        boxes = [(x, y, x + w, y + h) for _, (x, y, w, h), _ in found]
        return PhraseResult(
            phrase,
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            np.array([score for *_, score in found], dtype=np.float32),
            np.array([mask for mask, *_ in found], dtype=np.float32).reshape(-1, image.height, image.width) * 2 - 1,
            (image.height, image.width),
        )


def predicted(predictor: FakePredictor, image: ImageRecord, phrases: tuple[str, ...], **options) -> ImagePredictions:
    """The predictions for an image; options: of :func:`asked_of`."""
    return predict_image(predictor, image, asked_of(image, phrases, **options), load_image(image))[0]


class FakeLoss:
    """A validation loss for predictors without a model."""

    def __init__(self, *_: object) -> None:
        pass

    def next_image(self, image: ImageRecord) -> ImageTargets:
        return ImageTargets((), None)

    def add(self, *_: object) -> None:
        pass

    def is_waiting(self, model: str) -> bool:
        return False

    def mean(self, model: str) -> float:
        return 100.0


class NothingKept:
    def __init__(self, predictor: FakePredictor) -> None: ...

    def of(self, image: ImageRecord) -> None: ...

    def close(self) -> None: ...


def without_model(patch: pytest.MonkeyPatch) -> None:
    """Evaluations go without a model: a made-up validation loss, and nothing kept of images."""
    patch.setattr("sam3_lora.evaluate.evaluation.SplitLoss", FakeLoss)
    patch.setattr("sam3_lora.evaluate.evaluation.KeptFeatures", NothingKept)


@pytest.fixture
def no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation loss for predictors without a model, and nothing kept of images."""
    without_model(monkeypatch)
