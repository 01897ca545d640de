"""Prompt leak, false firing and forgetting: phrases that fire where they should not, and ones that no longer do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from sam3_lora.config import DEMO
from sam3_lora.data.prompts import could_mean, normalized, phrase_of
from sam3_lora.data.records import Split
from sam3_lora.evaluate.precision_recall_f1 import MATCH_IOU, match_predictions
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult, mask_ious

# Nouns for things that hardly any image holds. Training never uses them as negatives (its own are in
# assets/words/foreign.txt), so an adapter cannot have learned to stay silent on exactly these.
UNRELATED_PHRASES = ("walrus", "toucan", "lobster", "lasagna", "banjo", "hammock", "wheelbarrow", "trombone")
# Common objects that a base model finds wherever they are.
COMMON_PHRASES = ("person", "car", "tree", "building", "sign", "chair", "bottle", "dog")
DEMO_PHRASES = ("circle", "ring", "square", "triangle", "star", "cross", "blob", "line")

CATEGORY, UNRELATED, COMMON = "category", "foreign", "common"  # kinds of phrases, as stored in reports


class PhraseGroups(msgspec.Struct, frozen=True):
    """The phrases that every image is prompted with."""

    categories: tuple[str, ...]  # of the split's objects
    absent: tuple[str, ...]  # of the dataset's categories without an object in this split
    unrelated: tuple[str, ...]
    common: tuple[str, ...]
    related: frozenset[tuple[str, str]] = frozenset()  # phrases of a category and of one above it, in both orders

    @property
    def extra(self) -> tuple[str, ...]:
        """All but those of the split's objects."""
        return tuple(dict.fromkeys((*self.absent, *self.unrelated, *self.common)))

    def kind(self, phrase: str) -> str:
        """CATEGORY, UNRELATED or COMMON."""
        return UNRELATED if phrase in self.unrelated else COMMON if phrase in self.common else CATEGORY


class Leak(msgspec.Struct, frozen=True):
    """How often phrases fire where they should not, as shares in [0, 1].

    Attributes:
        rows: the phrases of the prompts.
        kinds: of each row "category", "foreign" (unrelated) or "common".
        columns: the phrases of the ground-truth objects.
        on_objects: [row][column] share of the column's objects that the row's phrase marks; None where it may
            mean them.
        anywhere: [row] share of images without the phrase in which it predicts something; None where it is not
            known whether the phrase is in the image.
    """

    rows: list[str]
    kinds: list[str]
    columns: list[str]
    on_objects: list[list[float | None]]
    anywhere: list[float | None]

    def by_share(self) -> list[tuple[str, str, float]]:
        """The phrases, columns and shares of on_objects above 0, largest first; empty if nothing leaks."""
        cells = [
            (row, column, share)
            for row, shares in zip(self.rows, self.on_objects, strict=True)
            for column, share in zip(self.columns, shares, strict=True)
            if share
        ]
        return sorted(cells, key=lambda cell: -cell[2])


def phrase_groups(
    split: Split,
    phrases: tuple[str, ...],
    category_phrases: Mapping[str, str] | None,
    base: str,
    retention_phrases: Iterable[str] = (),
) -> PhraseGroups:
    """Chooses the extra phrases that are prompted beside those of the split's objects.

    Args:
        split: its categories without objects become absent phrases.
        phrases: of the split's objects.
        category_phrases: the user's own phrase of each category.
        base: the base model's name; the demo's model knows shapes, not people.
        retention_phrases: further phrases that the adapter must not forget.
    """
    categories = (phrase_of(category, category_phrases) for category in split.prompt_categories)
    absent = [p for p in dict.fromkeys(categories) if p and not _means_any(p, phrases)]
    above = [
        (phrase_of(category, category_phrases), phrase_of(ancestor, category_phrases))
        for category, ancestors in split.images.ancestors.items()
        for ancestor in ancestors
    ]
    wanted = map(normalized, retention_phrases)
    common = (*wanted, *(DEMO_PHRASES if base == DEMO else COMMON_PHRASES))
    taken = (*phrases, *absent)
    return PhraseGroups(
        phrases,
        tuple(absent),
        tuple(phrase for phrase in UNRELATED_PHRASES if not _means_any(phrase, taken)),
        tuple(dict.fromkeys(phrase for phrase in common if phrase and not _means_any(phrase, taken))),
        frozenset(pair for pairs in above for pair in (pairs, pairs[::-1])),
    )


def _means_any(phrase: str, others: Iterable[str]) -> bool:
    return any(could_mean(phrase, other) for other in others)


def leak(images: list[ImagePredictions], groups: PhraseGroups) -> Leak:
    """Counts which objects one model's false positives mark."""
    rows = (*groups.categories, *groups.extra)
    marked = np.zeros((len(rows), len(groups.categories)))
    objects, fired, absent = marked.copy(), np.zeros(len(rows)), np.zeros(len(rows))
    for image in images:
        for result in (*image.results, *image.extra):
            row, masks = rows.index(result.phrase), _false_positives(result)
            if image.known.lacks(result.phrase):
                absent[row] += 1
                fired[row] += result.above_threshold.any()
            for gt in image.results:
                column, is_object = groups.categories.index(gt.phrase), ~gt.crowd
                objects[row, column] += is_object.sum()
                overlaps = mask_ious(masks, gt.gt_masks).max(0, initial=0)
                marked[row, column] += (overlaps[is_object] >= MATCH_IOU).sum()
    return Leak(
        list(rows),
        [groups.kind(phrase) for phrase in rows],
        list(groups.categories),
        [
            [
                None if _related(phrase, column, groups) or not total else float(count / total)
                for column, count, total in zip(groups.categories, marked[row], objects[row], strict=True)
            ]
            for row, phrase in enumerate(rows)
        ],
        [
            None if groups.kind(phrase) == COMMON or not absent[row] else float(fired[row] / absent[row])
            for row, phrase in enumerate(rows)
        ],
    )


def _related(phrase: str, column: str, groups: PhraseGroups) -> bool:
    """Whether a phrase may be right for the objects of another one."""
    return could_mean(phrase, column) or (phrase, column) in groups.related


def _false_positives(result: PromptResult) -> list[dict[str, Any]]:
    """Masks above the score threshold that match no object of the phrase itself."""
    matched = match_predictions(result) if result.gt_masks else np.full(len(result.pred_scores), -1)
    return [result.pred_masks[row] for row in np.flatnonzero(result.above_threshold & (matched < 0))]


def false_firing(
    images: list[ImagePredictions], groups: PhraseGroups, kinds: Collection[str] = (CATEGORY, UNRELATED)
) -> np.ndarray:
    """(I, 2) of each image: prompts for phrases of these kinds that are surely absent, and those with a prediction."""
    counts = np.zeros((len(images), 2))
    for number, image in enumerate(images):
        for result in (*image.results, *image.extra):
            if groups.kind(result.phrase) in kinds and image.known.lacks(result.phrase):
                counts[number] += 1, result.above_threshold.any()
    return counts


def retained(
    base: list[ImagePredictions], adapter: list[ImagePredictions], groups: PhraseGroups
) -> tuple[np.ndarray, dict[str, list[int]]]:
    """What the base model finds with the common phrases and the adapter still finds.

    Objects of the dataset do not count: that a common phrase no longer marks those may be what was learned.

    Args:
        base: predictions of the base model.
        adapter: predictions with the adapter on the same images.
        groups: the phrases both were prompted with.

    Returns:
        (I, 2) objects the base finds in each image, and those of them the adapter finds (IoU 0.5); both by phrase.
    """
    counts, by_phrase = np.zeros((len(base), 2)), {phrase: [0, 0] for phrase in groups.common}
    for number, (before, after) in enumerate(zip(base, adapter, strict=True)):
        gt = [mask for result in before.results for mask in result.gt_masks]
        crowd = [flag for result in before.results for flag in result.gt_crowd]
        with_adapter = {result.phrase: result.pred_masks for result in after.extra}
        for result in before.extra:
            if result.phrase not in by_phrase:
                continue
            of_dataset = mask_ious(result.pred_masks, gt, crowd).max(1, initial=0) >= MATCH_IOU
            found = [mask for mask, excluded in zip(result.pred_masks, of_dataset, strict=True) if not excluded]
            kept = mask_ious(found, with_adapter[result.phrase]).max(1, initial=0) >= MATCH_IOU
            counts[number] += len(found), kept.sum()
            by_phrase[result.phrase][0] += len(found)
            by_phrase[result.phrase][1] += int(kept.sum())
    return counts, by_phrase
