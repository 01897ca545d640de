"""The command label: labels a folder of images, for review elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3_lora.cli.options import (
    Adapter,
    AsJson,
    Base,
    Device,
    ImageSize,
    Precision,
    ProcessorOption,
    Prompt,
    Route,
    Taught,
    Tiles,
    base_model,
    phrases_of,
    routing_of,
    set_tiles,
)
from sam3_lora.cli.output import check_folder, echo, echo_json, progress_bar
from sam3_lora.text import plural

if TYPE_CHECKING:
    from sam3_lora.predict.auto_label import Labelled
    from sam3_lora.predict.folder import FolderPrediction, Skipped


def label(
    folder: Annotated[Path, typer.Argument(help="A folder of images; subfolders are looked into, too.")],
    prompt: Prompt,
    out: Annotated[Path, typer.Option(help="Folder for annotations.json; with the same one, labelling goes on.")],
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Minimum score of an object.")] = 0.5,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Masks as polygons without holes instead of exact run lengths.")
    ] = False,
    base: Base = None,
    adapter: Adapter = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    tiles: Tiles = None,
    route: Route = None,
    taught: Taught = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Label a folder of images: COCO annotations with scores, to review in another tool."""
    from sam3_lora.files import user_path
    from sam3_lora.model.concept import adapter_digest
    from sam3_lora.predict.auto_label import Settings, label_folder
    from sam3_lora.predict.folder import images_in, predict_images
    from sam3_lora.predict.postprocess import PostprocessConfig
    from sam3_lora.predict.predictor import Predictor

    root = user_path(folder).absolute()
    names = [path.relative_to(root).as_posix() for path in images_in(root)]
    phrases = phrases_of(prompt, adapter)
    routing = routing_of(adapter, taught or [], route)
    check_folder(out)
    model = base_model(base, adapter)
    settings = Settings(
        folder=str(root),
        phrases=tuple(phrases),
        model=" ".join(map(str, (model, adapter_digest(adapter), image_size, tiles))),
        min_score=min_score,
        routing=None if routing is None else routing.taught,
    )

    def predict(wanted: list[str]) -> Iterator[FolderPrediction | Skipped]:
        if wanted:
            paths = [root / name for name in wanted]
            predictor = Predictor.load(
                model, adapter, device, precision=precision, image_size=image_size, processor=processor
            )
            set_tiles(predictor, tiles)
            yield from predict_images(predictor, paths, root, phrases, PostprocessConfig(min_score), routing=routing)

    try:
        with progress_bar("Labelling") as progress:
            labelled = label_folder(names, settings, predict, out, polygons=polygons, progress=progress)
    except KeyboardInterrupt:
        echo(f"Stopped: {out} has what is labelled so far, and the same command goes on", err=True)
        raise typer.Exit(130) from None
    _print(labelled, as_json=as_json)


def _print(labelled: Labelled, *, as_json: bool) -> None:
    for skipped in labelled.skipped:
        echo(f"Skipped {skipped.name}: {skipped.why}", err=True)
    if as_json:
        echo_json(asdict(labelled) | {"file": str(labelled.file)})
        return
    before = f" ({labelled.resumed} of them before)" if labelled.resumed else ""
    counts = f"{plural(labelled.images, 'image')}{before}, {plural(labelled.objects, 'object')}"
    echo(f"Wrote {labelled.file}: {counts}")
