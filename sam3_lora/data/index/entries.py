"""Single values of an entry in an annotation file: its id, its size, its file name; and the entry as plain JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from sam3_lora.data.formats.coco import AnnotationEntry
from sam3_lora.data.index.objects.notation import number_of
from sam3_lora.errors import DataError
from sam3_lora.text import valid_text

MAX_PIXELS = 2**28  # of an image: more is a typing error, and would exhaust the memory as a mask


def identifier(value: Any) -> int | str | None:
    """A usable id: a whole number of 64 bits or text; None for everything else."""
    if isinstance(value, str):
        return valid_text(value) if value.strip() else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def side_length(value: Any) -> int:
    """A width or height in pixels; 0 if it is none."""
    value = number_of(value) if isinstance(value, str) else value
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_PIXELS else 0


def file_name_of(entry: dict[str, Any]) -> Any:
    """What an image entry gives as file name; LVIS has only an address, whose last part is the name."""
    url = entry.get("coco_url")
    return url.rsplit("/", 1)[-1] if entry.get("file_name") is None and isinstance(url, str) else entry.get("file_name")


def as_plain(entry: AnnotationEntry) -> dict[str, Any]:
    """An annotation as the plain JSON value it was."""
    try:
        segmentation = msgspec.json.decode(entry.segmentation) if bytes(entry.segmentation) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        segmentation = "not JSON"  # numbers out of range and the like: becomes a finding as an invalid segmentation
    attributes = msgspec.to_builtins(entry.attributes)
    plain = {"bbox": list(entry.bbox), "segmentation": segmentation, "attributes": attributes}
    return msgspec.structs.asdict(entry) | plain


def require_at_most(limit: int, count: int, what: str) -> None:
    """Raises DataError if there are too many entries, so that no file can exhaust the memory.

    Args:
        limit: of a split.
        count: so far.
        what: is counted.
    """
    if count > limit:
        raise DataError(f"Expected at most {limit:,} {what} in a split, got more", "Divide the split into several")
