"""The command concept: learns a word from a few examples, and lists what files of such words say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sam3_lora.cli.options import Adapter, AsJson, Base, Device, ImageSize, ProcessorOption, base_model
from sam3_lora.cli.output import check_folder, echo, echo_json, progress_bar
from sam3_lora.errors import ConfigError
from sam3_lora.text import plural, short

app = typer.Typer(help="Learn a word from a few examples, without changing the model.", no_args_is_help=True)

Like = Annotated[
    list[str] | None,
    typer.Option(help="An image and a box on it, like photo.jpg:120,80,40,60 (left, top, width, height); repeatable."),
]
Without = Annotated[list[Path] | None, typer.Option(help="An image that does not have it; repeatable.")]


@app.command()
def teach(
    name: Annotated[str, typer.Argument(help="Of the concept; it is prompted as '<NAME>'.")],
    like: Like = None,
    without: Without = None,
    dataset: Annotated[str, typer.Option(help="A dataset to take examples from, instead of --like.")] = "",
    category: Annotated[str, typer.Option(help="Its category; left out, the concept's name.")] = "",
    split: Annotated[str, typer.Option(help="Its split.")] = "train",
    images: Annotated[int, typer.Option(min=1, max=32, help="Images with the category; as many without.")] = 5,
    phrase: Annotated[str, typer.Option(help="Words that describe it roughly, to begin with.")] = "",
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps of learning.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the choice of examples, and of learning.")] = 0,
    base: Base = None,
    adapter: Adapter = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="The file to write; NAME.safetensors if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Learn a concept from 1 to 10 example images: a file of a few KB, used as '<NAME>' in prompts."""
    from sam3_lora.concepts.learn import LearnOptions, LearnProgress, learn
    from sam3_lora.concepts.references import examples_of_boxes, examples_of_category
    from sam3_lora.data.dataset import open_dataset
    from sam3_lora.model.concept import SUFFIX, check_name, save
    from sam3_lora.predict.export import file_part
    from sam3_lora.predict.predictor import Predictor

    name = check_name(name)
    if bool(like) == bool(dataset):
        raise ConfigError("Expected examples either from boxes or from a dataset", "Give --like, or --dataset")
    target = out or Path(f"{file_part(name)}{SUFFIX}")
    check_folder(target.absolute().parent)
    if dataset:
        examples = examples_of_category(open_dataset(dataset).split(split), category or name, images, seed)
    else:
        examples = examples_of_boxes(like or [], without or [])
    predictor = Predictor.load(base_model(base, adapter), adapter, device, image_size=image_size, processor=processor)
    with progress_bar("Learning") as progress:

        def report(step: LearnProgress) -> None:
            if progress is not None:
                progress(step.step / step.steps, f"loss {step.loss:.1f}")

        concept = learn(
            predictor, name, examples, phrase=phrase, options=LearnOptions(steps=steps, seed=seed), progress=report
        )
    save(concept, target)
    if as_json:
        echo_json({"file": str(target), **msgspec.to_builtins(concept.card)})
        return
    card = concept.card
    echo(f"Learned <{card.name}> from {plural(card.images, 'image')} with {plural(card.objects, 'object')}")
    if not card.negatives:
        echo("No image without it was given: it may fire where it is not. Give some with --without", err=True)
    echo(f"Wrote {target}: prompt with --concept {target} --prompt '<{card.name}>'")


@app.command("list")
def list_concepts(
    files: Annotated[list[Path], typer.Argument(help="Files of concepts, or folders of them.")], as_json: AsJson = False
) -> None:
    """List what concepts are called, what they were made for and from how many examples."""
    from sam3_lora.model.concept import SUFFIX, load

    paths = [path for one in files for path in (sorted(one.glob(f"*{SUFFIX}")) if one.is_dir() else [one])]
    cards = {str(path): load(path).card for path in paths}
    if as_json:
        echo_json(msgspec.to_builtins(cards))
        return
    for path, card in cards.items():
        made_for = f"{card.base} with an adapter" if card.adapter_digest else card.base
        counts = f"{plural(card.images, 'image')}, {plural(card.negatives, 'image')} without it"
        echo(f"<{card.name}>  for {short(made_for)}, from {counts}  ({path})")
