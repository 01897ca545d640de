"""What commands print and write: lines without control characters, JSON, a progress bar, report files."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from sam3_lora.errors import DataError, Sam3LoraError, explain_os_errors
from sam3_lora.files import atomic_write, check_writable
from sam3_lora.text import printable

_ANOTHER_FILE = "Give another file after --out, in a folder that exists"


def echo(text: str, *, err: bool = False) -> None:
    """Prints lines; control characters, which names in a dataset may contain, are printed as escapes.

    Args:
        text: one or more lines.
        err: on stderr instead of stdout.
    """
    typer.echo(printable(text), err=err)


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


def check_report_file(path: Path | None) -> None:
    """Checks, before a report is made, that it can be written to its file, if there is one.

    Raises:
        DataError: the file does not end with .md or .json.
        Sam3LoraError: it is a folder, or its own folder does not exist or takes no file.
    """
    if path is None:
        return
    if path.suffix not in (".md", ".json"):
        raise DataError(f"Expected a file that ends with .md or .json after --out, got {path}", "Rename it")
    with explain_os_errors(Sam3LoraError, f"{path} cannot be written", _ANOTHER_FILE):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.stat()  # a folder is not made: it may be mistyped
        check_writable(path.parent)


def write_report(path: Path, text: str) -> None:
    """Writes a report in UTF-8, whole or not at all. Raises Sam3LoraError if that fails."""
    with explain_os_errors(Sam3LoraError, f"{path} cannot be written", _ANOTHER_FILE):
        atomic_write(path, text)


def check_folder(path: Path | None) -> None:
    """Checks, before the work, that files can be written to a folder, if there is one, which need not exist.

    Raises Sam3LoraError.
    """
    if path is not None:
        with explain_os_errors(Sam3LoraError, f"Cannot write to {path}", "Give another folder after --out"):
            check_writable(path)
