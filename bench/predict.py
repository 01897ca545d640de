"""Time of prompts: the second phrase over the first, eight at once over one by one, a threshold over the model.

    python bench/predict.py [--rounds 9] [--full] [--device cuda]
    python bench/predict.py --memory [--phrases 64]

Every round times all of them one after the other, with a new image and new phrases, so that no cache helps; the
medians of the rounds' ratios are printed. --full uses SAM 3's published architecture with random weights instead of
the demo; it needs a GPU. Exits with 1 if a ratio is above its limit.

--memory counts instead, on fake tensors at full size, what many phrases add to memory at once, and in the chunks that
a Predictor makes of them. Exits with 1 if the chunks take more than they may.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from typing import Any

import numpy as np
import torch
from transformers import Sam3Config, Sam3Model

from bench.fake_gpu import fake_gpu, make_fake
from sam3_lora.model.base import LoadedModel, load_processor, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import convert_frozen, resolve_precision
from sam3_lora.predict.chunks import MAX_BYTES, phrases_at_once
from sam3_lora.predict.postprocess import PostprocessConfig, postprocess_all
from sam3_lora.predict.predictor import Predictor
from sam3_lora.structures import TextFeatures, VisionFeatures

# ratio -> its limit on the demo, and at full size
PROMISES = {
    "second phrase / first phrase": (0.5, 0.2),
    "eight phrases at once / one by one": (0.6, 0.6),
    "moving the threshold / running the model": (0.05, 0.05),
}


def full_size(device: torch.device) -> Predictor:
    """The published architecture with random weights and the demo's tokenizer."""
    with device:
        model = Sam3Model(Sam3Config()).eval().requires_grad_(False)
    convert_frozen(model, resolve_precision("auto", device))
    processor = load_processor("demo")
    processor.image_processor.size = {"height": 1008, "width": 1008}
    return Predictor(LoadedModel(model, processor, "random weights"))


def measure(predictor: Predictor, numbers: count) -> dict[str, float]:
    """One round's ratios; numbers: gives a number that no phrase has had yet."""
    image = np.random.default_rng(next(numbers)).integers(0, 256, (448, 448, 3), dtype=np.uint8)

    def new(number: int) -> list[str]:
        return [f"pothole {next(numbers)}" for _ in range(number)]

    def first() -> None:
        predictor.set_image(image)
        predictor.prompt(new(1))

    first_phrase = seconds(predictor, first)
    second_phrase = seconds(predictor, lambda: predictor.prompt(new(1)))
    at_once = seconds(predictor, lambda: predictor.prompt(new(8)))
    one_by_one = seconds(predictor, lambda: [predictor.prompt([phrase]) for phrase in new(8)])
    results = predictor.prompt(new(3), threshold=0.0)  # all 200 queries (the demo's 32): the worst case
    moved = seconds(predictor, lambda: postprocess_all(results, PostprocessConfig(threshold=0.5)))
    ratios = second_phrase / first_phrase, at_once / one_by_one, moved / first_phrase
    return dict(zip(PROMISES, ratios, strict=True))


def prompt_bytes(config: Any, phrases: int, precision: str) -> int:
    """The peak of memory that a prompt for so many phrases adds on a GPU, with the masks of all queries, counted."""
    with torch.device("meta"):
        base = Sam3Model(config).requires_grad_(False).eval()
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    autocast = nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=dtype)
    queries = config.detr_decoder_config.num_queries
    # What decides about computations is real, the rest fake.
    image_index = torch.from_numpy(np.zeros(phrases, dtype=np.int64))
    rows = torch.from_numpy(np.repeat(np.arange(phrases), queries))
    chosen = torch.from_numpy(np.tile(np.arange(queries), phrases))
    coarse = config.image_size // config.vision_config.backbone_config.patch_size
    sides = [int(coarse * scale) for scale in config.vision_config.scale_factors[:3]]
    width = config.detr_encoder_config.hidden_size
    with fake_gpu() as counting, torch.no_grad(), autocast:
        make_fake(base, counting, "weights")
        maps = tuple(torch.zeros(1, width, side, side, dtype=dtype) for side in sides)
        vision = VisionFeatures(maps, tuple(torch.zeros_like(one, dtype=torch.float32) for one in maps))
        counting.begin("prompt")
        text = TextFeatures(torch.zeros(phrases, 32, width), torch.ones(phrases, 32, dtype=torch.bool))
        detections = Sam3Detector(base).eval().detect(vision, text, image_index, masks=False)
        assert detections.mask_head is not None
        detections.mask_head(rows, chosen).float()
    counted = counting.count(kept_in="prompt")
    return counted.peak - counted.kept.total()


def memory(phrases: int) -> bool:
    """Prints what many phrases take at full size; whether the chunks take more than they may."""
    broken = False
    for precision in ("fp32", "bf16"):
        chunk = phrases_at_once(Sam3Config(), torch.device("cpu"), precision)
        some, every = (prompt_bytes(Sam3Config(), number, precision) for number in (chunk, phrases))
        broken |= some > 1.15 * MAX_BYTES
        print(f"{phrases} phrases, {precision}: {some / 1e9:.1f} GB in chunks of {chunk}, {every / 1e9:.1f} GB at once")
    return broken


def seconds(predictor: Predictor, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    if predictor.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--full", action="store_true", help="SAM 3's own size, with random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", action="store_true", help="count the memory of many phrases instead")
    parser.add_argument("--phrases", type=int, default=64)
    arguments = parser.parse_args()
    if arguments.memory:
        sys.exit(memory(arguments.phrases))
    device = resolve_device(arguments.device)
    predictor = full_size(device) if arguments.full else Predictor.load("demo", device=arguments.device)
    numbers = count()
    measure(predictor, numbers)  # warms up
    rounds = [measure(predictor, numbers) for _ in range(arguments.rounds)]
    broken = False
    for name, promises in PROMISES.items():
        ratio = statistics.median(one[name] for one in rounds)
        promise = promises[arguments.full]
        broken |= ratio > promise
        print(f"{name + ':':42} {ratio:.4f} (promise: at most {promise})")
    sys.exit(broken)


if __name__ == "__main__":
    main()
