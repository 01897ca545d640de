"""The command train: starts, resumes or checks a run, and prints its progress."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3_lora.cli.options import AsJson
from sam3_lora.cli.output import echo, echo_json
from sam3_lora.config import RunConfig
from sam3_lora.config.yaml_text import YamlError, load
from sam3_lora.errors import ConfigError
from sam3_lora.text import duration, plural, short

if TYPE_CHECKING:
    from sam3_lora.runs.requests import Request
    from sam3_lora.runs.run import Run, Status
    from sam3_lora.train.preflight.preflight import Measured, Preflight

_GB = 1e9
_PROGRESS_S = 5  # seconds between two lines about steps


def train(
    config: Annotated[Path | None, typer.Argument(help="A YAML file of settings; see the command config.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: --set training.epochs=2; repeatable.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a run to resume, instead of a configuration.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only try one step: memory, time, problems.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train an adapter; Ctrl-C stops and saves."""
    from sam3_lora.runs.run import Run

    if (config is None) == (resume is None):
        raise ConfigError("Expected either a configuration file or --resume RUN", "Give exactly one of the two")
    if resume is not None and (settings or check):
        raise ConfigError("A run is resumed with the settings it was started with", "Leave out --set and --check")
    run = None if resume is None else Run.open(resume)
    if config is not None:
        run_config = RunConfig.load(config).with_settings(_parse_settings(settings or []))
    elif run is not None:
        run_config = run.config
        run.require_resumable()
    if check:
        _check(run_config, as_json)
        return

    from sam3_lora.train.accelerator import from_main, make_accelerator
    from sam3_lora.train.loop import fit

    accelerator = make_accelerator(run_config.training)
    run = run or Run.open(from_main(accelerator, lambda: Run.create(run_config).folder))
    is_main = accelerator.is_main_process
    try:
        with _progress_lines(run, err=as_json) if is_main else nullcontext(), request_on_signal(run, "stop"):
            status = fit(run, resume=resume is not None, accelerator=accelerator)
    except KeyboardInterrupt:
        after = (
            f"--resume {run.folder} continues from its last one"
            if run.resume_obstacle() is None
            else "there was none before"
        )
        echo(f"Aborted without saving a checkpoint; {after}.", err=True)
        raise typer.Exit(130) from None
    if is_main:
        _print_outcome(run, status, as_json)


def train_launched(folder: Path) -> None:
    """Train a run that the app has made and holds for this process; the app starts this command, people do not."""
    from sam3_lora.runs.launch import keep_output_short, release_output
    from sam3_lora.runs.run import Run

    keep_output_short()
    run = Run.open(folder)
    with run.writing(launched=True) as report, request_on_signal(run, "close"):
        from sam3_lora.train.loop import train_run  # takes seconds, in which the run is held already

        training = train_run(run, report, resume=bool(run.checkpoints()))
    if training.discarded:
        release_output()
        run.delete()


def _parse_settings(settings: list[str]) -> dict[str, Any]:
    """["training.epochs=2"] -> {"training.epochs": 2}; values are YAML, an empty one is empty text."""
    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"Expected NAME=VALUE after --set, got '{setting}'", "Write --set training.epochs=2")
        try:
            parsed[name.strip()] = load(value) if value.strip() else ""
        except YamlError as error:
            fix = "Write it as in a configuration file"
            raise ConfigError(f"The value in '{short(setting)}' cannot be read: {error.problem}", fix) from None
    return parsed


@contextmanager
def _progress_lines(run: Run, err: bool) -> Iterator[None]:
    """Prints what the run writes to its metrics, from a thread that reads them; on stderr if `err`."""
    from sam3_lora.runs.metrics import validation_numbers

    echo(f"Run {run.folder}", err=err)
    ended = threading.Event()
    _, written_before = run.metrics()  # by the run that is resumed

    def follow() -> None:
        shown, offset, last = 0.0, written_before, False
        while not last:
            last = ended.wait(0.5)
            rows, offset = run.metrics(offset)
            status = run.status()
            if status.state == "preparing" and status.message and time.monotonic() - shown > _PROGRESS_S:
                shown = time.monotonic()
                echo(f"  {status.message}", err=err)
            if status.preparation is not None and time.monotonic() - shown > _PROGRESS_S:
                shown = time.monotonic()
                echo(f"  {status.preparation.sentence}", err=err)
            for row in rows:
                if row["kind"] in ("note", "skipped"):
                    echo(f"  {row.get('message', '')}", err=err)
                elif row["kind"] == "validation":
                    echo(f"  epoch {row['epoch']}: {validation_numbers(row)}", err=err)
                elif row["kind"] == "step" and (time.monotonic() - shown > _PROGRESS_S or row["step"] == 1):
                    shown = time.monotonic()
                    speed = f"{row['images_per_second']:.1f} images/s"
                    total = run.status().total_steps
                    echo(f"  step {row['step']} of {total}: loss {row['total']:.3f}, {speed}", err=err)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


@contextmanager
def request_on_signal(run: Run, request: Request) -> Iterator[None]:
    """Ctrl-C and SIGTERM make a request to the run; a second Ctrl-C ends it at once."""

    def stop(*_: Any) -> None:
        echo("Stopping after this step; press Ctrl-C again to abort without saving.", err=True)
        run.requests.add(request)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    # A cluster sends SIGTERM when a job's time is up.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _print_outcome(run: Run, status: Status, as_json: bool) -> None:
    if as_json:
        echo_json(
            {
                "run": str(run.folder),
                "state": status.state,
                "steps": status.step,
                "best_validation_loss": status.best_validation_loss,
                "best_by": status.best_by,
                "best_value": status.best,
                "best_step": status.best_step,
                "reload_proof": status.reload_proof,
            }
        )
        return
    steps = plural(status.step, "step")
    if not run.folder.exists():
        echo(f"Discarded after {steps}.")
        return
    best = f", best {status.best_sentence} after step {status.best_step}" if status.best_sentence else ""
    echo(f"{status.state.capitalize()} after {steps}{best}.")
    for name, folder in run.adapters().items():
        echo(f"  {name} adapter: {folder}")
    echo(f"  reload check: {status.reload_proof}")


def _check(config: RunConfig, as_json: bool) -> None:
    """Runs the preflight of `--check` and prints its result; exit code 2 if the run would not start or not learn.

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
