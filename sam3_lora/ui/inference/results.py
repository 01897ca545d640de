"""The answers to a question, of the base model and of an adapter at several strengths; asked, kept and counted."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sam3_lora.errors import Sam3LoraError
from sam3_lora.ui.components.images import fit, to_jpeg
from sam3_lora.ui.resources import SharedPredictor

if TYPE_CHECKING:
    from sam3_lora.predict.postprocess import PhraseResult
    from sam3_lora.predict.predictor import Predictor

# Everything that scores at least this is kept, so that the slider can move without asking again.
LOWEST_THRESHOLD = 0.05
MAX_PER_PHRASE = 200
SENT_SIZE = 1400  # pixels of the longer side of the picture that is sent to the browser
_KEPT_STRENGTHS = 6


@dataclass(frozen=True)
class ExemplarBox:
    """A box drawn on the image, in its pixels. positive: an object like this one; otherwise not like this one."""

    left: float
    top: float
    right: float
    bottom: float
    positive: bool


@dataclass(frozen=True)
class Prompt:
    """What is asked of which models. adapter: its name; None asks the base model alone."""

    image_name: str
    phrases: tuple[str, ...]
    boxes: tuple[ExemplarBox, ...]
    base: str
    adapter: str | None
    folder: Path | None


@dataclass(frozen=True)
class Answer:
    """What one model answered. results: by phrase; seconds: from the image to the last phrase."""

    results: dict[str, PhraseResult]
    seconds: float
    outlines: dict[tuple, str] = field(default_factory=dict)  # of masks that were drawn before


@dataclass
class Comparison:
    """The answers to one question. image (H, W, 3) uint8; adapters: by strength, the last one used at the end."""

    question: Prompt
    image: np.ndarray
    base: Answer
    adapters: dict[float, Answer] = field(default_factory=dict)

    @cached_property
    def picture(self) -> str:
        """The image as a data URL, of at most SENT_SIZE pixels."""
        return "data:image/jpeg;base64," + base64.b64encode(to_jpeg(fit(self.image, SENT_SIZE))).decode("ascii")


def compare(shared: SharedPredictor, question: Prompt, image: np.ndarray, strength: float) -> Comparison:
    """Asks the base model and, if the question names one, its adapter.

    Raises:
        Sam3LoraError: there is neither phrase nor box, or memory is short.
    """
    comparison = Comparison(question, image, _ask(shared, question, image, 0.0))
    if question.adapter:
        with_strength(shared, comparison, strength)
    return comparison


def with_strength(shared: SharedPredictor, comparison: Comparison, strength: float) -> Answer:
    """The adapter's answer at a strength; the model is asked only if it was not before. Raises as :func:`compare`."""
    known = comparison.adapters.pop(strength, None)
    if known is None:
        known = comparison.base if strength == 0 else _ask(shared, comparison.question, comparison.image, strength)
    comparison.adapters[strength] = known
    for oldest in list(comparison.adapters)[:-_KEPT_STRENGTHS]:
        del comparison.adapters[oldest]
    return known


def _ask(shared: SharedPredictor, question: Prompt, image: np.ndarray, strength: float) -> Answer:
    import torch

    with shared.lock:
        predictor = shared.predictor
        try:
            if predictor.has_adapter:
                predictor.strength = strength
            start = time.perf_counter()
            predictor.set_image(image)
            results = _prompt(predictor, question)
            return Answer(results, time.perf_counter() - start)
        except torch.OutOfMemoryError:
            raise Sam3LoraError(
                "The memory of the GPU is too small to ask the model now",
                "Pause or stop a run that uses it, or ask fewer phrases at once",
            ) from None
        finally:
            if predictor.has_adapter:
                predictor.strength = 1.0


def _prompt(predictor: Predictor, question: Prompt) -> dict[str, PhraseResult]:
    """The objects that score enough, with the presence factor or without: both can then be shown."""
    from sam3_lora.predict.predictor import Exemplars

    examples = None
    if question.boxes:
        corners = np.array([(box.left, box.top, box.right, box.bottom) for box in question.boxes], np.float32)
        examples = Exemplars(corners, np.array([box.positive for box in question.boxes]))
    results = predictor.prompt(question.phrases, threshold=0.0, limit=MAX_PER_PHRASE, examples=examples)
    return {
        phrase: result.take(result.without_presence().scores >= LOWEST_THRESHOLD) for phrase, result in results.items()
    }


def hint(answer: Answer, shown: Mapping[str, PhraseResult]) -> str | None:
    """What to say where nothing is shown."""
    if any(len(result) for result in shown.values()):
        return None
    best = max((float(result.scores.max()) for result in answer.results.values() if len(result)), default=0.0)
    if best < LOWEST_THRESHOLD:
        from sam3_lora.predict.predictor import VISUAL

        way_on = "draw another box" if VISUAL in answer.results else "try other words"
        return f"Nothing scores {LOWEST_THRESHOLD:.2f} or more: {way_on}."
    return f"The best score is {best:.2f}: lower the threshold to see it."


def counts_table(answers: Mapping[str, tuple[Answer, Mapping[str, PhraseResult]]]) -> pd.DataFrame:
    """One row per phrase: objects shown, their part of the image and the best score of all, for each model.

    Args:
        answers: by the model's short name, what it answered and what of that is shown.
    """
    phrases: Sequence[str] = list(next(iter(answers.values()))[0].results)
    rows = []
    for phrase in phrases:
        row: dict[str, object] = {"Phrase": phrase}
        for name, (answer, shown) in answers.items():
            result, scores = shown[phrase], answer.results[phrase].scores
            height, width = result.size_hw
            row[f"{name}: objects"] = len(result)
            row[f"{name}: area %"] = 100 * float(result.areas.sum()) / (height * width)
            row[f"{name}: best score"] = float(scores.max()) if len(scores) else None
        rows.append(row)
    return pd.DataFrame(rows)
