"""Finds category names that SAM 3 will not understand as phrases, and suggests better ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sam3_lora.data.health import Faults, shown
from sam3_lora.data.prompts import phrase_of

MOST_TOKENS = 32  # of SAM 3's text encoder, two of them for start and end
_MOST_WORDS = 6  # of a noun phrase; what is longer is a caption
_EMPTY = frozenset(
    "class category object item label thing type kind cls obj id idx index unknown other others misc miscellaneous "
    "none null nan undefined unnamed default background foreground target roi version ver".split()
)
_PLACES = frozenset(
    "left right leftmost rightmost topmost uppermost lowermost nearest farthest furthest closest".split()
)
_PLACES_BEFORE_A_NOUN = frozenset(("top", "bottom"))  # a tank top is a piece of clothing
_ACRONYMS = frozenset("atm bbq cctv cd dvd gps hdd mri pc pcb psp pvc rv ssd tv tvs".split())
_FILLERS = frozenset("the a an of in on at to from and with by side hand most row column position".split())
_WORD = re.compile(r"[^\W\d_]+")
# As CLIP's tokenizer cuts: letters, single digits, and runs of other signs; long words make several tokens.
_PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")
_CAMEL = re.compile(r"(?<=[a-zà-ÿ]{2})(?=[A-ZÀ-Þ])")
_LETTERS_OF_A_PIECE = 12
_SIBILANT_END = re.compile(r"(?:s|x|z|ch|sh)(es?)$")
# What ends like a plural and is none, or means something else.
_NO_PLURALS = ("ss", "us", "is", "glasses", "clothes", "series", "species", "news")


@dataclass(frozen=True, slots=True)
class Lint:
    """What is wrong with a name. kind: of the finding; suggestion: a phrase instead, or None if nobody can tell."""

    kind: str
    suggestion: str | None
    reason: str = ""


def lint(name: str) -> Lint | None:
    """What is wrong with a category's name or a phrase, the worst only; None if nothing is."""
    apart = phrase_of(_CAMEL.sub(" ", name))
    words = apart.split()
    named = [word for word in _WORD.findall(apart) if not _is_code(word)]
    if all(map(_says_nothing, named)):
        return Lint("phrase-code", None)
    if any(character.isdigit() for character in apart):
        return Lint("phrase-code", " ".join(word for word in named if not _says_nothing(word)))
    tokens = least_tokens(apart)
    if tokens > MOST_TOKENS:
        return Lint("phrase-long", None, f"at least {tokens} tokens")
    places = {word for word in words if word in _PLACES} | _PLACES_BEFORE_A_NOUN.intersection(words[:-1])
    if places:
        return Lint("phrase-position", _without(words, places), ", ".join(map(repr, sorted(places))))
    if len(words) > _MOST_WORDS:
        return Lint("phrase-long", None, f"{len(words)} words")
    if apart != phrase_of(name):
        return Lint("phrase-run-together", apart)
    return None


def least_tokens(phrase: str) -> int:
    """A number of tokens that a phrase has at least, with the two for start and end; found without the tokenizer."""
    return 2 + sum(-(-len(piece) // _LETTERS_OF_A_PIECE) for piece in _PIECE.findall(phrase))


def _is_code(word: str) -> bool:
    """Whether a run of letters is no word: a single letter, or none that can be spoken."""
    return word.isascii() and word not in _ACRONYMS and (len(word) == 1 or not re.search("[aeiouy]", word))


def _says_nothing(word: str) -> bool:
    return word in _EMPTY or word.removesuffix("s") in _EMPTY


def _without(words: list[str], unwanted: set[str]) -> str | None:
    """The phrase without some words, and without fillers that then begin or end it."""
    kept = [word for word in words if word not in unwanted]
    while kept and kept[0] in _FILLERS:
        kept.pop(0)
    while kept and kept[-1] in _FILLERS:
        kept.pop()
    return " ".join(kept) or None


def note(categories: Iterable[str], faults: Faults) -> dict[str, str]:
    """Writes what is wrong with categories' names into the faults of the whole dataset.

    Returns:
        category -> suggested phrase, where there is one.
    """
    names = tuple(dict.fromkeys(categories))
    lints = {name: lint(name) for name in names}
    # A suggestion that two categories would share, or that is another one's name, would make them one.
    asked = Counter(phrase_of(name) for name in names)
    asked.update(found.suggestion for found in lints.values() if found and found.suggestion)
    suggestions: dict[str, str] = {}
    plainest: dict[str, str] = {}  # of the names of one thing
    for name in names:
        plainest[_thing(name)] = min(plainest.get(_thing(name), name), name, key=_plainness)
    for category, found in lints.items():
        if found is not None:
            suggestion = found.suggestion if found.suggestion and asked[found.suggestion] == 1 else None
            ask = f"ask for {shown(suggestion)}" if suggestion else ""
            detail = ", ".join(part for part in (found.reason, ask) if part)
            faults.add(found.kind, detail=f"{shown(category)}: {detail}" if detail else shown(category))
            if suggestion:
                suggestions[category] = suggestion
    for category in lints:
        plain = plainest[_thing(category)]
        if phrase_of(plain) != phrase_of(category):  # the same phrase is a finding of its own
            faults.add("phrase-plural", detail=f"{shown(category)} like {shown(plain)}")
            suggestions.setdefault(category, suggestions.get(plain, phrase_of(plain)))
    return suggestions


def _plainness(name: str) -> tuple[int, int]:
    """The less, the plainer: one before several, and of names with the same letters the one that is written apart."""
    words = phrase_of(name).split()
    return sum(map(len, words)), -len(words)


def _thing(category: str) -> str:
    """A key that is the same for singular and plural, written apart or together; it need not be a word."""
    key = "".join(phrase_of(category).split())
    if key.endswith(_NO_PLURALS) or len(key) < 4:
        return key
    if key.endswith("ies"):
        return key[:-3] + "y"
    if match := _SIBILANT_END.search(key):  # "boxes" and "box", "houses" and "house" lose all of it
        return key[: match.start(1)]
    return key.removesuffix("s")
