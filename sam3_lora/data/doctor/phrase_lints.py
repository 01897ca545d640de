"""Finds category names that SAM 3 does not understand as phrases, and suggests better ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sam3_lora.data.doctor.foreign_words import is_foreign, translated
from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.prompts import MAX_TOKENS, phrase_of
from sam3_lora.text import short_repr

_MAX_WORDS = 6  # of a noun phrase; what is longer is a caption
_EMPTY = frozenset(
    "class category object item thing type kind cls obj id idx index unknown other others misc miscellaneous "
    "unspecified unclassified none null nan undefined unnamed default background foreground roi version ver".split()
)
_NOTHING = frozenset(
    (
        *("null", "none", "nil", "nan", "na", "n/a", "void", "background", "bg", "nothing", "empty", "unlabeled"),
        *("unlabelled", "unannotated", "ignore", "ignored", "dontcare", "dont care", "don't care", "no object"),
    )
)
_POSITIONS = frozenset(
    "left right leftmost rightmost topmost uppermost lowermost nearest farthest furthest closest".split()
)
_POSITIONS_BEFORE_A_NOUN = frozenset(("top", "bottom"))  # a tank top is a piece of clothing
_OFTEN_NO_POSITIONS = frozenset(("left", "right", "top", "bottom"))  # a right whale, a top hat
_ACRONYMS = frozenset("atm bbq cctv cd dvd gps hdd mri pc pcb psp pvc rv ssd tv tvs".split())
_FILLERS = frozenset("the a an of in on at to from and with by side hand most row column position".split())
_WORD = re.compile(r"[^\W\d_]+")
# As CLIP's tokenizer splits: letters, single digits, and runs of other signs; long words become several tokens.
_PIECE = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_")
_CAMEL = re.compile(r"(?<=[a-zà-ÿ]{2})(?=[A-ZÀ-Þ])")
_LETTERS_OF_A_PIECE = 12
_NUMBERED = re.compile(r"[^\W\d_]*[aeiouy][^\W\d_]*\d{1,3}|v\d+")  # "car2", the "v2" of "crack v2"; no "mp3"
# Words that look like a plural but are not, or that mean something else.
_NO_PLURALS = ("glasses", "clothes", "series", "species", "news")
_IRREGULAR = {"people": "person", "men": "man", "mice": "mouse", "children": "child", "feet": "foot"}
_IRREGULAR |= {"teeth": "tooth", "geese": "goose"}


@dataclass(frozen=True, slots=True)
class Lint:
    """What is wrong with a name.

    Attributes:
        kind: of the finding.
        suggestion: a phrase instead, or None if that is unclear.
        reason: in words, or "".
    """

    kind: str
    suggestion: str | None
    reason: str = ""


def lint(name: str) -> Lint | None:
    """The worst problem of a category's name or a phrase; None if there is none."""
    if phrase_of(name) in _NOTHING:
        return Lint("phrase-for-nothing", None)
    if is_foreign(name):
        return Lint("phrase-not-english", translated(name))
    apart = phrase_of(_CAMEL.sub(" ", name))
    words = apart.split()
    shouted = {word.lower() for word in name.split() if word.isalpha() and word.isupper() and len(word) > 1}  # "BMW"
    named = [word for word in _WORD.findall(apart) if word in shouted or not _is_code(word)]
    if all(map(_is_empty, named)):
        return Lint("phrase-code", None)
    if _NUMBERED.fullmatch(words[-1]):
        return Lint("phrase-code", " ".join(word for word in named if not _is_empty(word)))
    if "," in apart or ";" in apart:
        return Lint("phrase-with-comma", None)
    tokens = min_tokens(apart)
    if tokens > MAX_TOKENS:
        return Lint("phrase-long", None, f"at least {tokens} tokens")
    positions = {word for word in words if word in _POSITIONS} | _POSITIONS_BEFORE_A_NOUN.intersection(words[:-1])
    if positions:
        return Lint("phrase-position", _without(words, positions), ", ".join(map(repr, sorted(positions))))
    if len(words) > _MAX_WORDS:
        return Lint("phrase-long", None, f"{len(words)} words")
    if apart != phrase_of(name):
        return Lint("phrase-run-together", apart)
    return None


def min_tokens(phrase: str) -> int:
    """A number of tokens that a phrase has at least, with the two for start and end; found without the tokenizer."""
    return 2 + sum(-(-len(piece) // _LETTERS_OF_A_PIECE) for piece in _PIECE.findall(phrase))


def _is_code(word: str) -> bool:
    """Whether a run of letters is not a word: a single letter, or one without vowels."""
    return word.isascii() and word not in _ACRONYMS and (len(word) == 1 or not re.search("[aeiouy]", word))


def _is_empty(word: str) -> bool:
    return word in _EMPTY or word.removesuffix("s") in _EMPTY


def _without(words: list[str], unwanted: set[str]) -> str | None:
    """The phrase without words of position and the fillers beside them, at its start and end; None if that leaves
    nothing, or may change the meaning."""
    kept = list(words)
    while kept and (kept[0] in _FILLERS or kept[0] in unwanted):
        if kept.pop(0) in _OFTEN_NO_POSITIONS:
            return None
    while kept and (kept[-1] in _FILLERS or kept[-1] in unwanted):
        if kept.pop() in _OFTEN_NO_POSITIONS and kept and kept[-1] not in _FILLERS:  # a sign called "turn left"
            return None
    return None if unwanted.intersection(kept) else " ".join(kept) or None


def check(
    categories: Iterable[str],
    findings: FindingCollector,
    images_of: Callable[[str], Iterable[str]] = lambda category: (),
) -> dict[str, str]:
    """Finds what is wrong with the categories' names.

    Args:
        categories: names as in the dataset.
        findings: of the whole dataset.
        images_of: the file names of the images with a category.

    Returns:
        category -> suggested phrase, where there is one.
    """
    names = tuple(dict.fromkeys(categories))
    lints = {name: lint(name) for name in names}
    # A suggestion that two categories would share, or that is another one's name, would merge them.
    uses = Counter(phrase_of(name) for name in names)
    uses.update(found.suggestion for found in lints.values() if found and found.suggestion)
    suggestions: dict[str, str] = {}
    simplest = simplest_names(names)
    for category, found in lints.items():
        if found is not None:
            suggestion = found.suggestion if found.suggestion and uses[found.suggestion] == 1 else None
            better = f"better {short_repr(suggestion)}" if suggestion else ""
            detail = ", ".join(part for part in (found.reason, better) if part)
            findings.add(found.kind, detail=f"{short_repr(category)}: {detail}" if detail else short_repr(category))
            findings.mention(found.kind, images_of(category))
            if suggestion:
                suggestions[category] = suggestion
    for category in lints:
        plain = simplest[category]
        if phrase_of(plain) != phrase_of(category):  # the same phrase is another kind of finding
            findings.add("phrase-plural", detail=f"{short_repr(category)} like {short_repr(plain)}")
            findings.mention("phrase-plural", images_of(category))
            suggestions.setdefault(category, suggestions.get(plain, phrase_of(plain)))
    return suggestions


def simplest_names(names: Sequence[str]) -> dict[str, str]:
    """For each name the simplest one of the same thing: singular before plural, and of names with the same letters the
    one with more words."""
    keys = {name: "".join(phrase_of(name).split()) for name in names}
    known = set(keys.values())
    things = {name: next((one for one in _singulars(key) if one in known), key) for name, key in keys.items()}
    simplest: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (keys[name] != things[name], -len(phrase_of(name).split()))):
        simplest.setdefault(things[name], name)
    return {name: simplest[things[name]] for name in names}


def _singulars(key: str) -> list[str]:
    """What a phrase without its spaces may be the plural of; some of these are not words."""
    found = [key.removesuffix(many) + one for many, one in _IRREGULAR.items() if key.endswith(many)]
    if not key.endswith("s") or key.endswith("ss") or key in _NO_PLURALS:
        return found
    found.append(key[:-1])
    if key.endswith("ies"):
        found.append(key[:-3] + "y")
    if key.endswith("ves"):
        found += [key[:-3] + "f", key[:-3] + "fe"]
    if key.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        found.append(key[:-2])
    return [one for one in found if len(one) > 1]
