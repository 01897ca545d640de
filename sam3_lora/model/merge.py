"""Merges an adapter into its base model: one folder that transformers loads without PEFT or this project."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam3_lora.errors import ModelError, explain_os_errors
from sam3_lora.files import atomic_folder
from sam3_lora.model import adapter_base, lora
from sam3_lora.model.base import load_base
from sam3_lora.model.find_adapter import find_adapter

_CARD = """---
library_name: transformers
pipeline_tag: mask-generation
base_model: {base}
---
# SAM 3 with an adapter merged into it

Base: `{base}`. Adapter: `{adapter}`. `Sam3Model.from_pretrained` and `Sam3Processor.from_pretrained` load this folder.

Give `Sam3Model` one padded box with each phrase (any box, with the label -10), as SAM 3 itself does: without it the
scores and masks are not those that the adapter was trained to give. The base's license holds for this model, too.
"""


def merge_into_folder(
    base: str, adapter: str | Path, out: str | Path, *, image_size: int | None = None, processor: str = ""
) -> Path:
    """Writes a full model, in float32: the base's weights with the adapter merged into them, and the processor.

    Args:
        base: "demo", a folder or a Hub repository, as for :func:`sam3_lora.model.base.load_base`.
        adapter: the adapter's folder.
        out: a folder that does not exist yet, or is empty. It appears only when everything is written.
        image_size: of the merged model; None for the one that the adapter was trained with, or the base's own.
        processor: as for :func:`sam3_lora.model.base.load_base`; "" as above.

    Returns:
        The folder.

    Raises:
        ModelError: base or adapter cannot be loaded, they do not fit each other, or the folder is not empty or cannot
            be written.
    """
    out = Path(out).expanduser()
    _check_free(out)
    trained = adapter_base.read(find_adapter(adapter))
    loaded = load_base(base, image_size=image_size or trained.image_size, processor=processor or trained.processor)
    merged = lora.merge(lora.load(loaded.model, adapter))
    remedy = "Free disk space or choose another folder"
    with explain_os_errors(ModelError, f"The merged model cannot be written to {out}", remedy):
        out.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(parameter.numel() * parameter.element_size() for parameter in merged.parameters())
        if shutil.disk_usage(out.parent).free < needed:
            raise ModelError(
                f"The merged model takes {needed / 1e9:.1f} GB, and {out.parent} has less free space",
                remedy,
            )
        with atomic_folder(out) as written:
            merged.save_pretrained(written)
            loaded.processor.save_pretrained(written)
            card = _CARD.format(base=base, adapter=Path(adapter).resolve().name)
            (written / "README.md").write_text(card, encoding="utf-8")
    return out


def _check_free(out: Path) -> None:
    try:
        taken = out.is_file() or (out.is_dir() and any(out.iterdir()))
    except OSError as error:
        raise ModelError(f"The folder {out} cannot be opened: {error.strerror}", "Choose another folder") from None
    if taken:
        raise ModelError(f"Expected a new folder for the merged model, but {out} is not empty", "Choose another name")
