"""The command config: a complete configuration file."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.recipes import PRESETS, UNCONFIRMED, Advice, preset, recipe_for

_WIDTH = 116  # of a comment, without the signs before it


def config(
    preset_name: Annotated[
        str | None,
        typer.Option("--preset", help=f"One of {', '.join(PRESETS)}; left out, balanced or what the recipe advises."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model; the settings are the recipe for it and the dataset.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset folder, or 'demo'; the recipe depends on its size.")
    ] = None,
) -> None:
    """Print all settings, with comments, as YAML."""
    chosen = {"model.base": base or DEMO, "data.path": dataset or DEMO}
    images = None if dataset is None else _training_images(RunConfig().with_settings(chosen))
    recipe = recipe_for(chosen["model.base"], images)
    own: dict[str, Any] = {}
    if preset_name is not None:
        own = {f"lora.{name}": value for name, value in preset(preset_name).lora.model_dump().items()}
    notes = {each.setting: _note(each) for each in recipe.advice if each.setting not in own}
    doubt = "" if recipe.confirmed else f". {UNCONFIRMED}"
    typer.echo(f"# {recipe.title}{doubt}.\n")
    typer.echo(RunConfig().with_settings(chosen | recipe.values | own).to_yaml(comments=True, notes=notes), nl=False)


def _note(advice: Advice) -> str:
    """The comment on a value of the recipe, in lines that fit beside the others."""
    doubt = "" if advice.confirmed else f", {UNCONFIRMED[0].lower()}{UNCONFIRMED[1:]}"
    return textwrap.fill(f"Recipe{doubt}: {advice.source}.", _WIDTH)


def _training_images(config: RunConfig) -> int:
    """Raises DataError if the dataset cannot be opened."""
    from sam3_lora.data.dataset import open_dataset
    from sam3_lora.data.splits.split_use import expected_use

    return expected_use(open_dataset(**config.data.reading), config.data, config.training.seed).train_images
