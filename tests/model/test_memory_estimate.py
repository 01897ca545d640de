"""The estimate of a training step's memory against what bench/full_size.py counts in fit()'s own step."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from transformers import Sam3Config

from bench.full_size import Case, count_step
from sam3_lora.model.image_size import with_image_size
from sam3_lora.model.memory_estimate import OVERHEAD, MemoryEstimate, estimate_memory
from sam3_lora.recipes import PRESETS

WITHIN = 0.15
FULL = Sam3Config()
KEPT = {"model.gradient_checkpointing": False}
OPTIONS: dict[str, Any] = {"precision": "bf16", "gradient_checkpointing": True, "phrases_per_image": 4}


def few_layers() -> Sam3Config:
    """SAM 3 at full width with few layers, which are counted in seconds."""
    text = {"num_hidden_layers": 1, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    return Sam3Config(
        vision_config={
            "backbone_config": {"model_type": "sam3_vit_model", "num_hidden_layers": 4, "global_attn_indexes": [3]}
        },
        text_config={"model_type": "clip_text_model", "max_position_embeddings": 32, "projection_dim": 512, **text},
        geometry_encoder_config={"num_layers": 1},
        detr_encoder_config={"num_layers": 2},
        detr_decoder_config={"num_layers": 2},
    )


def estimated(case: Case, architecture: Sam3Config) -> MemoryEstimate:
    config = case.config({})
    return estimate_memory(
        with_image_size(Sam3Config(**architecture.to_dict()), config.model.image_size),
        config.lora,
        precision=config.training.precision,
        gradient_checkpointing=config.model.gradient_checkpointing,
        images=case.images,
        phrases_per_image=case.phrases // case.images,
        cached_vision=case.cached_vision,
    )


def assert_close(case: Case, architecture: Sam3Config) -> None:
    counted = count_step(
        case.config({}), architecture, case.images, case.phrases, case.cached_vision, present=2 * case.images
    ).peak
    assert estimated(case, architecture).counted == pytest.approx(counted, rel=WITHIN)


@pytest.mark.parametrize(
    "case",
    [Case(), Case(preset="minimal", settings=KEPT), Case(preset="fusion", settings={"model.image_size": 672})],
    ids=["balanced", "minimal-kept", "fusion-672"],
)
def test_it_is_close_to_what_is_counted(case: Case) -> None:
    assert_close(case, few_layers())


@pytest.mark.slow
@pytest.mark.parametrize("cached_vision", [False, True], ids=["encoded", "cached"])
@pytest.mark.parametrize("size", [1008, 672])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(("images", "phrases"), [(1, 4), (2, 10)], ids=["1x4", "2x10"])
@pytest.mark.parametrize("checkpointing", [True, False], ids=["recomputed", "kept"])
@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_close_at_full_size(
    preset: str, checkpointing: bool, images: int, phrases: int, precision: str, size: int, cached_vision: bool
) -> None:
    settings = {
        "model.gradient_checkpointing": checkpointing,
        "training.precision": precision,
        "model.image_size": size,
    }
    case = Case(preset, images, phrases, settings, cached_vision)
    if cached_vision and "vision_encoder" in case.config({}).lora.components:
        pytest.skip("the vision encoder is adapted: its output is not kept")
    assert_close(case, FULL)


def test_each_switch_that_saves_memory_lowers_the_estimate() -> None:
    most = Case(images=2, phrases=10, settings=KEPT | {"training.precision": "fp32"})
    before = estimated(most, FULL).total
    for settings in (
        {"model.gradient_checkpointing": True},
        {"training.precision": "bf16"},
        {"model.image_size": 672},
        {"lora.components": ["detr_decoder", "scoring"]},
        {"lora.rank": 4},
    ):
        assert estimated(replace(most, settings=most.settings | settings), FULL).total < before, settings
    assert estimated(replace(most, images=1, phrases=5), FULL).total < before


def test_cuda_and_fragmentation_are_a_part_of_their_own() -> None:
    estimate = estimated(Case(), FULL)
    assert estimate.total == sum(estimate.parts.values())
    assert estimate.counted == estimate.total - estimate.parts[OVERHEAD]
    assert 0.5 * 2**30 < estimate.parts[OVERHEAD] < 1.5 * 2**30


def test_a_larger_batch_needs_more() -> None:
    lora = Case().config({}).lora
    needed = [estimate_memory(FULL, lora, images=images, **OPTIONS).total for images in range(1, 9)]
    assert all(one < other for one, other in itertools.pairwise(needed)), needed
