"""Small objects in large images: F1 of whole images beside tiles, trained and untrained.

    python bench/tiles.py [--side 3] [--steps 288] [--seeds 0] [--set data.num_negatives=3 ...]

The large images are squares of side x side images of the demo, of its training images to train on and of its validation
images to measure on, so that an object is side times smaller for the model than in the demo. Two runs with the demo's
recipe and the same number of steps see whole images, or tiles of the size of a demo image; the adapter that ships with
the app, which was trained on images of the demo, is measured both ways, too. Metrics are of whole large images (masks,
score 0.5, IoU 0.5). Goal: trained in tiles, F1 is at least 0.2 above whole images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sam3_lora.config import ASSETS, DEMO
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.images import load_image
from sam3_lora.data.records import ImageRecord, Split
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.masks import decode_segmentation, encode_rle, mask_to_box_xyxy
from sam3_lora.predict.predictor import Predictor
from sam3_lora.recipes import demo_config
from sam3_lora.runs.run import Run
from sam3_lora.tiles import Tiling
from sam3_lora.train.loop import fit

GOAL = 0.2
USES = {"train": 2, "valid": 2}  # how often each image is part of a large one


@dataclass(frozen=True)
class Row:
    """One way to train and to predict."""

    trained: str
    predicted: str
    f1: float
    recall: float
    seconds: float  # per large image


def write_large_images(folder: Path, side: int, seed: int) -> int:
    """Writes COCO in the Roboflow layout; returns the side of a demo image in pixels."""
    rng = np.random.default_rng(seed)
    demo = open_dataset(DEMO)
    width = 0
    for name, uses in USES.items():
        records = list(demo.split(name).images)
        order = np.concatenate([rng.permutation(len(records)) for _ in range(uses)])
        split = folder / name
        split.mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(len(order) // side**2):
            chosen = [records[place] for place in order[number * side**2 : (number + 1) * side**2]]
            width = chosen[0].width
            pixels = np.zeros((side * width, side * width, 3), np.uint8)
            for place, record in enumerate(chosen):
                top, left = width * (place // side), width * (place % side)
                pixels[top : top + width, left : left + width] = load_image(record)
                for mask, category in objects_of(record):
                    whole = np.zeros(pixels.shape[:2], dtype=bool)
                    whole[top : top + width, left : left + width] = mask
                    annotations.append(annotation(len(annotations), number, category, whole))
            Image.fromarray(pixels).save(split / f"{name}_{number:03}.png")
            size = {"width": pixels.shape[1], "height": pixels.shape[0]}
            images.append({"id": number, "file_name": f"{name}_{number:03}.png", **size})
        names = list(demo.categories)
        categories = [{"id": place, "name": category} for place, category in enumerate(names)]
        for each in annotations:
            each["category_id"] = names.index(each["category_id"])
        content = {"images": images, "annotations": annotations, "categories": categories}
        (split / "_annotations.coco.json").write_text(json.dumps(content))
    return width


def objects_of(record: ImageRecord) -> list[tuple[np.ndarray, str]]:
    size_hw = record.height, record.width
    return [(decode_segmentation(one.segmentation, size_hw), one.category) for one in record.annotations]


def annotation(number: int, image: int, category: str, mask: np.ndarray) -> dict[str, Any]:
    """category: its name, which the caller replaces by its id."""
    corners = mask_to_box_xyxy(mask)
    assert corners is not None, "an object has a pixel"
    left, top, right, bottom = map(float, corners)
    rle = encode_rle(mask)
    counts = rle["counts"]
    rle["counts"] = counts.decode() if isinstance(counts, bytes) else counts
    box = [left, top, right - left, bottom - top]
    common = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0}
    return {**common, "bbox": box, "area": int(mask.sum()), "segmentation": rle}


def trained(dataset: Path, runs: Path, tile: int, steps: int, seed: int, more: dict) -> Path:
    """Trains an adapter; its folder."""
    settings = {
        "data.path": str(dataset),
        "data.tiles": tile,
        "output.runs": str(runs),
        "output.name": f"tiles-{tile}",
        "training.max_steps": steps,
        "training.seed": seed,
        "replay.source": "none",
    }
    run = Run.create(demo_config().with_settings(settings | more))
    fit(run)
    return next(iter(run.adapters().values()))


def measure(label: str, adapter: Path, tiles: Tiling | None, split: Split, dataset: Path) -> Row:
    predictor = Predictor.load(DEMO, adapter)
    started = time.perf_counter()
    request = EvaluationRequest(split, str(dataset), DEMO, label, adapter, tiles=tiles)
    report = evaluate(predictor, request)
    seconds = (time.perf_counter() - started) / len(split.images) / 2  # of both models
    found = sum(values["tp"] or 0 for values in report.judged.phrases.values())
    how = "whole" if tiles is None else f"tiles of {tiles.size}"
    return Row(label, how, report.judged.metrics["f1_50"] or 0.0, found / report.objects, seconds)


def show(rows: Sequence[Row]) -> None:
    print(f"{'trained on':<34} {'predicted':<14} {'F1':>6} {'recall':>7} {'s/image':>8}", flush=True)
    for row in rows:
        print(f"{row.trained:<34} {row.predicted:<14} {row.f1:6.3f} {row.recall:7.3f} {row.seconds:8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=3)
    parser.add_argument("--steps", type=int, default=288)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", dest="changes")
    options = parser.parse_args()
    more = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in options.changes)}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            root = Path(temporary) / str(seed)
            tile = write_large_images(root / "data", options.side, seed)
            dataset = open_dataset(str(root / "data"))
            train, valid = dataset.split("train"), dataset.split("valid")
            print(f"seed {seed}: {len(train.images)} and {len(valid.images)} images, {valid.num_objects} objects")
            rows = []
            for label, adapter in (
                ("images of the demo", ASSETS / "demo" / "adapter"),
                ("large images, whole", trained(root / "data", root / "runs", 0, options.steps, seed, more)),
                ("large images, in tiles", trained(root / "data", root / "runs", tile, options.steps, seed, more)),
            ):
                rows += [measure(label, adapter, tiles, valid, root / "data") for tiles in (None, Tiling(tile))]
            show(rows)
            gain = rows[-1].f1 - rows[2].f1
            print(f"seed {seed}: in tiles F1 is {gain:+.3f} above whole images (goal {GOAL:+.1f})\n", flush=True)


if __name__ == "__main__":
    main()
