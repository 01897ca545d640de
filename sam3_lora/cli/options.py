"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3_lora.cli.output import echo
from sam3_lora.config import DEMO, DataConfig, ModelConfig
from sam3_lora.config.fields import MAX_TILE, MIN_TILE
from sam3_lora.errors import ConfigError, Sam3LoraError
from sam3_lora.files import user_path
from sam3_lora.text import plural, short

if TYPE_CHECKING:
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.predict.routing import Routing

_DATA, _MODEL = DataConfig.model_fields, ModelConfig.model_fields

Dataset = Annotated[str, typer.Argument(help="Dataset folder, or 'demo'.")]
ImageDir = Annotated[str, typer.Option("--image-dir", "--images", help=_DATA["image_dir"].description)]
DefaultPhrase = Annotated[str, typer.Option("--default-phrase", "--phrase", help=_DATA["default_phrase"].description)]
CrowdsAsObjects = Annotated[bool, typer.Option("--crowds-as-objects", help=_DATA["crowds_as_objects"].description)]
EditsOption = Annotated[str, typer.Option("--edits", help=_DATA["edits"].description)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def _checked_tiles(size: int | None) -> int | None:
    if size and size < MIN_TILE:
        raise ConfigError(f"Expected tiles of at least {MIN_TILE} pixels, got {size}", "Use 0 for whole images")
    return size


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
Tiles = Annotated[
    int | None,
    typer.Option(
        "--tiles",
        min=0,
        max=MAX_TILE,
        callback=_checked_tiles,
        help="Side in pixels of the tiles that larger images are cut into, 0 for whole images; left out, as the "
        "adapter was trained. The pieces of an object become one.",
    ),
]
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
_PHRASES = "A phrase, or several separated by commas; one that contains a comma in quotes; repeatable."
Prompt = Annotated[list[str], typer.Option(help=_PHRASES)]
PromptOrNone = Annotated[list[str] | None, typer.Option("--prompt", help=_PHRASES)]
Route = Annotated[
    bool | None,
    typer.Option(
        help="The adapter answers the phrases that it was taught, the base model all others; --taught implies it."
    ),
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


def phrases_of(prompt: list[str], adapter: Path | None) -> list[str]:
    """The phrases that are typed, each once; says how several in one text were understood.

    Raises:
        Sam3LoraError: one contains bytes that are no text.
    """
    from sam3_lora.data.phrase_list import split_phrases
    from sam3_lora.evaluate.store import known_phrases

    typed = "\n".join(prompt)
    phrases = split_phrases(typed, known_phrases(adapter) if "," in typed or ";" in typed else ())
    if len(phrases) > len(prompt):
        echo(
            f"Prompts with {plural(len(phrases), 'phrase')}: {' | '.join(map(short, phrases))} "
            '("a, b" in quotes is one)',
            err=True,
        )
    if not all(map(str.isprintable, phrases)):
        raise Sam3LoraError("Expected phrases of plain text, but one contains other bytes", "Write it in UTF-8")
    return phrases


def routing_of(adapter: Path | None, taught: list[str], route: bool | None) -> Routing | None:
    """How phrases are routed; None if they are not.

    Raises:
        Sam3LoraError: there is no adapter, or nobody knows what it was taught.
    """
    from sam3_lora.predict.routing import Routing

    if not (route or (taught and route is None)):
        return None
    if adapter is None:
        raise Sam3LoraError("Expected an adapter to route phrases to, but there is none", "Give one with --adapter")
    if (routing := Routing.of(adapter, taught)) is None:
        raise Sam3LoraError(
            f"The adapter in {adapter} does not know which phrases it was taught", "Give each of them with --taught"
        )
    return routing


def set_tiles(predictor: Predictor, size: int | None) -> None:
    """Cuts images as the option says; size: see :data:`Tiles`."""
    from sam3_lora.tiles import Tiling

    if size is not None:
        predictor.tiles = Tiling(size) if size else None
