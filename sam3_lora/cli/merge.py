"""The command merge: base model and adapter as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sam3_lora.cli.options import AdapterPath, AsJson, Base, ImageSize, ProcessorOption, base_model
from sam3_lora.cli.output import echo, echo_json


def merge(
    adapter: AdapterPath,
    out: Annotated[Path, typer.Argument(help="A new folder for the merged model.")],
    base: Base = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    layout: Annotated[
        Literal["transformers", "meta"],
        typer.Option("--format", help="transformers: a folder for Sam3Model; meta: a .pt for Meta's package sam3."),
    ] = "transformers",
    as_json: AsJson = False,
) -> None:
    """Merge base and adapter into one model, for transformers or for Meta's package."""
    from sam3_lora.model.merge import merge_into_folder

    base = base_model(base, adapter)
    folder = merge_into_folder(base, adapter, out, image_size=image_size, processor=processor, layout=layout)
    if as_json:
        echo_json({"folder": str(folder), "base": base, "adapter": str(adapter)})
    else:
        echo(f"Wrote {folder}: {base} merged with the adapter {adapter}.")
