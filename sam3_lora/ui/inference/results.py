"""The predictions for one prompt: of the base model, and of an adapter at several strengths."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sam3_lora.errors import Sam3LoraError
from sam3_lora.predict.routing import Routing
from sam3_lora.predict.tiled.choice import TilesChoice, cut_as
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.components.images import data_url, fitted_hw
from sam3_lora.ui.inference.concepts import known
from sam3_lora.ui.resources import SharedPredictor

if TYPE_CHECKING:
    from sam3_lora.predict.exemplars import Exemplars
    from sam3_lora.predict.postprocess import PhraseResult
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.predict.references import Reference

# Everything that scores at least this is kept, so that the threshold can change without running a model again.
MIN_THRESHOLD = 0.05
MAX_PER_PHRASE = 200
SENT_SIZE = 1400  # pixels of the longer side of the image that is sent to the browser
_KEPT_STRENGTHS = 6
_COVER_SIZE = 512  # pixels of the longer side at which the area of overlapping masks is counted
Answering = tuple[float, Routing | None]  # the adapter's strength, and which phrases it answers; None: all


@dataclass(frozen=True)
class ExemplarBox:
    """A box drawn on the image: an object like this one (positive), or not like this one (negative)."""

    box_xyxy: tuple[float, float, float, float]  # in pixels of the image
    positive: bool


@dataclass(frozen=True)
class BoxedImage:
    """An image on which boxes were drawn."""

    name: str
    boxes: tuple[ExemplarBox, ...]
    image: np.ndarray = field(compare=False, repr=False)  # (H, W, 3) uint8

    def as_reference(self) -> Reference:
        """As a prompt takes it."""
        from sam3_lora.predict.references import Reference

        return Reference(self.image, exemplars_of(self.boxes))


def exemplars_of(boxes: Sequence[ExemplarBox]) -> Exemplars:
    """Boxes as a prompt takes them."""
    from sam3_lora.predict.exemplars import Exemplars

    corners = np.array([box.box_xyxy for box in boxes], np.float32)
    return Exemplars(corners, np.array([box.positive for box in boxes], dtype=bool))


@dataclass(frozen=True)
class Prompt:
    """What is looked for in which image, by which model."""

    image_name: str
    phrases: tuple[str, ...]
    boxes: tuple[ExemplarBox, ...]
    model: ModelChoice
    tiles: TilesChoice = "predictor"  # how large images are cut; not with boxes on this one
    references: tuple[BoxedImage, ...] = ()  # other images with boxes


@dataclass(frozen=True)
class Predictions:
    """What one model predicts for a prompt."""

    results: dict[str, PhraseResult]  # by phrase
    seconds: float  # from setting the image to the last phrase
    outlines: dict[tuple, str] = field(default_factory=dict)  # SVG paths of masks that were drawn before


@dataclass
class Comparison:
    """The predictions of both models for one prompt."""

    prompt: Prompt
    image: np.ndarray  # (H, W, 3) uint8
    base: Predictions
    adapters: dict[Answering, Predictions] = field(default_factory=dict)  # the last one used at the end

    @cached_property
    def image_url(self) -> str:
        """The image as a data URL, of at most SENT_SIZE pixels."""
        return data_url(self.image, SENT_SIZE)


def compare(shared: SharedPredictor, prompt: Prompt, image: np.ndarray, answering: Answering) -> Comparison:
    """Runs the base model and, if the prompt names one, its adapter.

    Args:
        shared: the base model with that adapter.
        prompt: what to look for.
        image: (H, W, 3) uint8.
        answering: how the adapter is used.

    Raises:
        Sam3LoraError: there is neither a phrase nor a box, or memory is short.
    """
    comparison = Comparison(prompt, image, _predict(shared, prompt, image, 0.0))
    if prompt.model.adapter:
        with_adapter(shared, comparison, answering)
    return comparison


def with_adapter(shared: SharedPredictor, comparison: Comparison, answering: Answering) -> Predictions:
    """The adapter's predictions, routed or not; nothing runs twice. Raises as :func:`compare`.

    Args:
        shared: the base model with the adapter.
        comparison: keeps the last predictions.
        answering: strength 0 is the base model, 1 the adapter as trained.
    """
    known = comparison.adapters.pop(answering, None)
    if known is None:
        strength, routing = answering
        if strength == 0:
            known = comparison.base
        elif routing is None or not comparison.prompt.phrases:
            known = _predict(shared, comparison.prompt, comparison.image, strength)
        else:
            known = _routed(shared, comparison, strength, routing)
    comparison.adapters[answering] = known
    for oldest in list(comparison.adapters)[:-_KEPT_STRENGTHS]:
        del comparison.adapters[oldest]
    return known


def _routed(shared: SharedPredictor, comparison: Comparison, strength: float, routing: Routing) -> Predictions:
    """The adapter's predictions for the phrases it was taught; the base model's, which are known, for the others."""
    prompt, base = comparison.prompt, comparison.base
    taught = tuple(filter(routing.is_taught, prompt.phrases))
    of_adapter = comparison.adapters.get((strength, None))
    if of_adapter is None and taught:
        of_adapter = _predict(shared, replace(prompt, phrases=taught), comparison.image, strength)
    chosen = {phrase: of_adapter.results[phrase] for phrase in taught} if of_adapter else {}
    return Predictions(base.results | chosen, of_adapter.seconds if of_adapter else base.seconds, base.outlines)


def _predict(shared: SharedPredictor, prompt: Prompt, image: np.ndarray, strength: float) -> Predictions:
    import torch

    with shared.lock:
        predictor = shared.predictor
        try:
            predictor.strength = strength  # whoever prompts next sets another one
            start = time.perf_counter()
            predictor.set_image(image)
            with cut_as(predictor, prompt.tiles):
                results = _run_prompt(predictor, prompt, image)
            return Predictions(results, time.perf_counter() - start)
        except torch.OutOfMemoryError:
            raise Sam3LoraError(
                "The GPU has too little free memory to run the model",
                "Pause or stop a run that uses the GPU, or prompt with fewer phrases at once",
            ) from None


def _run_prompt(predictor: Predictor, prompt: Prompt, image: np.ndarray) -> dict[str, PhraseResult]:
    """The objects that score enough without the presence factor, so also with it: both can then be shown."""
    known.make_known(predictor, prompt.phrases)
    exemplars: Exemplars | list[Reference] | None = exemplars_of(prompt.boxes) if prompt.boxes else None
    if prompt.references:  # to which this image is one more
        own = [BoxedImage(prompt.image_name, prompt.boxes, image)] if prompt.boxes else []
        exemplars = [one.as_reference() for one in (*own, *prompt.references)]
    return predictor.prompt(prompt.phrases, MIN_THRESHOLD, MAX_PER_PHRASE, exemplars, use_presence=False)


def best_hidden_score(predictions: Predictions, shown: Mapping[str, PhraseResult]) -> float | None:
    """The highest score of all objects where none is shown; None where one is, or where there is none to show.

    Args:
        predictions: all of the model's.
        shown: what of them is shown, by phrase.
    """
    if any(len(result) for result in shown.values()):
        return None
    best = max((float(result.scores.max()) for result in predictions.results.values() if len(result)), default=0.0)
    return best if best >= MIN_THRESHOLD else None


def counts_table(
    models: Mapping[str, tuple[Predictions, Mapping[str, PhraseResult]]], routed: bool = False
) -> pd.DataFrame:
    """One row per phrase: objects shown, their share of the image and the best score of all, for each model.

    Args:
        models: by the model's short name, all that it predicts and what of that is shown.
        routed: whether the table says who has answered the last one's phrases.
    """
    predictions, _ = next(iter(models.values()))
    rows = []
    for phrase in predictions.results:
        row: dict[str, object] = {"Phrase": phrase}
        for name, (predictions, shown) in models.items():
            result, scores = shown[phrase], predictions.results[phrase].scores
            row[f"{name}: objects"] = len(result)
            row[f"{name}: area %"] = 100 * covered_share(result)
            row[f"{name}: best score"] = float(scores.max()) if len(scores) else None
        if routed:
            row["Answered by"] = predictions.results[phrase].answered_by
        rows.append(row)
    return pd.DataFrame(rows)


def covered_share(result: PhraseResult) -> float:
    """The share of the image that its masks cover, in [0, 1]; where masks overlap it counts once."""
    height, width = result.size_hw
    if len(result) < 2:
        return float(result.areas.sum()) / (height * width)
    size_hw = fitted_hw(result.size_hw, _COVER_SIZE)
    covered = np.zeros(size_hw, bool)
    for crop in replace(result, size_hw=size_hw).mask_crops():
        rows, columns = crop.mask.shape
        covered[crop.top : crop.top + rows, crop.left : crop.left + columns] |= crop.mask
    return float(covered.mean())
