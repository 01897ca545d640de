"""Chooses the phrases of an image: a positive one per category in it, and negative ones that nothing in it matches."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sam3_lora.config import Negatives
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.words import foreign_words

MAX_TOKENS = 32  # of a phrase in SAM 3's text encoder, two of them for start and end; the rest is cut off


class Prompt(NamedTuple):
    """A phrase and all the objects of an image that match it; of a negative phrase none.

    Attributes:
        exhaustive: whether all objects that match it are annotated, each by itself.
    """

    phrase: str
    annotations: tuple[Annotation, ...]
    exhaustive: bool = True


@dataclass(frozen=True)
class ImagePhrases:
    """What the annotations of an image say about phrases.

    Attributes:
        objects: phrase -> its objects, at least one, crowds left out; in the order of the annotations.
        present: phrases of everything annotated, crowds and unusable annotations included.
        related: phrases of categories above and below these, which may be right for the same objects.
        incomplete: phrases with objects that are not annotated, or only under a category below.
        absent: the phrases that the file says are absent, if it lists them; None: all that are not in the image.
    """

    objects: dict[str, tuple[Annotation, ...]]
    present: frozenset[str]
    related: frozenset[str]
    incomplete: frozenset[str]
    absent: frozenset[str] | None

    def lacks(self, phrase: str) -> bool:
        """Whether a phrase is surely absent, so that it is a negative one."""
        if self.absent is not None:
            return phrase in self.absent
        return not any(could_mean(phrase, other) for other in self.present) and not any(
            _reads_like(phrase, other) for other in self.related | self.incomplete
        )


class _Shuffles(Protocol):
    """numpy's Generator or random.Random."""

    def shuffle(self, x: list[Any]) -> None: ...


def phrase_of(category: str, phrases: Mapping[str, str] | None = None) -> str:
    """The phrase that SAM 3 is prompted with for a category.

    Args:
        category: its name, as written in the dataset.
        phrases: the user's own words by category (`data.category_phrases` of the configuration).

    Returns:
        The user's words in lower case and single spaces (the tokenizer ignores case); without any the
        name itself: "Paint_Marking" -> "paint marking".
    """
    own = (phrases or {}).get(category)
    words = category.replace("_", " ").replace("-", " ") if own is None else own
    return normalized(words)


def normalized(phrase: str) -> str:
    """In lower case and single spaces, which the tokenizer sees as the same phrase."""
    return " ".join(phrase.lower().split())


def image_phrases(
    image: ImageRecord, categories: Iterable[str], phrases: Mapping[str, str] | None = None
) -> ImagePhrases:
    """What the annotations of an image say about phrases.

    Args:
        image: with its annotations.
        categories: of the dataset, as written there.
        phrases: the user's own words by category, see :func:`phrase_of`.
    """
    objects: dict[str, list[Annotation]] = {}
    for annotation in image.annotations:
        if not annotation.iscrowd:
            objects.setdefault(phrase_of(annotation.category, phrases), []).append(annotation)
    there = {annotation.category for annotation in image.annotations} | image.unusable_categories
    present = {phrase_of(category, phrases) for category in there}
    related, incomplete = set(), {phrase_of(category, phrases) for category in image.incomplete_categories}
    for category, ancestors in image.ancestors.items():
        phrase, above = phrase_of(category, phrases), {phrase_of(ancestor, phrases) for ancestor in ancestors}
        if category in there:
            related |= above
            incomplete |= above - {phrase}
        elif not there.isdisjoint(ancestors):
            related.add(phrase)
    related -= present
    absent: frozenset[str] | None = None
    if image.absent_categories is not None:
        listed = image.absent_categories
        absent = frozenset(phrase_of(category, phrases) for category in listed) - present - related - incomplete
        absent -= {phrase_of(category, phrases) for category in categories if category not in listed}
    return ImagePhrases(
        objects={phrase: tuple(items) for phrase, items in objects.items()},
        present=frozenset(present),
        related=frozenset(related),
        incomplete=frozenset(incomplete),
        absent=absent,
    )


def phrases_for(
    image: ImageRecord,
    categories: Iterable[str],
    wanted: Negatives,
    rng: _Shuffles,
    phrases: Mapping[str, str] | None = None,
) -> tuple[list[Prompt], list[str]]:
    """The phrases of an image.

    Args:
        image: its crowds and unusable annotations give no positive, but rule their category out as a negative.
        categories: of the dataset, as written there.
        wanted: the negative phrases.
        rng: draws the negatives.
        phrases: the user's own words by category, see :func:`phrase_of`.

    Returns:
        The positives, one per phrase, in the order of the image's annotations; and the negatives: absent categories,
        then foreign words, which take the place of some categories where they would be too few. A phrase that could
        mean something present (its plural, a more general or a more special one) is never among them. Where the file
        lists what is absent, only that is.
    """
    categories = tuple(categories)
    known = image_phrases(image, categories, phrases)
    partly = {phrase_of(annotation.category, phrases) for annotation in image.annotations if annotation.iscrowd}
    partly |= known.incomplete | {phrase_of(category, phrases) for category in image.unusable_categories}
    positives = [Prompt(phrase, items, phrase not in partly) for phrase, items in known.objects.items()]

    absent = [phrase for phrase in dict.fromkeys(phrase_of(one, phrases) for one in categories) if known.lacks(phrase)]
    rng.shuffle(absent)
    foreign = _foreign(known, absent, wanted.refused, rng)
    categories_used = absent[: wanted.count - min(wanted.foreign, wanted.count, len(foreign))]
    negatives = categories_used + foreign[: wanted.count - len(categories_used)]
    return positives, negatives


def _foreign(known: ImagePhrases, absent: Collection[str], refused: Iterable[str], rng: _Shuffles) -> list[str]:
    """Foreign words that are surely absent and no absent categories, shuffled; the first is one of the user's own."""
    own = [word for word in dict.fromkeys(map(normalized, refused)) if word not in absent and known.lacks(word)]
    words = [word for word in foreign_words() if word not in absent and word not in own and known.lacks(word)]
    rng.shuffle(own)
    words += own[1:]
    rng.shuffle(words)
    return own[:1] + words


@functools.lru_cache(maxsize=65536)
def could_mean(phrase: str, present: str) -> bool:
    """Whether `phrase` could mean an object called `present`, so that it is no negative beside it.

    That is so if the words of one are all in the other, singular and plural being the same ("potholes" and
    "road pothole"), if they differ in spaces only, or if `present` means the whole group of `phrase`.

    Args:
        phrase: as :func:`phrase_of` gives it.
        present: the phrase of an object in the image.
    """
    if any(_words(meaning) <= _words(present) for meaning in foreign_words().get(phrase, ())):
        return True
    words, other = _words(phrase), _words(present)
    return words <= other or other <= words or _reads_like(phrase, present)


def _reads_like(phrase: str, other: str) -> bool:
    """Whether two phrases differ only in number, in spaces or in the order of their words."""
    return _words(phrase) == _words(other) or joined_singular(phrase) == joined_singular(other)


def _words(phrase: str) -> frozenset[str]:
    return frozenset(map(_singular, phrase.split()))


def joined_singular(phrase: str) -> str:
    """A key that is the same for phrases that differ in spaces or in number only; it need not be a word."""
    return _singular(phrase.replace(" ", ""))


def _singular(word: str) -> str:
    """A key that is the same for a word's singular and plural; it need not be a word."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    for ending in ("es", "s", "e"):  # "boxes" and "box", "houses" and "house" lose all of it
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
