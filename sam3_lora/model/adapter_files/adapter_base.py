"""How an adapter's base model was loaded for training: a small file beside the weights, which PEFT ignores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from sam3_lora.errors import ModelError, first_line

FILE = "base_model.json"


@dataclass(frozen=True)
class AdapterBase:
    """What an adapter was trained with, besides the base model that PEFT's settings name."""

    # Side in pixels; None if it is not known, as with an adapter that PEFT saved.
    image_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)] | None = None
    processor: str = ""  # folder or repository of the processor; "" for the base model's own


def read(adapter: Path) -> AdapterBase:
    """Reads an adapter's file; without one nothing is known, and the base's own values hold.

    Args:
        adapter: the adapter's folder.

    Raises:
        ModelError: the file is damaged: at another image size the adapter would find less, and nobody would know why.
    """
    path = adapter / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=AdapterBase)
    except FileNotFoundError:
        return AdapterBase()
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}, which holds the image size of the adapter's training, cannot be read: {first_line(error)}",
            "Copy the adapter again; or delete the file, if it was trained at the base model's own size",
        ) from None


def write(adapter: Path, base: AdapterBase) -> None:
    """Writes the file into an adapter's folder."""
    (adapter / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(base)) + b"\n")
