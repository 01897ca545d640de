"""How an adapter's base model was loaded for training: a small file beside the weights, which PEFT ignores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "base_model.json"
_MAX_IMAGE_SIZE = 1 << 16


@dataclass(frozen=True)
class AdapterBase:
    """What an adapter was trained with, besides the base model that PEFT's settings name."""

    image_size: int | None = None  # side in pixels; None if it is not known, as with an adapter that PEFT saved
    processor: str = ""  # folder or repository of the processor; "" for the base model's own


def read(adapter: Path) -> AdapterBase:
    """Reads an adapter's file; without one, or if it is damaged, nothing is known and the base's own values hold.

    Args:
        adapter: the adapter's folder.
    """
    try:
        values = json.loads((adapter / FILE).read_text(encoding="utf-8"))
        size, processor = values.get("image_size"), values.get("processor")
    except (OSError, ValueError, AttributeError, RecursionError):
        return AdapterBase()
    known = isinstance(size, int) and 0 < size < _MAX_IMAGE_SIZE
    return AdapterBase(size if known else None, processor if isinstance(processor, str) else "")


def write(adapter: Path, base: AdapterBase) -> None:
    """Writes the file into an adapter's folder."""
    (adapter / FILE).write_text(json.dumps(asdict(base), indent=2) + "\n", encoding="utf-8")
