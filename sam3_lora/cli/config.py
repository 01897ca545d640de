"""The command config: a complete configuration file."""

from __future__ import annotations

from typing import Annotated

import typer

from sam3_lora.recipes import PRESETS, preset


def config(
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "balanced",
) -> None:
    """Print all settings, with comments, as YAML."""
    typer.echo(preset(preset_name).to_yaml(comments=True), nl=False)
