"""What commands print and write: lines without control characters, JSON, a progress bar, report files."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from sam3_lora.errors import DataError, Sam3LoraError

_BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines; control characters, which names in a dataset may contain, are printed as escapes.

    Args:
        text: one or more lines.
        err: on stderr instead of stdout.
    """
    odd = {c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Cs") or c in _BIDI_CONTROLS)}
    typer.echo(text.translate({ord(c): c.encode("unicode_escape").decode() for c in odd}), err=err)


def echo_json(value: Any) -> None:
    """Prints a value as one line of JSON."""
    typer.echo(json.dumps(value))


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[float, str], None] | None]:
    """Yields a callback for the share done, in [0, 1], that draws a bar on stderr; None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with typer.progressbar(length=1000, label=label, file=sys.stderr) as bar:
        yield lambda share, _: bar.update(int(1000 * share) - bar.pos)


def require_report_suffix(path: Path | None) -> None:
    """Raises DataError unless a report's file, if there is one, ends with .md or .json."""
    if path is not None and path.suffix not in (".md", ".json"):
        raise DataError(f"Expected a file that ends with .md or .json after --out, got {path}", "Rename it")


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8. Raises Sam3LoraError if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Sam3LoraError(f"{path} cannot be written ({error.strerror})", "Give another file") from None
