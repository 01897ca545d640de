"""train --check: prints what the preflight of a configuration found and measured."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from sam3_lora.cli.output import echo, echo_json
from sam3_lora.config import RunConfig
from sam3_lora.text import duration, plural

if TYPE_CHECKING:
    from sam3_lora.train.preflight.preflight import Measured, Preflight

_GB = 1e9


def run_preflight(config: RunConfig, as_json: bool) -> None:
    """Runs the preflight and prints its result; exit code 2 if the run would not start or not learn.

    Args:
        config: the run's settings.
        as_json: print one JSON object instead of lines.
    """
    from sam3_lora.runs.auto_values import describe as describe_auto
    from sam3_lora.runs.auto_values import with_values
    from sam3_lora.train.preflight.messages import describe
    from sam3_lora.train.preflight.preflight import preflight

    def progress(share: float, part: str) -> None:
        if share < 1:  # the result itself says that it is done
            echo(f"  {part}", err=True)

    result = preflight(config, progress)
    used = with_values(config, result.auto)
    problems = [(problem, *describe(problem, used)) for problem in result.problems]
    if as_json:
        in_words = [
            {"kind": problem.kind, "severity": problem.severity, "message": message, "fix": fix}
            for problem, message, fix in problems
        ]
        echo_json(asdict(replace(result, problems=[])) | {"problems": in_words})
    else:
        for problem, message, fix in problems:
            echo(f"{problem.severity.upper():8}{message}\n        {fix}")
        if result.splits is not None:
            echo(result.splits.sentence)
        for value in result.auto:
            echo(describe_auto(value))
        if result.measured is not None:
            _print_measured(result, result.measured)
    if not result.ok:
        raise typer.Exit(2)


def _print_measured(result: Preflight, measured: Measured) -> None:
    from sam3_lora.train.memory import describe_change

    for part in measured.components:
        echo(
            f"{part.name:18}{part.modules:5} modules{part.parameters:13,} parameters, "
            f"gradient norm {part.gradient_norm:.3g}"
        )
    if measured.memory_bytes is not None:
        echo(f"Memory: {measured.memory_bytes / _GB:.1f} of {measured.available_bytes / _GB:.1f} GB")
        how = "measured" if measured.largest_batch_is_measured else "estimated"
        echo(f"Largest batch: {measured.largest_batch} ({how}); effective batch: {result.effective_batch}")
    if measured.total_seconds is not None and result.length is not None:
        steps = plural(result.length.total_steps, "step")
        total = duration(measured.total_seconds)
        echo(f"Time: {measured.seconds_per_step:.2f} s per step, about {total} for {steps}")
    for saving in measured.savings:
        needs = "does not fit either" if saving.memory_bytes is None else f"{saving.memory_bytes / _GB:.1f} GB"
        echo(f"  {describe_change(saving.settings)}: {needs}")
