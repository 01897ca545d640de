"""How well an adapter refuses with its presence head as it was and as it is now, measured as Evaluate measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from msgspec.structs import replace as replace_struct

from sam3_lora.data.dataset import Split, load_image
from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError
from sam3_lora.evaluate import cgf1
from sam3_lora.evaluate.predictions import (
    SCORE_THRESHOLD,
    Asked,
    ImagePredictions,
    asked_of,
    phrases_of,
    predictions_of,
)
from sam3_lora.evaluate.prompt_leak import CATEGORY, UNRELATED, PhraseGroups, false_firing, phrase_groups, retained
from sam3_lora.model.decoder import presence_logits
from sam3_lora.predict.postprocess import PhraseResult, phrase_results
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.vision_cache import KeptFeatures
from sam3_lora.train.refusal.head import Weights, with_weights
from sam3_lora.train.refusal.pairs import presence_tokens
from sam3_lora.train.refusal.report import Refusal


@dataclass
class _Predictions:
    """The predictions of all images, by the base model and by the adapter with both heads."""

    base: list[ImagePredictions] = field(default_factory=list)
    before: list[ImagePredictions] = field(default_factory=list)
    after: list[ImagePredictions] = field(default_factory=list)


def groups_of(
    split: Split, own: Mapping[str, str], base: str, preserved: tuple[str, ...], foreign: tuple[str, ...]
) -> PhraseGroups:
    """The phrases that Evaluate asks for, with further foreign words.

    Args:
        split: to measure on.
        own: the user's own phrase of each category.
        base: name of the base model.
        preserved: further phrases that the adapter should still find.
        foreign: foreign words, those of Evaluate among them.
    """
    groups = phrase_groups(split, phrases_of(split, own), own, base, preserved)
    taken = {*groups.categories, *groups.absent, *groups.common}
    return replace_struct(groups, unrelated=tuple(word for word in foreign if word not in taken))


def measure(
    predictor: Predictor,
    images: Sequence[ImageRecord],
    categories: Sequence[str],
    groups: PhraseGroups,
    own: Mapping[str, str],
    head_before: Weights,
    progress: Callable[[float], None],
) -> tuple[Refusal, Refusal]:
    """Both numbers from one forward pass per prompt: the heads differ in presence alone.

    Args:
        predictor: with the adapter at strength 1 and the trained head.
        images: with annotations.
        categories: of their split.
        groups: of :func:`groups_of`.
        own: the user's own phrase of each category.
        head_before: the head's low-rank layers before the training.
        progress: called with the share done before each image; an exception that it raises ends the measurement.

    Raises:
        DataError: no image can be loaded.
    """
    found, kept = _Predictions(), KeptFeatures(predictor)
    for number, image in enumerate(images):
        progress(number / len(images))
        try:
            pixels = load_image(image)
        except DataError:
            continue
        predictor.set_image(pixels, (image.height, image.width), kept.of(image))
        asked = asked_of(image, groups.categories, own, groups.extra, (), categories)
        _predict(predictor, image, asked, groups, head_before, found)
    kept.close()
    if not found.after:
        raise DataError("None of the images to validate on can be loaded", "Put them back, or start a new run")
    return _refusal(found.before, found.base, groups), _refusal(found.after, found.base, groups)


def _predict(
    predictor: Predictor,
    image: ImageRecord,
    asked: Asked,
    groups: PhraseGroups,
    head_before: Weights,
    found: _Predictions,
) -> None:
    before: dict[str, PhraseResult] = {}
    after: dict[str, PhraseResult] = {}
    base: dict[str, PhraseResult] = {}
    phrases = tuple(dict.fromkeys(filter(None, (*asked.measured, *asked.extra))))
    model, size_hw = predictor.detector.base, (image.height, image.width)
    with presence_tokens(predictor.detector) as tokens:
        for chunk in predictor.prompt_in_chunks(phrases, SCORE_THRESHOLD) if phrases else ():
            after |= chunk.results
            read = torch.stack(tokens)  # (L, P, C)
            with torch.inference_mode(), predictor.autocast(), with_weights(model, head_before):
                presence = presence_logits(model.detr_decoder, read).float()
                earlier = replace(chunk.detections, presence=presence)
                before |= phrase_results(tuple(chunk.results), earlier, size_hw, SCORE_THRESHOLD)
            tokens.clear()
    if groups.common:
        predictor.strength = 0.0
        base = predictor.prompt(groups.common, SCORE_THRESHOLD)
        predictor.strength = 1.0
    found.before.append(predictions_of(image, asked, before))
    found.after.append(predictions_of(image, asked, after))
    # The base model is asked for the common phrases alone; of the others the ground truth is what counts here.
    of_base = predictions_of(image, replace(asked, measured={}), base)
    found.base.append(replace(of_base, results=found.after[-1].results))


def _refusal(images: list[ImagePredictions], base: list[ImagePredictions], groups: PhraseGroups) -> Refusal:
    measured = [image for image in images if image.results]  # as Evaluate
    scores: dict[str, float] = {}
    if measured:
        counts = cgf1.summed([cgf1.count([result for image in measured for result in image.results])])
        scores = {name: float(value[0]) for name, value in cgf1.scores(counts).items()}
    kept, _ = retained(base, images, groups)
    return Refusal(
        f1_50=_defined(scores.get("f1_50", math.nan)),
        cgf1=_defined(scores.get("cgf1", math.nan)),
        absent=_pair(false_firing(images, groups, [CATEGORY])),
        foreign=_pair(false_firing(images, groups, [UNRELATED])),
        kept=_pair(kept),
    )


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pair(counts: np.ndarray) -> tuple[int, int]:
    """The sums of counts (I, 2)."""
    first, second = counts.sum(0).astype(int).tolist()
    return first, second
