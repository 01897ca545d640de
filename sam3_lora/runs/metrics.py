"""The lines of metrics.jsonl: which there are, how they are read, and which still count after a resume.

Every row has ``kind``, ``step`` and ``time`` (unix seconds). By kind it holds besides:

* "step": epoch, total, terms (name -> weighted), raw (name -> unweighted), lr, grad_norm (before clipping),
  images_per_second, memory_bytes, objects (in the targets), phrases (asked), negatives (phrases without an
  object); at step 1 and every 20 steps grad_norm_by_component.
* "validation": epoch, total, terms, raw, box_f1_50 (boxes, IoU 0.5, score 0.5).
* "resume": from this step on earlier rows are superseded.
* "skipped": a step whose batch did not fit into memory: images (file names), message.
* "note": about (such as "not-finite" or "dataset-changed"), message; images where some are concerned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
_LARGEST = 2**53  # whole numbers beyond it are no counts, and some do not even fit into a float


def read_rows(path: Path, offset: int = 0, max_bytes: int = -1) -> tuple[list[Row], int]:
    """The sound rows of a file from a byte offset on, and the offset to go on from next time.

    At most so many bytes are read at once, all if negative; they must hold at least one row.

    Lines that are damaged or of an unknown kind are passed over; one that is still being written is left
    for the next call.
    """
    if not path.is_file():
        return [], 0
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(max_bytes)
    complete, newline, _ = block.rpartition(b"\n")
    rows = []
    for line in complete.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # half a line, left by a process that was killed
        if _is_sound(row):
            rows.append(row)
    return rows, offset + len(complete) + len(newline)


def effective_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows that count: after a resume at step k, earlier rows beyond k are superseded."""
    kept: list[Row] = []
    for row in rows:
        if row.get("kind") == "resume":
            kept = [earlier for earlier in kept if earlier["step"] <= row["step"]]
        else:
            kept.append(row)
    return kept


def _is_sound(row: Any) -> bool:
    """Whether a row has what its readers count on; a damaged file may hold anything."""
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] <= _LARGEST:
        return False
    if not all(check(row[name]) for name, check in _CHECKS.items() if name in row):
        return False
    kind = row.get("kind")
    return kind in ("resume", "skipped", "note") or (
        kind in ("step", "validation") and "total" in row and "terms" in row
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(map(_is_number, values.values()))


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and -_LARGEST <= value <= _LARGEST)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _are_numbers_or_none(values: Any) -> bool:
    return values is None or _are_numbers(values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_text, values))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("total", "epoch", "objects", "phrases", "negatives"), _is_number),
    **dict.fromkeys(("lr", "grad_norm", "images_per_second", "memory_bytes", "box_f1_50", "time"), _is_number_or_none),
    **dict.fromkeys(("terms", "raw"), _are_numbers),
    "grad_norm_by_component": _are_numbers_or_none,
    "images": _are_texts,
    "message": _is_text,
}
