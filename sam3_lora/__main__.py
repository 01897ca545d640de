"""The command line, for people or, with --json, for programs: one command per thing the app can do."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from sam3_lora.config import DEMO, PRESETS, RunConfig, preset
from sam3_lora.errors import ConfigError, DataError, Sam3LoraError

if TYPE_CHECKING:
    from sam3_lora.data.doctor import Report as Examined
    from sam3_lora.data.records import Dataset
    from sam3_lora.evaluate import Report
    from sam3_lora.runs.run import Run, Status
    from sam3_lora.train.preflight.preflight import Preflight

app = typer.Typer(
    help="LoRA fine-tuning of SAM 3 on COCO data.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Images = Annotated[str, typer.Option(help="A further folder to look for the images in.")]
Phrase = Annotated[str, typer.Option(help="What objects are called where the annotations have no categories.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Base = Annotated[
    str | None,
    typer.Option(
        help="'demo', a hub id such as facebook/sam3, or a folder; left out, the one the adapter was trained for."
    ),
]
Adapter = Annotated[Path | None, typer.Option(help="Folder of an adapter; without it the base model alone.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def main() -> None:
    """Runs a command; a user's mistake ends with exit code 2 and one sentence."""
    try:
        app()
    except Sam3LoraError as error:
        _say(f"Error: {error}", err=True)
        sys.exit(2)


@app.command()
def inspect(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset, or 'demo'.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every image and look at every object, too.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write all of it to this file, .md to read or .json; implies --deep.")
    ] = None,
    images: Images = "",
    phrase: Phrase = "",
    as_json: AsJson = False,
) -> None:
    """Tell what a dataset holds and what is wrong with it."""
    from sam3_lora.data.dataset import open_dataset

    if report is not None and report.suffix not in (".md", ".json"):
        raise DataError(f"Expected a file that ends with .md or .json after --report, got {report}", "Rename it")
    opened = open_dataset(dataset, images=images, phrase=phrase)
    examined = _examine(opened) if deep or report is not None else None
    findings = opened.findings if examined is None else examined.findings
    if examined is not None and report is not None:
        _write_text(report, examined.to_markdown() if report.suffix == ".md" else examined.to_json())
    splits = {
        name: {
            "images": len(split.images),
            "objects": split.num_objects,
            "categories": _count(a.category for image in split.images for a in image.annotations if not a.iscrowd),
        }
        for name, split in opened.splits.items()
    }
    if as_json and examined is not None:
        _print_json(json.loads(examined.to_json()))
        return
    if as_json:
        told = [
            {"kind": f.kind, "severity": f.severity, "count": f.count, "message": f.message, "fix": f.fix}
            for f in findings
        ]
        _print_json({"format": opened.format, "splits": splits, "findings": told})
        return
    _say(f"{opened.root}: {opened.format}")
    for name, split in splits.items():
        categories = ", ".join(f"{category} {count}" for category, count in split["categories"].items())
        _say(f"  {name}: {split['images']} images, {split['objects']} objects ({categories or 'no category'})")
    nothing = "Nothing wrong was found." if examined else "Nothing wrong was found in the annotations; see --deep."
    _say(nothing if not findings else "Findings:")
    for finding in findings:
        where = f"{finding.split}: " if finding.split else ""
        _say(f"  {finding.severity.upper():8}{where}{finding.message}\n          {finding.fix}")
    for category, phrase in (examined.suggestions if examined is not None else {}).items():
        _say(f"  Instead of {category!r} ask for {phrase!r}.")


@app.command("convert-masks")
def convert_masks(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    masks: Annotated[Path, typer.Argument(help="Folder of their masks, as PNG, named like the images.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the split, such as dataset/train.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="A class by value or colour: 1=crack or '#ff0000=crack'; may be repeated."),
    ] = None,
    objects: Annotated[
        str, typer.Option(help="components: each connected region is an object; colors: all of a class in an image.")
    ] = "components",
    min_pixels: Annotated[int, typer.Option(min=1, help="Leave smaller regions out.")] = 16,
) -> None:
    """Make a COCO split of images with semantic masks."""
    from sam3_lora.data.formats.png_masks import convert_masks as convert

    if objects not in ("components", "colors"):
        raise DataError(f"Expected components or colors as objects, got {objects!r}", "Choose one of the two")
    pairs = [text.partition("=") for text in classes or ()]
    named = {value.strip(): name.strip() for value, _, name in pairs}
    if len(named) < len(pairs):
        raise DataError("Expected one class for each value, but a value is named twice", "Give each value once")
    result = convert(images, masks, out, named, objects=objects, min_pixels=min_pixels)
    counts = ", ".join(f"{name} {count}" for name, count in result.objects.items())
    _say(f"Wrote {out}: {result.images} images, {result.objects.total()} objects ({counts or 'none'})")
    for value, count in result.unknown.most_common(10):
        _say(f"  value {value} in {count} masks has no class and was left out")
    for name, why in list(result.skipped.items())[:10]:
        _say(f"  {name} was left out: {why}")
    if len(result.skipped) > 10:
        _say(f"  and {len(result.skipped) - 10} more")


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="A run's settings as YAML.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a setting: --set training.epochs=2; may be repeated.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run's folder instead.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only try it out: memory, time, what is wrong.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train an adapter; Ctrl-C stops after the step in progress and saves."""
    if (config is None) == (resume is None):
        raise ConfigError("Expected either a configuration file or --resume RUN", "Give exactly one of the two")
    if resume is not None and settings:
        raise ConfigError("A run is resumed with the settings it was started with", "Leave out --set")
    if check:
        if config is None:
            raise ConfigError("Expected a configuration file to check", "Give one instead of --resume")
        _check(RunConfig.load(config).with_settings(_parse_settings(settings or [])), as_json)
        return

    from sam3_lora.runs.run import Run
    from sam3_lora.train.loop import fit
    from sam3_lora.train.setup import make_accelerator

    if resume is not None:
        resumed = Run.open(resume)
        run_config = resumed.config
        resumed.require_resumable()
    else:
        run_config = RunConfig.load(config).with_settings(_parse_settings(settings or []))
    accelerator = make_accelerator(run_config.training)
    run = _shared_run(accelerator, run_config, resume)
    if accelerator.is_main_process:
        finish_watching = _watch(run, quiet=as_json)
    _stop_on_interrupt(run)
    try:
        status = fit(run, resume=resume is not None, accelerator=accelerator)
    except KeyboardInterrupt:
        goes_on = (
            f"--resume {run.folder} goes on from its last checkpoint" if run.can_resume() else "it had none before"
        )
        _say(f"Ended at once, without saving a checkpoint; {goes_on}.", err=True)
        raise typer.Exit(130) from None
    if accelerator.is_main_process:
        finish_watching()
        _print_outcome(run, status, as_json)


@app.command()
def predict(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    prompt: Annotated[list[str], typer.Option(help="A phrase to look for, or several with commas; repeatable.")],
    base: Base = None,
    adapter: Adapter = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score of an object.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of the result and its masks.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find every object that the phrases name in one image."""
    from sam3_lora.data.prompts import split_phrases
    from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
    from sam3_lora.predict.predictor import Predictor, read_image

    asked = split_phrases(",".join(prompt))
    if any(not phrase.isprintable() for phrase in asked):
        raise Sam3LoraError("Expected phrases of plain text, but one holds other bytes", "Write it in UTF-8")
    pixels = read_image(image)
    predictor = Predictor.load(_base_for(adapter, base), adapter, device)
    predictor.set_image(pixels)
    results = postprocess_all(predictor.prompt(asked, threshold), PostprocessConfig(threshold))
    phrases = {
        phrase: [
            {"score": round(float(score), 4), "box_xyxy": [round(float(v), 1) for v in box], "area": int(area)}
            for score, box, area in zip(result.scores, result.boxes_xyxy, result.areas, strict=True)
        ]
        for phrase, result in results.items()
    }
    written = [] if out is None else _write_results(out, image.name, pixels, results)
    if as_json:
        _print_json({"phrases": phrases})
        return
    for phrase, objects in phrases.items():
        _say(f"{phrase}: {len(objects)} found")
        for found in objects:
            _say(f"  score {found['score']:.2f}  box {found['box_xyxy']}  area {found['area']} px")
    for path in written:
        _say(f"Wrote {path}")


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of an adapter, such as runs/RUN/adapters/best.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the merged model.")],
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """Write base and adapter as one model folder that transformers' Sam3Model loads by itself."""
    from sam3_lora.model.merge import merge_into_folder

    named = _base_for(adapter, base)
    folder = merge_into_folder(named, adapter, out)
    if as_json:
        _print_json({"folder": str(folder), "base": named, "adapter": str(adapter)})
        return
    _say(f"Wrote {folder}: {named} with the adapter {adapter} in it.")


@app.command()
def evaluate(
    dataset: Annotated[str, typer.Argument(help="Folder of a COCO dataset, or 'demo'.")],
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "valid",
    base: Base = None,
    adapter: Adapter = None,
    device: Device = "auto",
    images: Images = "",
    phrase: Phrase = "",
    word: Annotated[
        list[str] | None, typer.Option(help="A word that the base knows and the adapter must not forget; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the report to this file, too: .json or .md to read.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the base model, and an adapter beside it, on a split; kept with the run if the adapter has one."""
    from sam3_lora.data.dataset import open_dataset
    from sam3_lora.evaluate import EvaluationRequest, store
    from sam3_lora.evaluate import evaluate as run_evaluation
    from sam3_lora.evaluate.words import to_markdown
    from sam3_lora.predict.predictor import Predictor

    if out is not None and out.suffix not in (".md", ".json"):
        raise DataError(f"Expected a file that ends with .md or .json after --out, got {out}", "Rename it")
    chosen = open_dataset(dataset, images=images, phrase=phrase).split(split)
    base = _base_for(adapter, base)
    predictor = Predictor.load(base, adapter, device)
    run = store.run_of(adapter)
    request = EvaluationRequest(
        chosen,
        dataset=dataset,
        base_name=base,
        adapter_name=f"{run.name}/{adapter.name}" if run else str(adapter),
        adapter_folder=adapter,
        category_phrases=store.phrases_of_run(adapter),
        retention_phrases=tuple(word or ()),
    )
    with _progress("Evaluating") as tell:
        report = run_evaluation(predictor, request, progress=tell)
    kept = store.save(report, run.folder / store.FOLDER) if run else None
    if out is not None:
        _write_text(out, to_markdown(report) if out.suffix == ".md" else store.to_json(report))
    if as_json:
        _print_json(_evaluation_as_json(report, kept))
        return
    _print_evaluation(report)
    for path in filter(None, (kept, out)):
        _say(f"Wrote {path}")


@app.command()
def config(
    preset_name: Annotated[str, typer.Option("--preset", help=f"One of {', '.join(PRESETS)}.")] = "balanced",
) -> None:
    """Print a complete, commented configuration."""
    typer.echo(preset(preset_name).to_yaml(comments=True), nl=False)


def _base_for(adapter: Path | None, named: str | None) -> str:
    """The base model as named, else the one that the adapter was trained for; the demo without an adapter.

    Raises:
        ConfigError: the adapter does not say.
        ModelError: the folder holds no adapter.
    """
    if named or adapter is None:
        return named or DEMO
    from sam3_lora.model.adapter_files import read_settings

    base = read_settings(adapter).base_model_name_or_path
    if not base:
        raise ConfigError(f"The adapter in {adapter} does not say which base model it is for", "Give it with --base")
    return base


def _examine(dataset: Dataset) -> Examined:
    """Examines a dataset; on a terminal with a line of progress."""
    from sam3_lora.data.doctor import examine

    with _progress("Looking at every image") as tell:
        return examine(dataset, tell)


@contextmanager
def _progress(label: str) -> Iterator[Callable[[float, str], None] | None]:
    """What draws a line of progress on a terminal; None where there is none."""
    if not sys.stderr.isatty():
        yield None
        return
    with typer.progressbar(length=1000, label=label, file=sys.stderr) as bar:
        yield lambda share, _: bar.update(int(1000 * share) - bar.pos)


def _evaluation_as_json(report: Report, kept: Path | None) -> dict[str, Any]:
    """The metrics of base and adapter under their names, and all the rest of the report beside them."""
    from sam3_lora.evaluate.store import to_json

    whole = json.loads(to_json(report))
    models = {name: whole.pop(name) for name in ("base", "adapter")}
    metrics = {name: numbers.pop("metrics") for name, numbers in models.items() if numbers}
    details = {name: numbers for name, numbers in models.items() if numbers}
    return {**metrics, **whole, "details": details, "stored": str(kept) if kept else None}


def _print_evaluation(report: Report) -> None:
    from sam3_lora.evaluate.metrics import METRICS
    from sam3_lora.evaluate.verdict import alerts_of
    from sam3_lora.evaluate.words import alert_sentence, changes, interval, not_defined_sentences, number

    _say(report.verdict)
    for line in (*map(alert_sentence, alerts_of(report)), *report.notes):
        _say(f"  {line}")
    columns = ("base", "adapter", "difference", "95 % interval") if report.adapter else ("base",)
    for subject, title in (("all", ""), ("phrase", METRICS[report.main_metric][0]), ("size", "")):
        _say(f"{title:18}" + "".join(f"{name:>18}" for name in columns))
        for one in changes(report, subject):
            values = (number(one.base), number(one.adapter), number(one.difference, True), interval(one))
            name = METRICS[one.metric][0] if subject == "all" else one.name
            _say(f"{name:18}" + "".join(f"{value:>18}" for value in values[: len(columns)]))
    for sentence in not_defined_sentences(report):
        _say(sentence)
    for phrase, threshold in report.best_thresholds().items():
        _say(f"Best threshold for {phrase!r}: {threshold:.2f}")


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Sam3LoraError(f"{path} cannot be written ({error.strerror})", "Give another file") from None


def _count(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _parse_settings(settings: list[str]) -> dict[str, Any]:
    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"Expected NAME=VALUE after --set, got '{setting}'", "Write --set training.epochs=2")
        try:
            parsed[name.strip()] = yaml.safe_load(value) if value.strip() else _nothing(name.strip())
        except (yaml.YAMLError, ValueError, RecursionError):
            raise ConfigError(
                f"The value in '{setting}' cannot be read", "Write it as it would stand in YAML"
            ) from None
    return parsed


def _nothing(name: str) -> str | None:
    """What an empty value means: an empty text, or no limit."""
    section, _, field = name.partition(".")
    sections = dict(RunConfig())
    settings = type(sections[section]).model_fields if section in sections else {}
    return "" if field in settings and settings[field].annotation is str else None


def _shared_run(accelerator: Any, run_config: RunConfig, resume: Path | None) -> Run:
    """The run that all processes train; the main process makes it."""
    from accelerate.utils import broadcast_object_list

    from sam3_lora.runs.run import Run

    if resume is not None:
        return Run.open(resume)
    folder = [str(Run.create(run_config).folder) if accelerator.is_main_process else None]
    return Run.open(broadcast_object_list(folder)[0])


def _check(run_config: RunConfig, as_json: bool) -> None:
    """The pre-flight in words; exit code 2 if the run would not start or learn."""
    from sam3_lora.train.preflight.preflight import preflight

    def tell(share: float, what: str) -> None:
        if share < 1:  # that it is done is said by what it found
            _say(f"  {what}", err=True)

    result = preflight(run_config, tell)
    if as_json:
        _print_json(asdict(result))
    else:
        for problem in result.problems:
            _say(f"{problem.severity.upper():8}{problem.message}\n        {problem.fix}")
        if result.measured is not None:
            _print_measured(result)
    if not result.ok:
        sys.exit(2)


def _print_measured(result: Preflight) -> None:
    from sam3_lora.text import duration, plural

    measured, gigabyte = result.measured, 1e9
    for part in measured.components:
        _say(
            f"{part.name:18}{part.modules:5} modules{part.parameters:13,} parameters, "
            f"gradient norm {part.gradient_norm:.3g}"
        )
    if measured.memory_bytes is not None:
        _say(f"Memory: {measured.memory_bytes / gigabyte:.1f} of {measured.available_bytes / gigabyte:.1f} GB")
        how = "measured" if measured.largest_batch_is_measured else "estimated"
        _say(f"Largest batch: {measured.largest_batch} ({how}); effective batch: {result.effective_batch}")
    if measured.total_seconds is not None:
        _say(
            f"Time: {measured.seconds_per_step:.2f} s per step, about {duration(measured.total_seconds)} for "
            f"{plural(result.length.total_steps, 'step')}"
        )
    for saving in measured.savings:
        needs = "does not fit either" if saving.memory_bytes is None else f"{saving.memory_bytes / gigabyte:.1f} GB"
        _say(f"  {saving.words}: {needs}")


def _watch(run: Run, quiet: bool) -> Callable[[], None]:
    """Prints a line of progress every few seconds from a thread that reads the run's folder.

    Returns what ends it, after everything has been printed.
    """
    _say(f"Run {run.folder}", err=quiet)
    ended = threading.Event()
    _, written_before = run.metrics()  # by the run that is resumed

    def follow() -> None:
        shown, offset, last = 0.0, written_before, False
        while not last:
            last = ended.wait(0.5)
            rows, offset = run.metrics(offset)
            for row in rows:
                if row["kind"] in ("note", "skipped"):
                    _say(f"  {row.get('message', '')}", err=quiet)
                elif row["kind"] == "validation":
                    _say(f"  epoch {row['epoch']}: validation loss {row['total']:.3f}", err=quiet)
                elif row["kind"] == "step" and (time.monotonic() - shown > 5 or row["step"] == 1):
                    shown = time.monotonic()
                    speed = f"{row['images_per_second']:.1f} images/s"
                    total = run.status().total_steps
                    _say(f"  step {row['step']} of {total}: loss {row['total']:.3f}, {speed}", err=quiet)

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()

    def finish() -> None:
        ended.set()
        watcher.join()

    return finish


def _stop_on_interrupt(run: Run) -> None:
    def stop(*_: Any) -> None:
        _say("Stopping after this step; press Ctrl-C again to end at once without saving.", err=True)
        run.request_stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)  # how a cluster announces that the time is up


def _print_outcome(run: Run, status: Status, as_json: bool) -> None:
    from sam3_lora.text import plural

    outcome = {
        "run": str(run.folder),
        "state": status.state,
        "steps": status.step,
        "best_validation_loss": status.best_validation_loss,
        "reload_proof": status.reload_proof,
    }
    if as_json:
        _print_json(outcome)
        return
    if not run.folder.exists():
        _say(f"Discarded after {plural(status.step, 'step')}.")
        return
    best = "" if status.best_validation_loss is None else f", best validation loss {status.best_validation_loss:.3f}"
    _say(f"{status.state.capitalize()} after {plural(status.step, 'step')}{best}.")
    for name, folder in run.adapters().items():
        _say(f"  {name} adapter: {folder}")
    _say(f"  reload proof: {status.reload_proof}")


def _write_results(out: Path, name: str, pixels: Any, results: dict[str, Any]) -> list[Path]:
    """One picture with everything drawn in, and one black-and-white PNG per object."""
    from PIL import Image

    from sam3_lora.draw import DrawObject, category_color, overlay
    from sam3_lora.predict.export import each_mask, file_part, found_image

    try:
        out.mkdir(parents=True, exist_ok=True)
        objects = [
            DrawObject(label=phrase, color=category_color(phrase), mask=mask, box_xyxy=tuple(box), score=float(score))
            for phrase, result in results.items()
            for mask, box, score in zip(result.each_mask(), result.boxes_xyxy, result.scores, strict=True)
        ]
        written = [out / f"{file_part(Path(name).stem)}-overlay.png"]
        Image.fromarray(overlay(pixels, objects)).save(written[0])
        for part, mask in each_mask([found_image(name, pixels.shape[:2], results)]):
            written.append(out / part.replace("/", "-"))
            Image.fromarray(mask).save(written[-1])
    except OSError as error:
        raise Sam3LoraError(f"Nothing can be written to {out} ({error})", "Give another folder after --out") from None
    return written


_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def _say(text: str, *, err: bool = False) -> None:
    """Prints lines; control characters, which names in a dataset may hold, are spelled out, those that turn the
    direction of writing among them."""
    odd = {c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Cs") or c in _DIRECTIONS)}
    typer.echo(text.translate({ord(c): c.encode("unicode_escape").decode() for c in odd}), err=err)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value))


if __name__ == "__main__":
    main()
