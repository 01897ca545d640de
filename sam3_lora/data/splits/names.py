"""What the names of splits mean: which of them train, validate and test."""

from __future__ import annotations

import re
from collections.abc import Iterable

TRAIN_NAMES = ("train", "training")
VALID_NAMES = ("valid", "val", "validation", "dev")
USUAL_SPLITS = ("train", "valid", "val", "validation", "test")
_SPLIT = re.compile(r"(?:(train)(?:ing)?|(val)(?:id(?:ation)?)?|(test)(?:ing)?)(?:[-_ ]?\d{2,4})?", re.IGNORECASE)


def split_word(name: str) -> str:
    """ "train", "val" or "test" for a folder of that name: train, Training, train2017, valid, ...; "" for others."""
    match = _SPLIT.fullmatch(name)
    return next(filter(None, match.groups())).lower() if match else ""


def spelling(split: str) -> str:
    """The same for names that differ in case only, and for all that name a split to validate on."""
    return "valid" if split.lower() in VALID_NAMES else split.lower()


def usual_order(splits: Iterable[str]) -> list[str]:
    """Splits in the usual order (train, valid, test, others), however they are spelled."""
    return sorted(splits, key=lambda name: (("train", "val", "test", "").index(split_word(name)), name))
