"""The command predict: objects in one image, by phrases."""

from __future__ import annotations

import io
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
    PromptOrNone,
    Route,
    Taught,
    Tiles,
    base_model,
    phrases_of,
    routing_of,
    set_tiles,
)
from sam3_lora.cli.output import check_folder, echo, echo_json
from sam3_lora.errors import Sam3LoraError, explain_os_errors
from sam3_lora.text import short

if TYPE_CHECKING:
    import numpy as np

    from sam3_lora.predict.postprocess import PhraseResult


Like = Annotated[
    list[str] | None,
    typer.Option(
        help="An object on another image whose like is looked for: photo.jpg:120,80,40,60 (left, top, width, height); "
        "repeatable, with phrases or without."
    ),
]
Unlike = Annotated[list[str] | None, typer.Option(help="An object that is not meant, written likewise; repeatable.")]
_MODELS = {"base": "base model", "adapter": "adapter"}


def predict(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    prompt: PromptOrNone = None,
    like: Like = None,
    unlike: Unlike = None,
    base: Base = None,
    adapter: Adapter = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    tiles: Tiles = None,
    route: Route = None,
    taught: Taught = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Minimum score of an object.")] = 0.5,
    concept: Annotated[
        list[Path] | None, typer.Option(help="A learned concept's file, prompted as '<its name>'; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for an overlay image and the masks as PNG.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Find all objects in an image that match phrases, or objects marked on other images."""
    from sam3_lora.concepts.references import references_of_boxes
    from sam3_lora.data.images import read_image
    from sam3_lora.model.concept import load as load_concept
    from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
    from sam3_lora.predict.predictor import Predictor

    phrases = phrases_of(prompt or [], adapter)
    references = references_of_boxes(like or [], unlike or [])
    routing = routing_of(adapter, taught or [], route)
    check_folder(out)
    pixels = read_image(image)
    predictor = Predictor.load(
        base_model(base, adapter), adapter, device, precision=precision, image_size=image_size, processor=processor
    )
    set_tiles(predictor, tiles)
    for file in concept or []:
        predictor.concepts.add(load_concept(file))
    predictor.set_image(pixels)
    found = predictor.prompt(phrases, threshold, exemplars=references or None, routing=routing)
    results = postprocess_all(found, PostprocessConfig(threshold))
    written = [] if out is None else _write_images(out, image.name, pixels, results)
    if as_json:
        objects = {phrase: _as_json(result) for phrase, result in results.items()}
        echo_json({"phrases": objects, "answered_by": {phrase: one.answered_by for phrase, one in results.items()}})
        return
    for phrase, result in results.items():
        echo(
            f"{short(phrase)}: {len(result.scores)} found"
            + (f" by the {_MODELS[result.answered_by]}" if routing else "")
        )
        for one in _as_json(result):
            echo(f"  score {one['score']:.2f}  box {one['box_xyxy']}  area {one['area']} px")
    for path in written:
        echo(f"Wrote {path}")


def _as_json(result: PhraseResult) -> list[dict[str, float | list[float]]]:
    """A phrase's objects: scores to 4 decimals, boxes in pixels to 1."""
    return [
        {"score": round(float(score), 4), "box_xyxy": [round(float(side), 1) for side in box], "area": int(area)}
        for score, box, area in zip(result.scores, result.boxes_xyxy, result.areas, strict=True)
    ]


def _write_images(folder: Path, name: str, pixels: np.ndarray, results: dict[str, PhraseResult]) -> list[Path]:
    """Writes an overlay of all objects, and one black-and-white PNG per object; returns the files."""
    from PIL import Image

    from sam3_lora.draw import category_color, overlay
    from sam3_lora.files import atomic_write
    from sam3_lora.predict.export import each_mask, file_part, found_image, to_draw

    def write(name: str, picture: np.ndarray) -> None:
        written.append(folder / name)
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="PNG")
        atomic_write(written[-1], content.getvalue())

    written: list[Path] = []
    with explain_os_errors(Sam3LoraError, f"Cannot write to {folder}", "Give another folder after --out"):
        folder.mkdir(parents=True, exist_ok=True)
        write(f"{file_part(Path(name).stem)}-overlay.png", overlay(pixels, to_draw(results, category_color)))
        for part, mask in each_mask([found_image(name, pixels.shape[:2], results)]):
            write(part.replace("/", "-"), mask)
    return written
