"""Reads and writes edits.yaml: one edit a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from sam3_lora.config.yaml_text import MAX_BYTES, YamlError, dump, load
from sam3_lora.data.edits.kinds import EditList
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import MB, atomic_write, read_file, user_path
from sam3_lora.text import short

EDITS_FILE = "edits.yaml"
_HEAD = "# Edits of a dataset, applied when it is opened with this file (data.edits). Its own files stay as they are.\n"
_FIX = "Correct the file, or write one with 'sam3-lora repair DATASET --fix all --save edits.yaml'"


def read_edits(path: str | Path) -> EditList:
    """The edits in a file.

    Raises:
        DataError: it is missing, cannot be read, or is no list of edits; with the place of the first mistake.
    """
    path = user_path(path)
    fix = "Correct data.edits, or give another file"
    with explain_os_errors(DataError, f"The edits in {path} cannot be read", fix):
        content = read_file(path, MAX_BYTES)
    try:
        return parse_edits(content.decode("utf-8-sig"), path.name)
    except UnicodeDecodeError:
        raise DataError(f"Expected YAML text in {path}, but it is a binary file", fix) from None


def has_edits(path: Path) -> bool:
    """Whether a file of :func:`write_edits` is there and has an edit, without reading it."""
    try:
        return os.stat(path).st_size > len(edits_text(EditList()).encode())
    except (OSError, ValueError):
        return False


def parse_edits(text: str, source: str) -> EditList:
    """The edits in YAML text.

    Args:
        text: a list of edits under `edits`.
        source: where it comes from, for the error message.

    Raises:
        DataError: as :func:`read_edits` does.
    """
    try:
        values: Any = load(text)
    except YamlError as error:
        raise DataError(f"Expected edits in {source}, but it is not YAML: {error}", _FIX) from None
    if values is None:
        return EditList()
    try:
        return msgspec.convert(values, EditList)
    except msgspec.ValidationError as error:
        raise DataError(f"Expected edits in {source}, but {_in_words(str(error))}", _FIX) from None


def _in_words(error: str) -> str:
    """What msgspec says of a mistake, with its place in front: "$.edits[2].split" is "split of edit 3"."""
    what, _, where = error.partition(" - at `")
    parts = where.rstrip("`").removeprefix("key in ").removeprefix("$").replace("[...]", "").strip(".").split(".")
    place = " of ".join(
        f"edit {int(part[6:-1]) + 1}" if part.startswith("edits[") and part[6:-1].isdecimal() else part
        for part in reversed(parts)
        if part
    )
    return short(f"in {place}: {what[:1].lower()}{what[1:]}" if place else what[:1].lower() + what[1:], 400)


def write_edits(path: Path, edits: EditList) -> None:
    """Writes a file of edits, whole or not at all.

    Raises:
        DataError: it cannot be written, or the edits name too much for one file.
    """
    text = edits_text(edits)
    if len(text) > MAX_BYTES:
        raise DataError(
            f"The edits name too many images or objects for one file: {len(text) / MB:.1f} MB of {MAX_BYTES / MB:g}",
            "Write the dataset out with the edits so far (sam3-lora repair --out), and go on with the new one",
        )
    with explain_os_errors(DataError, f"The edits cannot be written to {path}", "Give another file"):
        atomic_write(path, text, sync=True)


def edits_text(edits: EditList) -> str:
    """YAML that :func:`parse_edits` reads."""
    if not edits:
        return f"{_HEAD}edits: []\n"
    lines = [f"  - {dump(msgspec.to_builtins(edit))}" for edit in edits.edits]
    return "\n".join((f"{_HEAD}edits:", *lines, ""))
