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
    Taught,
    base_model,
)
from sam3_lora.cli.output import check_folder, echo, echo_json
from sam3_lora.errors import Sam3LoraError, explain_os_errors
from sam3_lora.text import plural, short

if TYPE_CHECKING:
    import numpy as np

    from sam3_lora.predict.postprocess import PhraseResult
    from sam3_lora.predict.routing import Routing


Route = Annotated[
    bool | None,
    typer.Option(
        help="The adapter answers the phrases that it was taught, the base model all others; --taught implies it."
    ),
]
_MODELS = {"base": "base model", "adapter": "adapter"}


def predict(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    prompt: Annotated[
        list[str],
        typer.Option(help="A phrase, or several separated by commas; one that contains a comma in quotes; repeatable."),
    ],
    base: Base = None,
    adapter: Adapter = None,
    processor: ProcessorOption = "",
    image_size: ImageSize = None,
    route: Route = None,
    taught: Taught = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="Minimum score of an object.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Folder for an overlay image and the masks as PNG.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Find all objects in an image that match phrases."""
    from sam3_lora.data.phrase_list import split_phrases
    from sam3_lora.evaluate.store import known_phrases
    from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
    from sam3_lora.predict.predictor import Predictor, read_image

    typed = "\n".join(prompt)
    phrases = split_phrases(typed, known_phrases(adapter) if "," in typed or ";" in typed else ())
    if len(phrases) > len(prompt):
        echo(
            f"Prompts with {plural(len(phrases), 'phrase')}: {' | '.join(map(short, phrases))} "
            '("a, b" in quotes is one)',
            err=True,
        )
    if not all(map(str.isprintable, phrases)):
        raise Sam3LoraError("Expected phrases of plain text, but one contains other bytes", "Write it in UTF-8")
    routing = _routing(adapter, taught or []) if route or (taught and route is None) else None
    check_folder(out)
    pixels = read_image(image)
    predictor = Predictor.load(
        base_model(base, adapter), adapter, device, precision=precision, image_size=image_size, processor=processor
    )
    predictor.set_image(pixels)
    results = postprocess_all(predictor.prompt(phrases, threshold, routing=routing), PostprocessConfig(threshold))
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


def _routing(adapter: Path | None, taught: list[str]) -> Routing:
    """Raises Sam3LoraError if there is no adapter, or nobody knows what it was taught."""
    from sam3_lora.predict.routing import Routing

    if adapter is None:
        raise Sam3LoraError("Expected an adapter to route phrases to, but there is none", "Give one with --adapter")
    if (routing := Routing.of(adapter, taught)) is None:
        raise Sam3LoraError(
            f"The adapter in {adapter} does not know which phrases it was taught", "Give each of them with --taught"
        )
    return routing


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
