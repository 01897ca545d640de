"""The detector equals the reference's heads: every layer, both halves, and the gradients.

Full width (256, six layers, 200 queries) on a small and not square grid, equal random weights, no dropout.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from sam3_lora.model.detector import PADDING_LABEL, Sam3Detector
from sam3_lora.structures import Detections, TextFeatures, VisionFeatures
from tests.parity import reference_model as reference

GRID = (4, 6)
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[0, 1], ids=["seed 0", "seed 1"])
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, Sam3Detector]:
    return make_pair(request.param)


def make_pair(seed: int) -> tuple[nn.Module, Sam3Detector]:
    """The reference, and our detector with its weights."""
    from transformers import Sam3Config, Sam3Model

    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": "sam3_vit_model", "image_size": 56, "pretrain_image_size": 56, "window_size": 4, **tower}
    text = {"model_type": "clip_text_model", "vocab_size": 64, "bos_token_id": 62, "eos_token_id": 63, **tower}
    theirs = reference.build(seed)
    model = Sam3Model(
        Sam3Config(
            vision_config={"backbone_config": vision},
            text_config=text,
            geometry_encoder_config={"dropout": 0.0},
            detr_encoder_config={"dropout": 0.0},
            detr_decoder_config={"dropout": 0.0},
        )
    )
    reference.copy_into(theirs, model)
    return theirs, Sam3Detector(model)


def make_features(
    detector: Sam3Detector, seed: int, images: int = 2, phrases: int = 3, dtype: torch.dtype = torch.float32
) -> reference.Features:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    height, width = GRID
    fpn = tuple(random(images, reference.WIDTH, height * scale, width * scale) for scale in (4, 2, 1))
    encoding = detector.base.vision_encoder.neck.position_encoding
    position = tuple(encoding(level.shape, level.device, level.dtype) for level in fpn)
    lengths = torch.randint(2, 6, (phrases,), generator=generator)
    mask = torch.arange(6) < lengths.unsqueeze(-1)
    return reference.Features(
        vision=VisionFeatures(fpn=fpn, position=position),
        text=TextFeatures(states=random(phrases, 6, reference.WIDTH), mask=mask),
        image_index=torch.randint(0, images, (phrases,), generator=generator),
    )


def with_boxes(features: reference.Features) -> reference.Features:
    """Example boxes: some positive, some negative, some rows filled up with padding."""
    phrases = len(features.text.states)
    boxes = torch.rand(phrases, 3, 4, generator=torch.Generator().manual_seed(9)) * 0.4 + 0.2
    boxes = boxes.to(features.text.states.dtype)
    labels = torch.tensor([[1, 1, 0], [1, PADDING_LABEL, PADDING_LABEL], [0, 1, PADDING_LABEL]])[:phrases]
    return replace(features, boxes=boxes, box_labels=labels)


def ask(detector: Sam3Detector, features: reference.Features, masks: bool = True) -> Detections:
    return detector.detect(
        features.vision, features.text, features.image_index, features.boxes, features.box_labels, masks=masks
    )


def ask_mask_head(detector: Sam3Detector, features: reference.Features) -> Detections:
    """With the masks that the mask head makes of every query, asked for in no order; no semantic logits."""
    found = ask(detector, features, masks=False)
    halves = [half for half in (found, found.one_to_many) if half is not None]
    assert all(half.masks is None and half.semantic is None for half in halves)
    (phrases, queries), order = found.logits.shape[1:], torch.Generator().manual_seed(3)
    queries *= len(halves)
    mixed = torch.randperm(phrases * queries, generator=order)
    # Of the first phrase a part is asked for in one piece, as the loss does.
    mixed = torch.cat((torch.arange(5), mixed[mixed >= 5]))
    made = found.mask_head(mixed // queries, mixed % queries)
    masks = made[mixed.argsort()].unflatten(0, (phrases, queries)).chunk(len(halves), dim=1)
    o2m = None if found.one_to_many is None else replace(found.one_to_many, masks=masks[1])
    return replace(found, masks=masks[0], one_to_many=o2m, mask_head=None)


def ask_checkpointed(detector: Sam3Detector, features: reference.Features) -> Detections:
    detector.gradient_checkpointing(True)
    return ask(detector, features)


def ask_checkpointed_mask_head(detector: Sam3Detector, features: reference.Features) -> Detections:
    detector.gradient_checkpointing(True)
    return ask_mask_head(detector, features)


WAYS = [ask, ask_mask_head]


def outputs(detections: Detections) -> dict[str, Tensor]:
    named = {field.name: getattr(detections, field.name) for field in fields(detections)}
    second = named.pop("one_to_many")
    if second is not None:
        named |= {f"one_to_many.{name}": value for name, value in outputs(second).items()}
    return {name: value for name, value in named.items() if value is not None}


def assert_equal(actual: Tensor, expected: Tensor, name: str) -> None:
    """Within 1e-5; where values exceed one (mask logits), within 1e-5 of the largest."""
    worst = (actual - expected).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert actual.shape == expected.shape, name
    assert worst <= TOLERANCE * scale, f"{name}: off by {worst:.2e}, largest value {scale:.2e}"


@pytest.mark.parametrize("boxes", [False, True], ids=["phrase", "phrase and boxes"])
@pytest.mark.parametrize(("images", "phrases", "way"), [(2, 3, ask), (1, 2, ask), (1, 1, ask), (2, 3, ask_mask_head)])
def test_training_detections_of_every_layer_and_both_halves(pair, images: int, phrases: int, way, boxes: bool) -> None:
    theirs, ours = pair
    features = make_features(ours, seed=images * 10 + phrases, images=images, phrases=phrases)
    features = with_boxes(features) if boxes else features
    with torch.no_grad():
        expected = outputs(reference.detect(theirs.train(), features))
        actual = outputs(way(ours.train(), features))
    assert expected.keys() - actual.keys() == (set() if way is ask else {"semantic"})
    assert actual["logits"].shape == (6, phrases, 200)
    assert expected["presence"].abs().max() < 10, "beyond this only transformers clamps"
    for name, value in actual.items():
        assert_equal(value, expected[name], name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("boxes", [False, True], ids=["phrase", "phrase and boxes"])
def test_inference_detections(pair, way, boxes: bool) -> None:
    theirs, ours = pair
    features = make_features(ours, seed=5)
    features = with_boxes(features) if boxes else features
    with torch.no_grad():
        expected = outputs(reference.detect(theirs.eval(), features))
        actual = outputs(way(ours.eval(), features))
    assert expected.keys() - actual.keys() == (set() if way is ask else {"semantic"})
    for name, value in actual.items():  # the reference answers with its last layer only
        layered = name in ("logits", "boxes", "presence")
        assert_equal(value[-1:] if layered else value, expected[name], name)


def test_position_encoding_is_the_references(pair) -> None:
    _, ours = pair
    features = make_features(ours, seed=1)
    theirs = reference.builder._create_position_encoding()
    for level, position in zip(features.vision.fpn, features.vision.position, strict=True):
        assert_equal(position, theirs(level), "position")


@pytest.fixture(scope="module")
def reference_gradients() -> tuple[nn.Module, reference.Features, dict[str, dict[str, Tensor]]]:
    """Our detector and its features in float64, and the gradients of the reference's outputs, by whether semantic
    logits are among them.

    In float64: in float32 rounding alone moves some gradients by 3e-4 of their largest.
    """
    theirs, ours = (model.train().double() for model in make_pair(seed=2))
    features = with_boxes(make_features(ours, seed=7, phrases=2, dtype=torch.float64))
    expected = {}
    for leave_out in ("", "semantic"):
        weights, inputs = gradients(theirs, features, reference.detect, leave_out)
        expected[leave_out] = reference.translated(theirs, weights) | inputs
    return ours, features, expected


@pytest.mark.parametrize("way", [ask, ask_mask_head, ask_checkpointed, ask_checkpointed_mask_head])
def test_gradients_of_every_weight_and_feature(reference_gradients, way) -> None:
    """Holds the boxes' second look forward: with a detached box the values stay the same, the gradients do not."""
    ours, features, of_reference = reference_gradients
    ours.gradient_checkpointing(False)
    expected = of_reference["" if way in (ask, ask_checkpointed) else "semantic"]
    weights, inputs = gradients(ours, features, way)
    actual = {name.removeprefix("base."): value for name, value in weights.items()} | inputs
    for name in ("reference_points", "query_embed", "layers.0.self_attn.q_proj", "layers.5.vision_cross_attn.k_proj"):
        assert expected[f"detr_decoder.{name}.weight"].abs().max() > 1e-6, name
    for name, value in expected.items():
        assert_equal_gradient(actual[name], value, name)


def gradients(
    model: nn.Module, features: reference.Features, run, leave_out: str = ""
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of a random weighting of all outputs but one, with respect to all weights and to the features."""
    fpn = tuple(level.clone().requires_grad_() for level in features.vision.fpn)
    states = features.text.states.clone().requires_grad_()
    leaves = replace(features, vision=replace(features.vision, fpn=fpn), text=replace(features.text, states=states))
    model.requires_grad_(True).zero_grad()
    total = sum(
        (value * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))).mean()
        for name, value in outputs(run(model, leaves)).items()
        if name != leave_out
    )
    total.backward()
    weights = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return weights, {"text": states.grad} | {f"fpn {i}": level.grad for i, level in enumerate(fpn)}


def assert_equal_gradient(actual: Tensor, expected: Tensor, name: str) -> None:
    """Relative to the largest gradient of the same tensor; a key's bias moves nothing, its gradient is rounding."""
    scale = expected.abs().max().item()
    worst = (actual - expected).abs().max().item()
    assert worst <= TOLERANCE * scale + 1e-12, f"{name}: off by {worst:.2e}, largest gradient {scale:.2e}"
