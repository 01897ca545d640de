"""Training steps that read a frozen vision encoder's output from the cache beside steps that run it, at full width.

    python bench/vision_cache.py [--grid 36] [--steps 3] [--precision fp32] [--preset all-but-vision] [--images 4]
    python bench/vision_cache.py --losses 50 --grid 12 --precision bf16 --preset minimal

The model has SAM 3's vision encoder and heads at full width and depth with random weights, and a small text encoder,
since training keeps its features. A grid of 72 is SAM 3's own 1008 pixels; smaller ones take less time. A step
loads its image (12 megapixels, 5 objects of two categories, two negative phrases) or its features, and is fit()'s own
from there. Steps of both kinds alternate. Prints the ratio of their processor times and bytes per image.
--losses: instead, two trainings from the same beginning take turns, with the cache and without it.
Exits with 1 if the ratio is above its goal, or a loss differs by more than 1e-3 of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from transformers import Sam3Config, Sam3Model, Sam3Processor

from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.data.samples import checked
from sam3_lora.model.base import LoadedModel
from sam3_lora.recipes import preset
from sam3_lora.text import plural
from sam3_lora.train import setup as train_setup
from sam3_lora.train.accelerator import make_accelerator
from sam3_lora.train.checkpoint import random_state, restore_random
from sam3_lora.train.optimizer import make_optimizer, make_schedule
from sam3_lora.train.resolve import resolve
from sam3_lora.train.setup import Setup
from sam3_lora.train.step import take_step

GOALS = {"all-but-vision": 0.55, "minimal": 0.35}
LOSS_TOLERANCE = 1e-3
SIZE_HW = (3000, 4000)
FULL_GRID, PATCH, WINDOW = 72, 14, 24


def random_model(grid: int) -> LoadedModel:
    """SAM 3 with random weights for images of grid x 14 pixels."""
    size = grid * PATCH
    backbone = {"model_type": "sam3_vit_model", "image_size": size, "window_size": min(WINDOW, grid)}
    sizes = [[grid * factor] * 2 for factor in (4, 2, 1)]
    text = {"model_type": "clip_text_model", "num_hidden_layers": 1, "vocab_size": 49408, "hidden_size": 256}
    text |= {"intermediate_size": 512, "projection_dim": 512, "num_attention_heads": 4}
    text |= {"max_position_embeddings": 32, "hidden_act": "gelu"}
    torch.manual_seed(0)
    config = Sam3Config(vision_config={"backbone_config": backbone, "backbone_feature_sizes": sizes}, text_config=text)
    processor = Sam3Processor.from_pretrained(ASSETS / "demo" / "model")
    processor.image_processor.size = {"height": size, "width": size}
    return LoadedModel(Sam3Model(config).eval().requires_grad_(False), processor, "random")


def write_dataset(folder: Path, images: int) -> Path:
    """COCO with 12-megapixel JPEGs: five objects with a polygon each, of two categories out of four."""
    train, rng, (height, width) = folder / "train", np.random.default_rng(0), SIZE_HW
    train.mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        name = f"{number}.jpg"
        coarse = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(train / name), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        entries.append({"id": number, "file_name": name, "width": width, "height": height})
        for position in range(5):
            x, y, w, h = 200 + 700 * position, 400, 500, 1500
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            one = {"id": len(annotations), "image_id": number, "category_id": position % 2, "bbox": [x, y, w, h]}
            annotations.append({**one, "area": w * h, "iscrowd": 0, "segmentation": [corners]})
    names = ("crack", "pothole", "joint", "patch")
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (train / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def make_setup(arguments: argparse.Namespace, dataset: Path) -> Setup:
    """A run before its first step, with the cache."""
    config = RunConfig() if arguments.preset == "all-but-vision" else preset(arguments.preset)
    components = [name for name in config.lora.components if name != "vision_encoder"]
    config = config.with_settings(
        {
            "lora.components": components,
            "data.path": str(dataset),
            "data.valid_split": "",
            "data.num_negatives": 2,
            "data.num_workers": 0,
            "model.gradient_checkpointing": arguments.checkpointing,
            "training.batch_size": 1,
            "training.max_steps": max(arguments.losses, 1),
            "training.epochs": 10_000,
            "training.precision": arguments.precision,
            "training.device": arguments.device,
        }
    )
    accelerator = make_accelerator(config.training)
    resolved, _ = resolve(config, accelerator.device)
    model = random_model(arguments.grid)
    with mock.patch.object(train_setup, "load_base", lambda *_, **__: model):
        setup = train_setup.prepare(resolved, accelerator, log=lambda line: print(line, flush=True))
    assert setup.vision is not None, "the vision encoder is frozen"
    return setup


def step(setup: Setup, place: int, cached: bool) -> tuple[float, float]:
    """Takes a step on one image; its loss and processor time in seconds."""
    samples = setup.data.samples
    began = time.process_time()
    batch = checked(setup.data.collate([samples[place] if cached else samples.decoded(place)]))
    assert (batch.backbone is not None) == cached
    metrics = take_step(setup, [batch])
    assert metrics is not None, "out of memory"
    return metrics.loss.total, time.process_time() - began


def compare_times(setup: Setup, arguments: argparse.Namespace) -> bool:
    """Alternates steps; whether the goal is met."""
    setup.train_mode()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(arguments.steps + 1):
        for cached in (False, True):
            _, needed = step(setup, number % arguments.images, cached)
            print(f"  step {number}, {'cached' if cached else 'encoded'}: {needed:.1f} s", flush=True)
            if number:  # the first warms up
                seconds[cached].append(needed)
    encoded, read = (statistics.median(seconds[kind]) for kind in (False, True))
    print(f"CPU time of a step: {encoded:.1f} s with the vision encoder, {read:.1f} s with the cache")
    goal = GOALS[arguments.preset]
    print(f"ratio {read / encoded:.3f} (goal: at most {goal})")
    return read / encoded <= goal


@dataclass
class Side:
    """One of two trainings with the same model: what differs between them."""

    weights: list[torch.Tensor]
    drawn: dict[str, Any]  # random states
    optimizer: Any
    scheduler: Any
    losses: list[float]


def compare_losses(setup: Setup, arguments: argparse.Namespace) -> bool:
    """Two trainings that take turns; whether all their losses are equal within the tolerance."""
    sides = {}
    for cached in (False, True):
        optimizer = make_optimizer(setup.model.peft, setup.config.training)
        scheduler = make_schedule(optimizer, setup.config.training, setup.plan)
        weights = [parameter.detach().clone() for parameter in setup.model.parameters]
        optimizer = setup.accelerator.prepare_optimizer(optimizer)
        sides[cached] = Side(weights, random_state(), optimizer, scheduler, [])
    setup.train_mode()
    apart = 0.0
    for number in range(arguments.losses):
        setup.data.samples.set_epoch(number // arguments.images)
        for cached, side in sides.items():
            with torch.no_grad():
                for parameter, weight in zip(setup.model.parameters, side.weights, strict=True):
                    parameter.copy_(weight)
            setup.optimizer, setup.scheduler = side.optimizer, side.scheduler
            restore_random(side.drawn)
            side.losses.append(step(setup, number % arguments.images, cached)[0])
            side.weights = [parameter.detach().clone() for parameter in setup.model.parameters]
            side.drawn = random_state()
        encoded, read = (side.losses[-1] for side in sides.values())
        apart = max(apart, abs(read - encoded) / encoded)
        print(f"  step {number + 1}: {encoded:.6f} encoded, {read:.6f} cached, at most {apart:.1e} apart", flush=True)
    return apart <= LOSS_TOLERANCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=int, default=36, help="patches a side; 72 for 1008 pixels")
    parser.add_argument("--steps", type=int, default=3, help="of each kind, after one to warm up")
    parser.add_argument("--losses", type=int, default=0, help="compare the losses of so many steps instead")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--preset", choices=list(GOALS), default="all-but-vision")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"SAM3_LORA_CACHE": f"{folder}/cache"}):
        setup = make_setup(arguments, write_dataset(Path(folder) / "data", arguments.images))
        vision: Any = setup.vision
        began = time.process_time()
        *_, last = vision.fill(setup.data.every_split)
        seconds, images = time.process_time() - began, plural(arguments.images, "image")
        print(f"first pass over {images}, {last.plan.missing} variants: {seconds:.1f} s", flush=True)
        each = vision.files.file_bytes
        full = each * (FULL_GRID / arguments.grid) ** 2
        print(f"{each / 1e6:.2f} MB per image and variant, {full / 1e6:.1f} MB at 1008 pixels ({arguments.precision})")
        met = (compare_losses if arguments.losses else compare_times)(setup, arguments)
    sys.exit(not met)


if __name__ == "__main__":
    main()
