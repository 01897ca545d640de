"""Reads files of a run that may be of another user, or damaged: nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sam3_lora.files import open_regular

_TAIL_BYTES = 65_536


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, of its last 64 KiB; "" if it is missing or cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def unreadable(paths: Iterable[Path]) -> dict[str, str]:
    """The files that are there, but cannot be opened: name -> the system's reason."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            open_regular(path).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            found[path.name] = error.strerror or str(error)
    return found
