"""The command repair-refusal: trains the presence head of a run's adapter alone, so that it refuses what is absent."""

from __future__ import annotations

from typing import Annotated

import typer

from sam3_lora.cli.options import AdapterPath, AsJson, Device, Precision
from sam3_lora.cli.output import echo, echo_json, progress_bar


def repair_refusal(
    run: AdapterPath,
    steps: Annotated[int | None, typer.Option(min=1, max=100_000, help="Training steps; left out, 100.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Train the presence head of a run's adapter alone, so that it fires less on words for what is not in the image.

    RUN is the folder of a run, whose best adapter is taken, or of an adapter in it. The result is the adapter "refusal"
    beside it, with the numbers before and after; the adapter itself stays as it is.
    """
    from msgspec import to_builtins

    from sam3_lora.train.refusal import report as of
    from sam3_lora.train.refusal.folders import refusal_folder
    from sam3_lora.train.refusal.repair import RepairRequest
    from sam3_lora.train.refusal.repair import repair_refusal as repair

    request = RepairRequest(run, device=device, precision=precision)
    if steps is not None:
        request = RepairRequest(run, steps, device, precision)
    with progress_bar("Repairing refusal") as progress:
        report = repair(request, progress or (lambda share, what: None))
    folder = refusal_folder(run)
    if as_json:
        echo_json({**to_builtins(report), "outcome": report.outcome.value, "adapter": str(folder)})
        return
    echo(of.sentence(report))
    if measured := of.rows(report):
        echo(f"{'':42}{'before':>20}{'after':>20}")
    for label, before, after in measured:
        echo(f"{label:42}{before:>20}{after:>20}")
    echo(f"  {of.facts(report)}")
    echo(f"Wrote {folder}")
