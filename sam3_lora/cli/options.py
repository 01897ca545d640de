"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam3_lora.cli.output import echo
from sam3_lora.config import DEMO, DataConfig, ModelConfig
from sam3_lora.errors import ConfigError
from sam3_lora.files import user_path

_DATA, _MODEL = DataConfig.model_fields, ModelConfig.model_fields

Dataset = Annotated[str, typer.Argument(help="Dataset folder, or 'demo'.")]
ImageDir = Annotated[str, typer.Option("--image-dir", "--images", help=_DATA["image_dir"].description)]
DefaultPhrase = Annotated[str, typer.Option("--default-phrase", "--phrase", help=_DATA["default_phrase"].description)]
CrowdsAsObjects = Annotated[bool, typer.Option("--crowds-as-objects", help=_DATA["crowds_as_objects"].description)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def _adapter_folder(path: Path | None) -> Path | None:
    """The folder of the adapter that a path means; says which one if it is another path."""
    if path is None:
        return None
    from sam3_lora.model.adapter_files.find_adapter import find_adapter

    folder = find_adapter(path)
    if folder != user_path(path):
        echo(f"Uses the adapter {folder}", err=True)
    return folder


AdapterPath = Annotated[
    Path, typer.Argument(help="Adapter folder, such as runs/RUN/adapters/best.", callback=_adapter_folder)
]
Adapter = Annotated[
    Path | None,
    typer.Option(help="Adapter folder, or its run's; left out, the base model alone.", callback=_adapter_folder),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="'demo', a Hugging Face Hub id such as facebook/sam3, a folder, or Meta's sam3.pt; left out, the "
        "adapter's base model."
    ),
]
ProcessorOption = Annotated[str, typer.Option("--processor", help=_MODEL["processor"].description)]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--image-size",
        min=1,
        help="Side in pixels of the square that images are resized to, a multiple that fits the base model; left out, "
        "the size the adapter was trained with, or the base's own.",
    ),
]
Taught = Annotated[
    list[str] | None,
    typer.Option(help="A phrase that the adapter was taught, to route by instead of those stored with it; repeatable."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[
    str, typer.Option(help="auto (bf16 on a GPU that computes in it, else fp32), fp32, bf16 or fp16.")
]


def base_model(base: str | None, adapter: Path | None) -> str:
    """The base model to load: the given one, else the adapter's, else the demo.

    Raises:
        ConfigError: the adapter does not name its base model.
        ModelError: the folder contains no adapter.
    """
    if base or adapter is None:
        return base or DEMO
    from sam3_lora.model.adapter_files.settings import base_model_of

    if named := base_model_of(adapter):
        return named
    raise ConfigError(f"The adapter in {adapter} does not name its base model", "Give it with --base")
