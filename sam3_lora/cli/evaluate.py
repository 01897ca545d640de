"""The command evaluate: metrics of the base model and of an adapter on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3_lora.cli.options import (
    Adapter,
    AsJson,
    Base,
    CrowdsAsObjects,
    Dataset,
    DefaultPhrase,
    Device,
    EditsOption,
    ImageDir,
    ImageSize,
    Precision,
    ProcessorOption,
    Taught,
    Tiles,
    base_model,
    set_tiles,
)
from sam3_lora.cli.output import check_report_file, echo, echo_json, progress_bar, write_report
from sam3_lora.errors import Sam3LoraError
from sam3_lora.files import check_writable
from sam3_lora.text import plural, short

if TYPE_CHECKING:
    from sam3_lora.evaluate import Report
    from sam3_lora.predict.routing import Routing
    from sam3_lora.runs.run import Run


RetentionPhrase = Annotated[
    list[str] | None,
    typer.Option(
        "--retention-phrase", "--word", help="A phrase that the base model knows and must not forget; repeatable."
    ),
]


Strength = Annotated[
    list[float] | None,
    typer.Option(
        "--strength",
        min=0.0,
        max=2.0,
        help="Also measure the adapter at this strength, such as 0.5; repeatable. It takes nearly as long as at 1, as "
        "trained.",
    ),
]


def evaluate(
    dataset: Dataset,
    split: Annotated[str, typer.Option(help="Split to evaluate on; 'holdout': what the run held out.")] = "valid",
    base: Base = None,
    adapter: Adapter = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    tiles: Tiles = None,
    device: Device = "auto",
    precision: Precision = "auto",
    image_dir: ImageDir = "",
    default_phrase: DefaultPhrase = "",
    crowds_as_objects: CrowdsAsObjects = False,
    edits: EditsOption = "",
    retention_phrase: RetentionPhrase = None,
    taught: Taught = None,
    strength: Strength = None,
    out: Annotated[Path | None, typer.Option(help="Also write the report to this .md or .json file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure base model and adapter side by side on a split, the adapter also routed by phrase.

    The report is also stored in the run that the adapter belongs to, and told in the adapter's model card.
    """
    from sam3_lora.data.dataset import open_dataset
    from sam3_lora.evaluate import EvaluationRequest, store
    from sam3_lora.evaluate import evaluate as run_evaluation
    from sam3_lora.predict.predictor import Predictor
    from sam3_lora.runs.held_out import count_trained_on, split_to_evaluate

    check_report_file(out)
    run = store.run_of(adapter)
    folder = _folder_in(run)
    as_in_run = _as_in_run(run, dataset, crowds_as_objects, edits)
    opened = open_dataset(dataset, images=image_dir, phrase=default_phrase, **as_in_run)
    base = base_model(base, adapter)
    predictor = Predictor.load(base, adapter, device, precision=precision, image_size=image_size, processor=processor)
    set_tiles(predictor, tiles)
    chosen = split_to_evaluate(opened, split, run)
    request = EvaluationRequest(
        chosen,
        dataset=dataset,
        base_name=base,
        adapter_name=f"{run.name}/{adapter.name}" if run and adapter else str(adapter),
        adapter_folder=adapter,
        category_phrases=run.config.data.category_phrases if run else {},
        trained_on=count_trained_on(opened, dataset, chosen, run),
        retention_phrases=tuple(retention_phrase or ()),
        routing=_routing(adapter, taught or []),
        strengths=tuple(strength or ()),
    )
    with progress_bar("Evaluating") as progress:
        report = run_evaluation(predictor, request, progress=progress)
    stored, written, problem = _write(report, folder, out)
    if as_json:
        echo_json(_as_json(report, stored))
    else:
        _print(report, written)
    if problem is not None:  # after the report, which is printed in any case
        raise problem


def _routing(adapter: Path | None, taught: list[str]) -> Routing | None:
    """By which phrases the adapter is also measured; None, with a note for an adapter, where they are not known."""
    from sam3_lora.predict.routing import Routing

    routing = Routing.of(adapter, taught)
    if routing is None and adapter is not None:
        echo("Not measured routed by phrase: what the adapter was taught is not known; give it with --taught", err=True)
    return routing


def _as_in_run(run: Run | None, dataset: str, crowds_as_objects: bool, edits: str) -> dict[str, Any]:
    """How the dataset is opened: as asked for, and as the run opened it; its edits only if the dataset is its own."""
    from sam3_lora.runs.held_out import is_same_path

    if run is not None:
        data = run.config.data
        crowds_as_objects |= data.crowds_as_objects
        edits = edits or (data.edits if is_same_path(data.path, dataset) else "")
    return {"crowds_as_objects": crowds_as_objects, "edits": edits}


def _folder_in(run: Run | None) -> Path | None:
    """The folder that the report is stored in; None without a run, and, with a note, where it takes no file."""
    from sam3_lora.evaluate.store import FOLDER

    if run is None:
        return None
    folder = run.folder / FOLDER
    try:
        check_writable(folder)
    except OSError as error:
        reason = error.strerror or error
        echo(f"The report will not be stored in the run: {folder} cannot be written ({reason}); use --out", err=True)
        return None
    return folder


def _write(
    report: Report, folder: Path | None, out: Path | None
) -> tuple[Path | None, list[Path], Sam3LoraError | None]:
    """Stores the report in a folder and writes it to `out`, each if given, and into the adapter's model card.

    Returns:
        The stored one, None where there is none; all files; and why a file that was asked for could not be written.
    """
    from sam3_lora.evaluate import store
    from sam3_lora.evaluate.gain_loss.card import write_card
    from sam3_lora.evaluate.text.markdown_report import to_markdown

    stored = problem = None
    written = []
    try:
        if folder is not None:
            stored = store.save(report, folder)
            written.append(stored)
    except Sam3LoraError as error:
        problem = error
    try:
        if out is not None:
            write_report(out, to_markdown(report) if out.suffix == ".md" else store.to_json(report))
            written.append(out)
    except Sam3LoraError as error:
        problem = error
    try:
        written += filter(None, [write_card(report)])
    except Sam3LoraError as error:  # nobody asked for it
        echo(str(error), err=True)
    return stored, written, problem


def _as_json(report: Report, stored: Path | None) -> dict[str, Any]:
    """The metrics of base, adapter and routed adapter by model, and the rest of the report beside them."""
    from sam3_lora.evaluate.store import to_json

    whole = json.loads(to_json(report))
    models = {name: values for name in ("base", "adapter", "routed") if (values := whole.pop(name))}
    metrics = {name: values.pop("metrics") for name, values in models.items()}
    return {**metrics, **whole, "details": models, "stored": str(stored) if stored else None}


def _print(report: Report, written: list[Path]) -> None:
    from sam3_lora.evaluate.gain_loss.points import Missing, measured
    from sam3_lora.evaluate.metrics import METRICS
    from sam3_lora.evaluate.text.messages import (
        alert_sentence,
        change_rows,
        columns,
        found_sentence,
        gain_loss_meaning,
        gain_loss_rows,
        kept_sentence,
        not_defined_sentences,
        routed_sentence,
        weak_sentence,
    )
    from sam3_lora.evaluate.verdict import alerts_of

    echo(found_sentence(report))
    echo(f"{report.verdict} {weak_sentence(report)}".strip())
    echo(f"  Split '{report.split}': {plural(report.images, 'image')}, {plural(report.objects, 'object')}.")
    for line in (*map(alert_sentence, alerts_of(report)), *report.notes):
        echo(f"  {line}")
    for subject, title in (("all", ""), ("phrase", METRICS[report.main_metric][0]), ("size", "")):
        echo(f"{title:18}" + "".join(f"{name.lower():>18}" for name in columns(report)))
        for name, *values in change_rows(report, subject):
            echo(f"{name:18}" + "".join(f"{value:>18}" for value in values))
    shown = measured(report)
    if shown.points:
        for name, *values in (["Gain and loss", "f1", "gain", "kept"], *gain_loss_rows(shown.points)):
            echo(f"{name:25}" + "".join(f"{value:>11}" for value in values))
        echo(kept_sentence(report))
    elif shown.missing is Missing.NOTHING_FOUND:
        echo(f"{gain_loss_meaning(shown)} Name what it finds with --retention-phrase.")
    for sentence in [*([routed_sentence(report)] if report.routed else []), *not_defined_sentences(report)]:
        echo(sentence)
    for phrase, threshold in report.best_thresholds().items():
        echo(f"Best threshold for {short(phrase)!r}: {threshold:.2f}")
    for path in written:
        echo(f"Wrote {path}")
