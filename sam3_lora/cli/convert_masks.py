"""The command convert-masks: semantic masks become a COCO split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sam3_lora.cli.output import echo
from sam3_lora.errors import DataError

_MAX_LINES = 10  # values and files that are listed each


def convert_masks(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of their masks, ideally PNG, named like the images.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the split, such as dataset/train.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class by value or color: 1=crack or '#ff0000=crack'; repeatable."),
    ] = None,
    objects: Annotated[
        Literal["components", "colors"],
        typer.Option(help="components: each connected region is an object; colors: all of a class in an image."),
    ] = "components",
    min_pixels: Annotated[int, typer.Option(min=1, help="Ignore smaller regions.")] = 16,
) -> None:
    """Convert semantic masks (PNG) to a COCO split."""
    from sam3_lora.data.formats.png_masks import convert_masks as convert

    pairs = [text.partition("=") for text in classes or ()]
    named = {value.strip(): name.strip() for value, _, name in pairs}
    if len(named) < len(pairs):
        raise DataError("Expected one class for each value, but a value is named twice", "Give each value once")
    result = convert(images, masks, out, named, objects=objects, min_pixels=min_pixels)
    counts = ", ".join(f"{name} {count}" for name, count in result.objects.items())
    echo(f"Wrote {out}: {result.images} images, {result.objects.total()} objects ({counts or 'none'})")
    if result.noisy:
        echo(
            f"  {result.noisy} masks have noise or smoothed edges: {result.noisy_pixels} pixels with a value between "
            "the classes took the nearest one"
        )
    for value, count in result.unknown.most_common(_MAX_LINES):
        echo(f"  value {value} in {count} masks has no class and was ignored")
    for name, why in list(result.skipped.items())[:_MAX_LINES]:
        echo(f"  {name} was skipped: {why}")
    if len(result.skipped) > _MAX_LINES:
        echo(f"  and {len(result.skipped) - _MAX_LINES} more")
