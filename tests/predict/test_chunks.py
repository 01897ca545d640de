"""How many phrases are computed at once: by the memory that each adds, against what fake tensors count."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import Sam3Config, Sam3Model

from bench.fake_gpu import fake_gpu, make_fake
from sam3_lora.model.base import load_config
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.predict.chunks import MAX_BYTES, phrase_bytes, phrases_at_once
from sam3_lora.structures import TextFeatures, VisionFeatures


@pytest.fixture(scope="module")
def full_size():
    return Sam3Config()


def test_at_full_size_the_chunk_is_bounded_by_bytes(full_size) -> None:
    for precision in ("fp32", "bf16"):
        size = phrases_at_once(full_size, torch.device("cpu"), precision)
        assert 8 <= size < 32 and size * phrase_bytes(full_size, precision) <= MAX_BYTES
    assert phrases_at_once(full_size, torch.device("cpu"), "bf16") > phrases_at_once(
        full_size, torch.device("cpu"), "fp32"
    )
    demo = load_config("demo")
    assert phrases_at_once(demo, torch.device("cpu"), "fp32") > 32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_what_a_phrase_adds_to_the_peak(full_size, precision) -> None:
    four, seven = (peak_of(full_size, number, precision) for number in (4, 7))
    assert phrase_bytes(full_size, precision) == pytest.approx((seven - four) / 3, rel=0.15)


def peak_of(config, phrases: int, precision: str) -> int:
    """Bytes at the peak of prompting for a number of phrases, with the masks of all queries."""
    with torch.device("meta"):
        base = Sam3Model(config).requires_grad_(False).eval()
    autocast = nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=torch.bfloat16)
    queries = config.detr_decoder_config.num_queries
    # What decides about computations is real, the rest fake.
    image_index = torch.from_numpy(np.zeros(phrases, dtype=np.int64))
    rows = torch.from_numpy(np.repeat(np.arange(phrases), queries))
    chosen = torch.from_numpy(np.tile(np.arange(queries), phrases))
    with fake_gpu() as counting, torch.no_grad(), autocast:
        make_fake(base, counting, "weights")
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        maps = tuple(torch.zeros(1, 256, side, side, dtype=dtype) for side in (288, 144, 72))
        vision = VisionFeatures(maps, tuple(torch.zeros_like(one, dtype=torch.float32) for one in maps))
        text = TextFeatures(torch.zeros(phrases, 32, 256), torch.ones(phrases, 32, dtype=torch.bool))
        detections = Sam3Detector(base).eval().detect(vision, text, image_index, masks=False)
        detections.mask_head(rows, chosen).float()
    return counting.count().peak
