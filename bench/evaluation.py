"""Vision passes and CPU time of an evaluation, beside each question having a pass of its own.

    python bench/evaluation.py [--rounds 3] [--images 8]

Each round asks the demo's validation images twice, once after the other: as evaluate() does, and the naive way, where
predictions and loss of base and adapter each load and encode the images for themselves, and all masks are made. Two
adapters: one that changes vision, and one that leaves it alone. Metrics and bootstrap are left out. The medians of the
rounds' ratios are printed; exits with 1 if one is above its limit, or if the number of vision passes is not what it
should be.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import torch

from sam3_lora.config import LossConfig, RunConfig
from sam3_lora.data.dataset import Split, load_image, open_dataset
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, asked_of, phrases_of
from sam3_lora.evaluate.prompt_leak import phrase_groups
from sam3_lora.evaluate.validation_loss import BATCH_SIZE, NEGATIVES, mean_loss, validation_loader
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.predict.predictor import Predictor

FUSION = ["detr_encoder", "detr_decoder", "scoring", "mask_decoder"]
# adapter -> its components, and the limit of the CPU time's ratio
CASES = {"vision adapted": (["vision_encoder", *FUSION], 0.7), "vision left alone": (FUSION, 0.65)}


class _AllAsked(Exception):
    """Ends an evaluation where the metrics would begin."""


def asking(predictor: Predictor, split: Split) -> None:
    """Predictions and losses as evaluate() computes them."""

    def progress(share: float, what: str) -> None:
        if what == "Computing metrics":
            raise _AllAsked

    with suppress(_AllAsked):
        evaluate(predictor, EvaluationRequest(split, dataset="demo", base_name="demo"), progress=progress)


def naive(predictor: Predictor, split: Split) -> None:
    """The same questions, each with a pass of its own."""
    groups = phrase_groups(split, phrases_of(split), None, "demo")
    loss = Sam3LossWrapper.from_config(LossConfig()).eval()
    loader = validation_loader(split.images, predictor.processor, split.prompt_categories, NEGATIVES, BATCH_SIZE)
    for strength in (0.0, 1.0):
        predictor.strength = strength
        for image in split.images:
            pixels = load_image(image)
            measured = asked_of(image, groups.categories, categories=split.prompt_categories).measured
            predictor.forget()
            predictor.set_image(pixels)
            with _every_mask(predictor):
                for phrases, threshold in ((tuple(measured), 0.0), (groups.extra, SCORE_THRESHOLD)):
                    predictor.prompt(phrases, threshold)
        mean_loss(loader, lambda batch: loss(predictor.detector(*batch.inputs), batch.targets))


@contextmanager
def _every_mask(predictor: Predictor) -> Iterator[None]:
    """The masks of all queries are made, whatever their scores."""
    detect = predictor.detector.detect
    predictor.detector.detect = lambda *args, masks, **kwargs: detect(*args, **kwargs)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del predictor.detector.detect


def adapted(components: list[str]) -> Predictor:
    """The demo with an adapter of these components."""
    torch.manual_seed(0)
    base = load_base("demo")
    model = lora.attach(base.model, RunConfig().with_settings({"lora.components": components}).lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return Predictor(base, model)


def measure(predictor: Predictor, split: Split, ask: Callable[[Predictor, Split], None]) -> tuple[int, float]:
    """Images that went through the vision encoder, and CPU seconds."""
    encoded: list[int] = []
    encoder = predictor.detector.base.vision_encoder
    handle = encoder.register_forward_hook(lambda _, args, output: encoded.append(len(args[0])))
    predictor.forget()
    began = time.process_time()
    ask(predictor, split)
    seconds = time.process_time() - began
    handle.remove()
    return sum(encoded), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAM3_LORA_CACHE"] = folder  # nothing that training has kept of these images
        sys.exit(not compare(arguments.rounds, arguments.images))


def compare(rounds: int, images: int) -> bool:
    """Prints both cases; whether they keep their limits."""
    split = open_dataset("demo").split("valid").present()
    split = replace(split, images=split.images.take(np.arange(images)))
    broken = False
    for name, (components, limit) in CASES.items():
        predictor = adapted(components)
        models = 2 if "vision_encoder" in components else 1
        asking(predictor, replace(split, images=split.images.take(np.zeros(1, dtype=int))))  # warms up
        ratios = []
        for _ in range(rounds):
            passes, seconds = measure(predictor, split, asking)
            naive_passes, naive_seconds = measure(predictor, split, naive)
            ratios.append(seconds / naive_seconds)
        ratio = statistics.median(ratios)
        broken |= ratio > limit or passes != models * images
        print(
            f"{name}: {passes / images:g} vision passes per image instead of "
            f"{naive_passes / images:g}; {ratio:.2f} of the CPU time (limit: {limit})"
        )
    return not broken


if __name__ == "__main__":
    main()
