"""The rows of metrics.jsonl: their columns, how they are read, and which still count after a resume."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Required, TypedDict

import msgspec

from sam3_lora.config import BestBy
from sam3_lora.files import open_regular

# What the best adapter is the best by, in words.
BEST_BY: Mapping[BestBy, str] = {"cgf1": "cgF1", "f1": "F1", "loss": "validation loss"}
MAX_COUNT = 2**53  # whole numbers beyond it are no counts, and some do not even fit into a float
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class Row(TypedDict, total=False):
    """One row; which columns it has depends on its kind.

    "step" and "validation" have at least total and terms; "resume" supersedes earlier rows after its step; "skipped" is
    a step whose batch did not fit into memory; "note" is something users should know. Files of earlier versions lack
    some columns.
    """

    kind: Required[Literal["step", "validation", "resume", "skipped", "note"]]
    step: Required[Count]
    time: float | None  # unix seconds
    epoch: int  # from 1
    total: float  # the loss
    terms: dict[str, float]  # weighted, by the term's name
    raw: dict[str, float]  # unweighted
    replay: dict[str, float]  # weighted terms of replay, by name
    replay_raw: dict[str, float]  # unweighted
    replay_total: float
    lr: float | None
    grad_norm: float | None  # before clipping
    grad_norm_by_component: dict[str, float] | None  # at step 1 and every 20 steps
    images_per_second: float | None
    memory_bytes: float | None
    objects: int  # in the targets
    phrases: int
    negatives: int  # phrases without an object
    f1_50: float | None  # validation: F1 of masks at IoU 0.5 and score 0.5, as Evaluate measures it; None: not defined
    cgf1: float | None  # validation: as Evaluate measures it; None where it is not defined
    box_f1_50: float | None  # validation, in files of earlier versions: F1 of boxes at IoU 0.5 and score 0.5
    about: str  # note: "held-out", "not-finite", "not-finite-validation", "dataset-changed", "image-left-out",
    # "checkpoint-damaged", "samples-not-written" or "best-by"
    message: str  # skipped, note
    images: list[str]  # skipped, note: file names
    terms_not_finite: list[str]  # note about "not-finite"; empty if it is the gradients


def read_rows(path: Path, offset: int = 0, max_bytes: int = -1) -> tuple[list[Row], int]:
    """Reads rows from a byte offset on.

    Lines that are damaged or of an unknown kind are skipped; a line that is still being written is left for the next
    call.

    Args:
        path: metrics.jsonl.
        offset: where to begin, in bytes.
        max_bytes: read at once, all if negative; they must hold at least one row.

    Returns:
        The rows, and the offset for the next call; nothing new where the file is missing or cannot be read.
    """
    try:
        with open_regular(path) as file:
            file.seek(offset)
            block = file.read(max_bytes)
    except FileNotFoundError:
        return [], 0
    except OSError:  # of another user, or no file
        return [], offset
    complete, newline, _ = block.rpartition(b"\n")
    rows = [row for line in complete.splitlines() if (row := _parse(line)) is not None]
    return rows, offset + len(complete) + len(newline)


def effective_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows that count: after a resume at step k, earlier rows beyond k are superseded.

    So is a validation at k that is repeated, because the run ended before it was done with it.
    """
    kept: list[Row] = []
    resumed: int | None = None
    for row in rows:
        if row["kind"] == "resume":
            resumed = row["step"]
            kept = [earlier for earlier in kept if earlier["step"] <= row["step"]]
            continue
        if row["kind"] == "validation" and row["step"] == resumed:
            kept = [earlier for earlier in kept if (earlier["kind"], earlier["step"]) != (row["kind"], row["step"])]
        kept.append(row)
    return kept


def f1_after(path: Path, step: int) -> float | None:
    """The F1 of the last validation after a step; None where it was not measured. Decodes that row alone.

    Args:
        path: metrics.jsonl.
        step: after which the validation was made.
    """
    found = None
    with contextlib.suppress(OSError), open_regular(path) as file:
        for line in file:
            if b'"validation"' in line and (row := _parse(line)) and (row["kind"], row["step"]) == ("validation", step):
                found = row.get("f1_50")
    return None if found is None or math.isnan(found) else found


def validation_numbers(row: Row) -> str:
    """A validation's numbers as they are printed: "validation loss 3.104, F1 0.52, cgF1 0.41"."""
    values: dict[BestBy, float | None] = {"f1": row.get("f1_50"), "cgf1": row.get("cgf1")}
    measured = [f"{BEST_BY[name]} {value:.2f}" for name, value in values.items() if value is not None]
    return ", ".join([f"{BEST_BY['loss']} {row['total']:.3f}", *measured])


def _parse(line: bytes) -> Row | None:
    """A line's row; None if it is damaged, such as half a line of a process that was killed."""
    try:
        row = msgspec.convert(json.loads(line), Row)  # json, unlike msgspec, reads NaN and Infinity
    except (ValueError, RecursionError):
        return None
    if row["kind"] in ("step", "validation") and not ("total" in row and "terms" in row):
        return None
    return row
