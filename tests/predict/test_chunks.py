"""How many phrases are computed at once: by the memory that each adds, against what fake tensors count."""

from __future__ import annotations

import pytest
import torch
from transformers import Sam3Config

from bench.predict import prompt_bytes
from sam3_lora.model.base import load_config
from sam3_lora.predict.chunks import MAX_BYTES, phrase_bytes, phrases_at_once


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
    four, seven = (prompt_bytes(full_size, number, precision) for number in (4, 7))
    assert phrase_bytes(full_size, precision) == pytest.approx((seven - four) / 3, rel=0.15)
