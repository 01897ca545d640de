"""The answers to a prompt, of the base model and of an adapter, and how they are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sam3_lora.draw import DrawObject, overlay
from sam3_lora.ui.colors import PhraseColors
from sam3_lora.ui.images import fit
from sam3_lora.ui.resources import SharedPredictor

if TYPE_CHECKING:
    from sam3_lora.predict import PhraseResult, Predictor

# Everything that scores at least this is kept, so that the slider can move without asking again.
LOWEST_THRESHOLD = 0.05
MAX_PER_PHRASE = 50
MAX_DRAWN = 30  # beyond that a picture is slow to draw and says nothing
SHOWN_SIZE, LEAST_SHOWN_SIZE = 1000, 640  # pixels of the longer side of a result's picture


@dataclass(frozen=True)
class Answer:
    """What one model answered. results: by phrase; seconds: from the image to the last phrase."""

    results: dict[str, PhraseResult]
    seconds: float

    def above(self, threshold: float) -> dict[str, PhraseResult]:
        return {phrase: result.above(threshold) for phrase, result in self.results.items()}


@dataclass(frozen=True)
class Comparison:
    """The answers to one question. image (H, W, 3) uint8; adapter is None where there is none."""

    image_name: str
    image: np.ndarray
    adapter_name: str | None
    base: Answer
    adapter: Answer | None


def split_phrases(text: str) -> list[str]:
    """ "pothole, Crack " -> ["pothole", "Crack"]; no blanks, no repetitions."""
    return list(dict.fromkeys(phrase.strip() for phrase in text.split(",") if phrase.strip()))


def compare(
    shared: SharedPredictor, image: np.ndarray, phrases: Sequence[str], image_name: str, adapter_name: str | None
) -> Comparison:
    """Asks the base model and, if the predictor has one, its adapter. Raises Sam3LoraError without a phrase."""
    with shared.lock:
        predictor = shared.predictor
        if not predictor.has_adapter:
            return Comparison(image_name, image, None, _ask(predictor, image, phrases), None)
        try:
            predictor.adapter_enabled = False
            base = _ask(predictor, image, phrases)
        finally:
            predictor.adapter_enabled = True
        return Comparison(image_name, image, adapter_name, base, _ask(predictor, image, phrases))


def _ask(predictor: Predictor, image: np.ndarray, phrases: Sequence[str]) -> Answer:
    start = time.perf_counter()
    predictor.set_image(image)
    results = predictor.prompt(phrases, threshold=LOWEST_THRESHOLD, limit=MAX_PER_PHRASE)
    return Answer(results, time.perf_counter() - start)


def picture(image: np.ndarray, answer: Answer, threshold: float, colors: PhraseColors) -> np.ndarray:
    """The image with the best MAX_DRAWN objects above the threshold, in their phrases' colours. (h, w, 3) uint8."""
    shown = fit(image, SHOWN_SIZE, LEAST_SHOWN_SIZE)
    found = answer.above(threshold)
    scores = np.sort(np.concatenate([result.scores for result in found.values()]))[::-1]
    least = scores[MAX_DRAWN - 1] if len(scores) > MAX_DRAWN else threshold
    objects = [
        drawn for result in found.values() for drawn in _draw_objects(result.above(least), shown.shape[:2], colors)
    ]
    return overlay(shown, objects[:MAX_DRAWN])


def _draw_objects(result: PhraseResult, size_hw: tuple[int, int], colors: PhraseColors) -> list[DrawObject]:
    scale = np.array((size_hw[1] / result.size_hw[1], size_hw[0] / result.size_hw[0]) * 2)
    at_size = replace(result, size_hw=size_hw)  # its masks are then made at the picture's size, not at the image's
    color = colors.of(result.phrase)
    return [
        DrawObject(label=result.phrase, color=color, mask=mask, box_xyxy=tuple(box), score=float(score))
        for mask, box, score in zip(at_size.masks, result.boxes_xyxy * scale, result.scores, strict=True)
    ]


def hint(answer: Answer, threshold: float) -> str | None:
    """What to say where nothing passes the threshold, or too much."""
    found = sum(len(result) for result in answer.above(threshold).values())
    if found:
        return f"The best {MAX_DRAWN} of {found} are drawn." if found > MAX_DRAWN else None
    best = max((float(result.scores.max()) for result in answer.results.values() if len(result)), default=None)
    if best is None:
        return f"Nothing scores {LOWEST_THRESHOLD:.2f} or more: try other words."
    return f"The best score is {best:.2f}: lower the threshold to see it."


def counts_table(comparison: Comparison, threshold: float) -> pd.DataFrame:
    """One row per phrase: objects found above the threshold and the best score, of either model."""
    answers = {"Base": comparison.base, "Adapter": comparison.adapter}
    rows = []
    for phrase in comparison.base.results:
        row: dict[str, object] = {"Phrase": phrase}
        for name, answer in answers.items():
            if answer is None:
                continue
            scores = answer.results[phrase].scores
            row[f"{name}: objects"] = int((scores >= threshold).sum())
            row[f"{name}: best score"] = float(scores.max()) if len(scores) else None
        rows.append(row)
    return pd.DataFrame(rows)
