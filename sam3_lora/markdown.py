"""Markdown of reports and model cards: text that is shown as it is, tables, blocks of code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sam3_lora.text import printable, short

# What Markdown acts on: anywhere (a colon but before a space, as in sentences), and what begins a list, a rule, a
# definition or the underline of a heading.
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#$~|&]|:(?! )|^[-+=:]|(?<=www)\.")
_NUMBERED = re.compile(r"^(\d+)([.)])")
_MAX_TEXT, _MAX_CELL = 2000, 120  # characters; more is no sentence, and no name in a table


def escape(text: str) -> str:
    """Text as one line of Markdown (CommonMark with GitHub's tables) that shows it as it is; a very long one is cut."""
    line = _ACTIVE.sub(r"\\\g<0>", printable(" ".join(short(text, _MAX_TEXT).split())))
    return _NUMBERED.sub(r"\1\\\2", line)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The lines of a table with numbers and texts, which are shown as they are, or cut if they are very long."""
    lines = [[_cell(value) for value in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return [f"| {' | '.join(line)} |" for line in lines]


def code_block(language: str, code: str) -> str:
    """A block of code, between more backticks than it has in a row itself."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(short(str(value), _MAX_CELL))
