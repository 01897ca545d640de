"""Phrases as people type them in one line: separated by commas or semicolons, in quotes if they contain one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sam3_lora.data.prompts import normalized

_SEPARATOR = re.compile("[,;\n]")
# Quotes count only around a whole phrase, so that dog's and 12" do not open any.
_QUOTED = re.compile(r"""(?:"([^"\n]*)"|'([^'\n]*)'|“([^”\n]*)”)\s*(?=[,;\n]|$)""")


def split_phrases(text: str, known: Iterable[str] = ()) -> list[str]:
    """ "pothole, Crack; crack" -> ["pothole", "Crack"]: what people type, without blanks and duplicates.

    Args:
        text: the phrases; one in quotes may contain a separator.
        known: phrases of the dataset or the adapter: one of these is never split.
    """
    of_key = {_key(phrase): phrase for phrase in known if _SEPARATOR.search(phrase)}
    found: dict[str, str] = {}
    rest = text
    while rest := rest.lstrip(",;").lstrip():
        phrase, rest = _first(rest, of_key)
        if phrase:
            found.setdefault(phrase.lower(), phrase)  # the tokenizer ignores case
    return list(found.values())


def join_phrases(phrases: Iterable[str]) -> str:
    """The text from which :func:`split_phrases` gets these phrases again."""
    return ", ".join(map(_quoted_if_needed, phrases))


def _quoted_if_needed(phrase: str) -> str:
    if not _SEPARATOR.search(phrase) and not _QUOTED.fullmatch(phrase):
        return phrase
    quotes = next((pair for pair in ('""', "''") if pair[0] not in phrase), "“”")
    return f"{quotes[0]}{phrase}{quotes[1]}"


def _first(text: str, known: dict[str, str]) -> tuple[str, str]:
    """The phrase that a text begins with, and the rest of the text."""
    ends = [match.start() for match in _SEPARATOR.finditer(text)] + [len(text)]
    for end in reversed(ends) if known else ():
        if phrase := known.get(_key(text[:end])):
            return phrase, text[end:]
    if quoted := _QUOTED.match(text):
        phrase = next(filter(None, quoted.groups()), "").strip()
        return known.get(_key(phrase), phrase), text[quoted.end() :]
    return text[: ends[0]].strip(), text[ends[0] :]


def _key(phrase: str) -> str:
    return normalized(re.sub(r"\s*([,;])\s*", r"\1", phrase))
