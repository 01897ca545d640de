"""The app of all commands, and how it ends on an error."""

from __future__ import annotations

import sys

import typer

from sam3_lora.cli import concept
from sam3_lora.cli.config import config
from sam3_lora.cli.convert_masks import convert_masks
from sam3_lora.cli.evaluate import evaluate
from sam3_lora.cli.inspect import inspect
from sam3_lora.cli.label import label
from sam3_lora.cli.merge import merge
from sam3_lora.cli.output import echo
from sam3_lora.cli.predict import predict
from sam3_lora.cli.repair import repair
from sam3_lora.cli.repair_refusal import repair_refusal
from sam3_lora.cli.train import train, train_launched
from sam3_lora.errors import Sam3LoraError, first_line

app = typer.Typer(
    help="LoRA fine-tuning of SAM 3.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes as long as everything else together
)
_LESS_MEMORY = "Choose a smaller image size or another device, or close other programs."
for command in (inspect, repair, convert_masks, config, train, predict, label, evaluate, repair_refusal, merge):
    app.command(command.__name__.replace("_", "-"))(command)
app.add_typer(concept.app, name="concept")
app.command("train-launched", hidden=True)(train_launched)


def main() -> None:
    """Runs a command; a user's mistake, or too little memory, ends with exit code 2 and one sentence on stderr."""
    try:
        app()
    except Sam3LoraError as error:
        echo(f"Error: {error}", err=True)
        sys.exit(2)
    except (RuntimeError, MemoryError) as error:
        from sam3_lora.train.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        echo(f"Error: Memory ran out: {first_line(error)}. {_LESS_MEMORY}", err=True)
        sys.exit(2)
