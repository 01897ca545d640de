"""Markdown of reports and model cards: text that is shown as it is, tables, blocks of code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sam3_lora.text import printable, short

# What Markdown acts on: anywhere (a colon but before a space, as in sentences), and what begins a list, a rule, a
# definition or the underline of a heading.
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#$~|&]|:(?! )|^[-+=:]|(?<=www)\.")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
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


def with_section(text: str, title: str, content: str, before: str = "") -> str:
    """Markdown with a section of the second level, in place of an earlier one with the same title.

    Args:
        text: the whole; lines in blocks of code are no headings.
        title: of the section, as it is written.
        content: of the section, without headings of the first two levels.
        before: the title of the section that a new one is put before; at the end where there is none.
    """
    lines = text.split("\n")
    headings = _headings(lines)
    section = [f"## {title}", "", *content.strip("\n").split("\n"), ""]
    start = next((row for row, heading in headings if heading == f"## {title}"), None)
    if start is not None:
        end = next((row for row, _ in headings if row > start), None)
    else:
        start = end = next((row for row, heading in headings if heading == f"## {before}"), None)
    if start is None:
        return "\n".join([text.rstrip("\n"), "", *section])
    return "\n".join([*lines[:start], *section, *([] if end is None else lines[end:])])


def without_section(text: str, title: str) -> str:
    """Markdown without a section of the second level, if it has one with this title."""
    lines = text.split("\n")
    headings = _headings(lines)
    start = next((row for row, heading in headings if heading == f"## {title}"), None)
    if start is None:
        return text
    end = next((row for row, _ in headings if row > start), len(lines))
    return "\n".join([*lines[:start], *lines[end:]])


def _headings(lines: Sequence[str]) -> list[tuple[int, str]]:
    """The rows of headings of the first two levels, and their text with its signs."""
    found, fence = [], ""
    for row, line in enumerate(lines):
        if fence:
            if _FENCE.fullmatch(line.rstrip()) and line.strip().startswith(fence):
                fence = ""
        elif opened := _FENCE.match(line):
            fence = opened[1]
        elif re.match("#{1,2} ", line):
            found.append((row, line.rstrip()))
    return found


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(short(str(value), _MAX_CELL))
