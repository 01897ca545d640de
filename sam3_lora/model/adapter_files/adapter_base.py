"""How an adapter's base model was loaded for training: a small file beside the weights, which PEFT ignores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import MB, read_file
from sam3_lora.tiles import Tiling

FILE = "base_model.json"
_MAX_BYTES = MB


@dataclass(frozen=True)
class AdapterBase:
    """What an adapter was trained with, besides the base model that PEFT's settings name."""

    # Side in pixels; None if it is not known, as with an adapter that PEFT saved.
    image_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)] | None = None
    processor: Annotated[str, msgspec.Meta(max_length=4096)] = (
        ""  # folder or repository of the processor; "" for the base model's own
    )
    tiles: Tiling | None = None  # that images were cut into; None: none


def read(adapter: Path, place: str | None = None) -> AdapterBase:
    """Reads an adapter's file; without one nothing is known, and the base's own values hold.

    Args:
        adapter: the adapter's folder.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: the file is damaged: at another image size the adapter would find less, and nobody would know why.
    """
    path = adapter / FILE
    try:
        return msgspec.json.decode(read_file(path, _MAX_BYTES), type=AdapterBase)
    except FileNotFoundError:
        return AdapterBase()
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise ModelError(
            f"The {FILE} in {place or adapter}, which holds the image size of the adapter's training, cannot be read: "
            f"{reason}",
            "Copy the adapter again; or delete the file, if it was trained at the base model's own size",
        ) from None


def write(adapter: Path, base: AdapterBase) -> None:
    """Writes the file into an adapter's folder."""
    (adapter / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(base)) + b"\n")
