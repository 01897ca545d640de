"""Word lists: nouns for negative phrases, and phrases that a base model knows."""

from __future__ import annotations

import functools
from pathlib import Path

from sam3_lora.config import ASSETS, DEMO


@functools.cache
def foreign_words() -> dict[str, frozenset[str]]:
    """Nouns for things that are rarely in images people train on -> words that mean them, too: "animal"."""
    meanings: dict[str, frozenset[str]] = {}
    for line in _lines(ASSETS / "words" / "foreign.txt"):
        group, _, words = line.partition(":")
        for word in _listed(words):
            meanings[word] = meanings.get(word, frozenset()) | frozenset(_listed(group))
    return meanings


@functools.cache
def known_words(base: str) -> tuple[str, ...]:
    """Phrases that a base model was trained on.

    Args:
        base: ``model.base``; for all but the demo's they are common nouns.
    """
    path = ASSETS / "demo" / "words.txt" if base == DEMO else ASSETS / "words" / "common.txt"
    return tuple(dict.fromkeys(word for line in _lines(path) for word in _listed(line)))


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
