"""Merges an adapter into its base model: one folder that transformers, or Meta's package sam3, loads by itself."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sam3_lora.errors import ModelError, explain_os_errors, first_line
from sam3_lora.files import atomic_folder, check_writable, follow_umask, user_path
from sam3_lora.markdown import escape
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.base import load_base
from sam3_lora.model.base_files import meta_file
from sam3_lora.model.base_files.locate import locate
from sam3_lora.model.base_files.meta_file import PUBLISHED
from sam3_lora.model.image_size import image_size_of

if TYPE_CHECKING:
    from transformers import Sam3Model


Layout = Literal["transformers", "meta"]
_REMEDY = "Free disk space or choose another folder"
_CARD = """---
{library}pipeline_tag: mask-generation
base_model: {}
---
# SAM 3 with an adapter merged into it

Base: {}. Adapter: {}. {loading}

This model cannot route by phrase: the adapter's changes act on every phrase, also on those that it was not taught. To
have these answered as the base does, use base and adapter unmerged.

The base's license holds for this model, too.
"""
_LOADING: dict[Layout, str] = {
    "transformers": """\
`Sam3Model.from_pretrained` and `Sam3Processor.from_pretrained` load this folder.

Give `Sam3Model` one padded box with each phrase (any box, with the label -10), as SAM 3 itself does: without it the
scores and masks are not those that the adapter was trained to give.""",
    "meta": """\
Meta's package `sam3` loads the file: `build_sam3_image_model(checkpoint_path="{file}", load_from_HF=False)`. It takes
images of 1008 pixels; the adapter was trained with {image_size}. {tracker}""",
}
_TRACKER = (
    "There is no tracker in it.",
    "Its tracker is the base's: what the adapter changes in the vision encoder also changes what the tracker sees.",
)


def merge_into_folder(
    base: str,
    adapter: str | Path,
    out: str | Path,
    *,
    image_size: int | None = None,
    processor: str = "",
    layout: Layout = "transformers",
) -> Path:
    """Writes a full model, in float32: the base's weights with the adapter merged into them, and the processor.

    Args:
        base: "demo", a folder or a Hub repository, as for :func:`sam3_lora.model.base.load_base`.
        adapter: the adapter's folder.
        out: a folder that does not exist yet, or is empty. It appears only when everything is written.
        image_size: of the merged model; None for the one that the adapter was trained with, or the base's own.
        processor: as for :func:`sam3_lora.model.base.load_base`; "" as above.
        layout: "transformers", or "meta" for a checkpoint (.pt) that the package sam3 loads. If the base is one, what
            the detector does not use, such as the tracker, is copied from it.

    Returns:
        The folder.

    Raises:
        ModelError: base or adapter cannot be loaded, they do not fit each other, or the folder is not empty or cannot
            be written.
    """
    out = user_path(out)
    _check_free(out)
    cannot_write = partial(explain_os_errors, ModelError, f"The merged model cannot be written to {out}", _REMEDY)
    with cannot_write():
        check_writable(out)
    trained = adapter_base.read(find_adapter(adapter))
    loaded = load_base(base, image_size=image_size or trained.image_size, processor=processor or trained.processor)
    merged = lora.merge(lora.load(loaded.model, adapter))
    with cannot_write():
        out.parent.mkdir(parents=True, exist_ok=True)
        needed = sum(parameter.numel() * parameter.element_size() for parameter in merged.parameters())
        if shutil.disk_usage(out.parent).free < needed:
            raise ModelError(
                f"The merged model takes {needed / 1e9:.1f} GB, and {out.parent} has less free space",
                _REMEDY,
            )
        with atomic_folder(out) as written:
            if layout == "meta":
                loading = _write_checkpoint(merged, base, written)
            else:
                _write_model(merged, written)
                loading = _LOADING[layout]
            loaded.processor.save_pretrained(written)
            library = "library_name: transformers\n" if layout == "transformers" else ""
            names = map(escape, (base, Path(adapter).resolve().name))
            card = _CARD.format(json.dumps(base), *names, loading=loading, library=library)
            (written / "README.md").write_text(card, encoding="utf-8")
            follow_umask(written)
    return out


def _write_model(merged: Sam3Model, folder: Path) -> None:
    from safetensors import SafetensorError

    try:
        merged.save_pretrained(folder)
    except SafetensorError as error:  # for a full disk
        raise ModelError(f"The merged model cannot be written: {first_line(error)}", _REMEDY) from error


def _write_checkpoint(merged: Sam3Model, base: str, folder: Path) -> str:
    """Writes Meta's checkpoint and the architecture beside it; returns how to load it, in words."""
    source = locate(base).checkpoint
    file = folder / (source.name if source is not None and source.name in PUBLISHED else PUBLISHED[0])
    try:
        meta_file.write(merged, file, None if source is None else meta_file.read(source))
    except KeyError as error:
        raise ModelError(
            f"The base model '{base}' has weights that Meta's SAM 3 does not have, such as {error.args[0]}",
            "Leave out --format meta",
        ) from None
    except RuntimeError as error:  # of torch.save, for a full disk
        raise ModelError(f"The merged model cannot be written: {first_line(error)}", _REMEDY) from error
    merged.config.save_pretrained(folder)
    size, tracker = image_size_of(merged.config), _TRACKER[source is not None]
    return _LOADING["meta"].format(file=file.name, image_size=size, tracker=tracker)


def _check_free(out: Path) -> None:
    try:
        taken = out.is_file() or (out.is_dir() and any(out.iterdir()))
    except OSError as error:
        raise ModelError(f"The folder {out} cannot be opened: {error.strerror}", "Choose another folder") from None
    if taken:
        raise ModelError(f"Expected a new folder for the merged model, but {out} is not empty", "Choose another name")
