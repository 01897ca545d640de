"""Prompt leak: which phrases fire where they should not; and what the base knew that an adapter has lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from sam3_lora.config import DEMO
from sam3_lora.data.prompts import could_mean, phrase_of
from sam3_lora.data.records import Split
from sam3_lora.evaluate.outcomes import HIT_IOU, met_objects
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult, mask_ious

# Nouns for things that hardly any picture holds. No training asks them (see data.prompts.EVERYDAY_WORDS for those
# that it does), so that an adapter cannot have learned by heart to be silent.
FOREIGN_WORDS = ("walrus", "toucan", "lobster", "lasagna", "banjo", "hammock", "wheelbarrow", "trombone")
# What a base model knows well, wherever it is.
COMMON_WORDS = ("person", "car", "tree", "building", "sign", "chair", "bottle", "dog")
DEMO_WORDS = ("circle", "ring", "square", "triangle", "star", "cross", "blob", "line")

CATEGORY, FOREIGN, COMMON = "category", "foreign", "common"


class Words(msgspec.Struct, frozen=True):
    """The phrases that are asked. categories: of the split's objects; absent: of its categories without one."""

    categories: tuple[str, ...]
    absent: tuple[str, ...]
    foreign: tuple[str, ...]
    common: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """All but those of the split's objects."""
        return tuple(dict.fromkeys((*self.absent, *self.foreign, *self.common)))

    def kind(self, phrase: str) -> str:
        return FOREIGN if phrase in self.foreign else COMMON if phrase in self.common else CATEGORY


class Leak(msgspec.Struct, frozen=True):
    """How often phrases fire where they should not, in shares from 0 to 1.

    rows: phrases that were asked; kinds: of each "category", "foreign" or "common"; columns: phrases of the
    objects there are. on_objects[row][column]: the share of the column's objects that the row's phrase marks;
    None where it may mean them. anywhere[row]: the share of images without it in which it finds something; None
    where nobody knows whether it is there.
    """

    rows: list[str]
    kinds: list[str]
    columns: list[str]
    on_objects: list[list[float | None]]
    anywhere: list[float | None]

    def worst(self) -> tuple[str, str, float] | None:
        """The phrase, the column and the largest share of on_objects; None if nothing leaks."""
        cells = [
            (row, column, share)
            for row, shares in zip(self.rows, self.on_objects, strict=True)
            for column, share in zip(self.columns, shares, strict=True)
            if share
        ]
        return max(cells, key=lambda cell: cell[2], default=None)


def words_for(
    split: Split, asked: tuple[str, ...], phrases: Mapping[str, str] | None, base: str, own: Iterable[str] = ()
) -> Words:
    """Which words are asked beside the split's phrases.

    Args:
        asked: the phrases of the split's objects.
        phrases: the user's own words by category.
        base: the base model's name; the demo's model knows shapes, not people.
        own: further words that the user wants to be kept.
    """
    categories = (phrase_of(category, phrases) for category in split.categories)
    absent = [p for p in dict.fromkeys(categories) if p and not _means_any(p, asked)]
    own_words = (" ".join(word.lower().split()) for word in own)
    common = (*own_words, *(DEMO_WORDS if base == DEMO else COMMON_WORDS))
    taken = (*asked, *absent)
    return Words(
        asked,
        tuple(absent),
        tuple(word for word in FOREIGN_WORDS if not _means_any(word, taken)),
        tuple(dict.fromkeys(word for word in common if word and not _means_any(word, taken))),
    )


def _means_any(phrase: str, others: Iterable[str]) -> bool:
    return any(could_mean(phrase, other) for other in others)


def leak(images: list[ImagePredictions], words: Words) -> Leak:
    """Counts what one model's answers mark that they do not mean."""
    rows = (*words.categories, *words.others)
    marked = np.zeros((len(rows), len(words.categories)))
    objects, fired, asked = marked.copy(), np.zeros(len(rows)), np.zeros(len(rows))
    for image in images:
        for pair in (*image.pairs, *image.others):
            row, masks = rows.index(pair.phrase), _unasked_answers(pair)
            if not _means_any(pair.phrase, image.present):
                asked[row] += 1
                fired[row] += pair.given.any()
            for truth in image.pairs:
                column, there = words.categories.index(truth.phrase), ~truth.crowd
                objects[row, column] += there.sum()
                marked[row, column] += (mask_ious(masks, truth.gt_masks).max(0, initial=0)[there] >= HIT_IOU).sum()
    return Leak(
        list(rows),
        [words.kind(phrase) for phrase in rows],
        list(words.categories),
        [
            [
                None if could_mean(phrase, column) or not total else float(hits / total)
                for column, hits, total in zip(words.categories, marked[row], objects[row], strict=True)
            ]
            for row, phrase in enumerate(rows)
        ],
        [
            None if words.kind(phrase) == COMMON or not asked[row] else float(fired[row] / asked[row])
            for row, phrase in enumerate(rows)
        ],
    )


def _unasked_answers(pair: PromptResult) -> list[dict]:
    """The masks of the answers that are given and meet no object of the phrase itself."""
    met = met_objects(pair) if pair.gt_masks else np.full(len(pair.pred_scores), -1)
    return [pair.pred_masks[row] for row in np.flatnonzero(pair.given & (met < 0))]


def false_firing(images: list[ImagePredictions], words: Words) -> np.ndarray:
    """(I, 2): of each image the questions whose answer is surely no, and those of them that were answered."""
    counts = np.zeros((len(images), 2))
    for number, image in enumerate(images):
        for pair in (*image.pairs, *image.others):
            if words.kind(pair.phrase) != COMMON and not _means_any(pair.phrase, image.present):
                counts[number] += 1, pair.given.any()
    return counts


def kept(
    base: list[ImagePredictions], adapter: list[ImagePredictions], words: Words
) -> tuple[np.ndarray, dict[str, list[int]]]:
    """What the base finds by its common words and the adapter still does.

    Objects of the dataset do not count: that a word no longer marks those may be what was learned.

    Returns:
        (I, 2) what the base finds in each image, and what of it the adapter finds (IoU 0.5); the same by word.
    """
    counts, by_word = np.zeros((len(base), 2)), {word: [0, 0] for word in words.common}
    for number, (before, after) in enumerate(zip(base, adapter, strict=True)):
        truths = [mask for pair in before.pairs for mask in pair.gt_masks]
        crowd = [flag for pair in before.pairs for flag in pair.gt_crowd]
        answers = {pair.phrase: pair for pair in after.others}
        for pair in before.others:
            if pair.phrase not in by_word:
                continue
            of_dataset = mask_ious(pair.pred_masks, truths, crowd).max(1, initial=0) >= HIT_IOU
            known = [mask for mask, not_counted in zip(pair.pred_masks, of_dataset, strict=True) if not not_counted]
            again = mask_ious(known, answers[pair.phrase].pred_masks).max(1, initial=0) >= HIT_IOU
            counts[number] += len(known), again.sum()
            by_word[pair.phrase][0] += len(known)
            by_word[pair.phrase][1] += int(again.sum())
    return counts, by_word
