"""The phrases that the presence head is trained with, image by image, and the foreign words kept for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3_lora.config import DEMO, Negatives, RunConfig
from sam3_lora.data.prompts import normalized, phrase_of, phrases_for
from sam3_lora.data.records import ImageRecord
from sam3_lora.evaluate.prompt_leak import COMMON_PHRASES, DEMO_PHRASES, UNRELATED_PHRASES
from sam3_lora.train.replay.replay import replay_words
from sam3_lora.words import foreign_words

MEASURED_WORDS = 24  # of the list of foreign words, beside those that Evaluate asks for: kept for measuring
ABSENT, FOREIGN, KNOWN = 8, 12, 8  # phrases asked of each image, at most
_ALL = 1_000_000  # negatives: all there are


@dataclass(frozen=True)
class Words:
    """Words that are none of the dataset's."""

    measured: tuple[str, ...]  # foreign ones, to measure with
    known: tuple[str, ...]  # that the base model may find


@dataclass(frozen=True)
class ImagePrompts:
    """What an image is asked to train on.

    Attributes:
        present: phrases of its objects.
        absent: phrases of the dataset that surely match nothing in it.
        foreign: foreign words that surely match nothing in it.
        known: words that the base model may find there.
    """

    present: tuple[str, ...]
    absent: tuple[str, ...]
    foreign: tuple[str, ...]
    known: tuple[str, ...]


def choose_words(config: RunConfig, categories: Sequence[str]) -> Words:
    """Splits the foreign words by the run's seed, and chooses the words that the base model is asked.

    Args:
        config: the run's; the phrases that its user wants refused are trained with.
        categories: of the dataset.
    """
    data = config.data
    own = [phrase_of(category, data.category_phrases) for category in categories]
    refused = set(map(normalized, data.refused_phrases))
    free = [word for word in foreign_words() if word not in refused]
    drawn = np.random.default_rng((config.training.seed, 0)).permutation(len(free))[:MEASURED_WORDS]
    measured = [*UNRELATED_PHRASES, *(free[place] for place in sorted(drawn.tolist()))]
    words = replay_words(config.replay, config.model.base, own, data.refused_phrases)
    # Those that Evaluate counts what is kept by are left out: it is to hold for words that were not trained with.
    counted = DEMO_PHRASES if config.model.base == DEMO else COMMON_PHRASES
    known = (*words.own, *(word for word in words.known if word not in counted))
    return Words(tuple(word for word in measured if word not in refused), known)


def prompts_of(
    image: ImageRecord, categories: Sequence[str], config: RunConfig, words: Words, rng: np.random.Generator
) -> ImagePrompts:
    """What an image is asked.

    Args:
        image: with its annotations.
        categories: of the dataset.
        config: the run's.
        words: of :func:`choose_words`.
        rng: draws them.
    """
    data = config.data
    everything = Negatives(_ALL, _ALL, tuple(data.refused_phrases))
    positives, negatives = phrases_for(image, categories, everything, rng, data.category_phrases)
    own = {phrase_of(category, data.category_phrases) for category in categories}
    # As the loss has it: a phrase is there where one of its objects has an area.
    present = [one.phrase for one in positives if any(min(item.bbox_xywh[2:]) > 0 for item in one.annotations)]
    foreign = [word for word in negatives if word not in own and word not in words.measured]
    known = [words.known[place] for place in rng.permutation(len(words.known))[:KNOWN]]
    return ImagePrompts(
        present=tuple(filter(None, present)),
        absent=tuple([phrase for phrase in negatives if phrase and phrase in own][:ABSENT]),
        foreign=tuple(foreign[:FOREIGN]),
        known=tuple(known),
    )
