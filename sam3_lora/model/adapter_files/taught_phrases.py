"""The phrases that an adapter was taught: a small file beside the weights, which PEFT ignores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import MB, read_file

FILE = "taught_phrases.json"
_MAX_BYTES = MB


class _Content(msgspec.Struct, frozen=True):
    phrases: Annotated[list[Annotated[str, Meta(min_length=1, max_length=1000)]], Meta(max_length=20_000)]


def read(adapter: Path, place: str | None = None) -> tuple[str, ...] | None:
    """Reads an adapter's file.

    Args:
        adapter: the adapter's folder.
        place: what messages call it; its path unless given.

    Returns:
        The phrases; None where there is no file, as in adapters of other programs and of earlier versions.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        return tuple(msgspec.json.decode(read_file(adapter / FILE, _MAX_BYTES), type=_Content).phrases)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise ModelError(
            f"The {FILE} in {place or adapter}, which holds the phrases that the adapter was taught, cannot be read: "
            f"{reason}",
            "Copy the adapter again; or delete the file, and name the phrases where they are needed",
        ) from None


def write(adapter: Path, phrases: Sequence[str]) -> None:
    """Writes the file into an adapter's folder; none if they are more than :func:`read` takes. Raises OSError."""
    try:
        content = msgspec.convert({"phrases": list(phrases)}, _Content)
    except msgspec.ValidationError:
        return
    encoded = msgspec.json.format(msgspec.json.encode(content)) + b"\n"
    if len(encoded) <= _MAX_BYTES:
        (adapter / FILE).write_bytes(encoded)
