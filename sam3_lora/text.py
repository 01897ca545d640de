"""Formats numbers, names and values for messages: plurals, lists of names, amounts, durations."""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any

_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class _Repr(reprlib.Repr):
    def repr_float(self, value: float, _level: int) -> str:
        return repr(float(f"{value:.6g}"))  # the other digits tell nothing


_repr = _Repr()
_repr.maxstring = _repr.maxother = 60


def plural(count: int, noun: str) -> str:
    """ "1 image", "3 images", "2 categories", "2 keys"."""
    if count == 1:
        return f"1 {noun}"
    is_ies = noun.endswith("y") and noun[-2] not in "aeiou"
    return f"{count:,} {noun[:-1]}ies" if is_ies else f"{count:,} {noun}s"


def first_names(names: Sequence[str], count: int = 5) -> str:
    """ "a, b, c" or "a, b, c, d, e and 7 more".

    Args:
        names: what is listed, each shortened if needed.
        count: how many names are listed at most.
    """
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(map(short, names[:count])) + more


def amount(value: float, digits: int = 3) -> str:
    """A loss or a norm, readable: "0.0123", "12.3", "159,224"; from a billion on "1.59e+12"."""
    return f"{value:,.0f}" if 10**digits - 0.5 <= abs(value) < 1e9 else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """3725 -> "1 h 2 min"; empty for None."""
    if seconds is None or seconds < 0:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def short(text: str, most: int = 60) -> str:
    """A text of at most so many characters, shortened if needed."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def printable(text: str) -> str:
    """Text with escapes for what no screen shows: control characters other than line breaks, lone surrogates, and
    characters that turn the direction of the text after them around."""
    odd = {c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Cs") or c in _BIDI_CONTROLS)}
    return text.translate({ord(c): c.encode("unicode_escape").decode() for c in odd})


def valid_text(text: str) -> str:
    """Text that can be encoded as UTF-8: lone surrogates, which JSON may contain, become "?"."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def short_repr(value: Any) -> str:
    """Any value from a file as short text that every screen can take; "nothing" for None, as for a missing key."""
    return "nothing" if value is None else valid_text(_repr.repr(value))


def type_in_words(value: Any) -> str:
    """What a value from a JSON file is, in words that need no Python: "nothing", "a number", "text", ..."""
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")
