"""What Sam3Detector promises: one vision pass, phrases independent of each other, all layers, both halves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy
from sam3_lora.model.base import LoadedModel
from sam3_lora.model.detector import PADDING_LABEL, Sam3Detector, TextFeatures
from tests.model.model_helpers import detect, scalar, some_boxes, tensors

TOLERANCE = 1e-5


def padded_box(phrases: int) -> dict[str, Tensor]:
    labels = torch.full((phrases, 1), PADDING_LABEL)
    return {"input_boxes": torch.zeros(phrases, 1, 4), "input_boxes_labels": labels}


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Within 1e-5; of the largest value where that exceeds one, as mask logits do."""
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE * scale)


def test_shapes_follow_the_contract(detector: Sam3Detector, inputs) -> None:
    config = detector.base.config
    layers, queries = config.detr_decoder_config.num_layers, config.detr_decoder_config.num_queries
    with torch.no_grad():
        found = detector(*inputs)
    assert found.logits.shape == (layers, 5, queries)
    assert found.boxes.shape == (layers, 5, queries, 4)
    assert found.presence.shape == (layers, 5)
    assert found.masks.shape[:2] == (5, queries)
    assert found.semantic.shape == (5, 1, *found.masks.shape[2:])
    assert found.boxes.min() >= 0 and found.boxes.max() <= 1
    assert all(value.isfinite().all() for value in tensors(found).values())


def test_last_layer_equals_transformers_with_one_padded_box(detector: Sam3Detector, demo: LoadedModel, inputs) -> None:
    pixels, ids, mask, index = inputs
    with torch.no_grad():
        found = detector(pixels, ids, mask, index)
        stock = demo.model(pixel_values=pixels[index], input_ids=ids, attention_mask=mask, **padded_box(len(ids)))
    assert_same(found.logits[-1], stock.pred_logits)
    assert_same(cxcywh_to_xyxy(found.boxes[-1]), stock.pred_boxes)
    assert_same(found.presence[-1], stock.presence_logits.squeeze(-1))
    assert_same(found.masks, stock.pred_masks)
    assert_same(found.semantic, stock.semantic_seg)


def test_example_boxes_equal_transformers(detector: Sam3Detector, demo: LoadedModel, inputs) -> None:
    pixels, ids, mask, index = inputs
    boxes, labels = some_boxes(len(ids))
    with torch.no_grad():
        found = detect(detector, inputs, boxes, labels)
        without = detector(pixels, ids, mask, index)
        stock = demo.model(
            pixel_values=pixels[index],
            input_ids=ids,
            attention_mask=mask,
            input_boxes=boxes,
            input_boxes_labels=labels,
        )
    assert_same(found.logits[-1], stock.pred_logits)
    assert_same(found.masks, stock.pred_masks)
    assert (found.logits - without.logits).abs().max() > 1e-3


def test_leaving_out_the_padded_box_gives_other_detections(detector: Sam3Detector, demo: LoadedModel, inputs) -> None:
    pixels, ids, mask, index = inputs
    with torch.no_grad():
        found = detector(pixels, ids, mask, index)
        text_only = demo.model(pixel_values=pixels[index], input_ids=ids, attention_mask=mask)
    assert (found.logits[-1] - text_only.pred_logits).abs().max() > 0.01
    assert (found.masks - text_only.pred_masks).abs().max() > 0.1


def test_vision_runs_once_however_many_phrases(detector: Sam3Detector, inputs) -> None:
    passes = []
    hook = detector.base.vision_encoder.register_forward_hook(lambda module, args, output: passes.append(args))
    try:
        with torch.no_grad():
            vision = detector.encode_images(inputs.pixel_values)
            text = detector.encode_text(inputs.input_ids, inputs.attention_mask)
            first = detector.detect(vision, text, inputs.image_index)
            again = detector.detect(vision, text, inputs.image_index)
    finally:
        hook.remove()
    assert len(passes) == 1
    torch.testing.assert_close(first.logits, again.logits, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_encoded_from_the_backbone_give_the_same_features(detector, inputs, dtype) -> None:
    autocast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with torch.no_grad(), autocast:
        backbone = detector.encode_backbone(inputs.pixel_values)
        direct = detector.encode_images(inputs.pixel_values)
        passes = []
        hook = detector.base.vision_encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
        # In bf16 the neck rounds its input anyway.
        known = detector.encode_images(backbone=backbone.to(dtype))
        hook.remove()
    assert not passes, "the backbone has run again"
    for ours, expected in zip((*known.fpn, *known.position), (*direct.fpn, *direct.position), strict=True):
        assert ours.dtype == expected.dtype
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("training", [False, True])
def test_a_phrase_in_a_batch_gives_the_same_detections_as_alone(detector: Sam3Detector, inputs, training: bool) -> None:
    detector.train(training)
    pixels, ids, mask, index = inputs
    with torch.no_grad():
        together = detector(pixels, ids, mask, index)
        for phrase in range(len(ids)):
            image = pixels[index[phrase]].unsqueeze(0)
            alone = detector(image, ids[phrase, None], mask[phrase, None], torch.tensor([0]))
            for name, value in tensors(alone).items():
                axis = 1 if name in ("logits", "boxes", "presence") else 0
                expected = getattr(together, name).select(axis, phrase)
                assert_same(value.select(axis, 0), expected)


def test_order_of_phrases_does_not_matter(detector: Sam3Detector, inputs) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        plain = detector(*inputs)
        shuffled = detector(
            inputs.pixel_values, inputs.input_ids[order], inputs.attention_mask[order], inputs.image_index[order]
        )
    assert_same(shuffled.logits, plain.logits[:, order])
    assert_same(shuffled.masks, plain.masks[order])


def test_padding_tokens_are_not_seen(detector: Sam3Detector, inputs) -> None:
    with torch.no_grad():
        vision = detector.encode_images(inputs.pixel_values)
        text = detector.encode_text(inputs.input_ids, inputs.attention_mask)
        noise = torch.where(text.mask.unsqueeze(-1), text.states, torch.randn_like(text.states))
        plain = detector.detect(vision, text, inputs.image_index)
        noisy = detector.detect(vision, TextFeatures(noise, text.mask), inputs.image_index)
    assert_same(noisy.logits, plain.logits)
    assert_same(noisy.masks, plain.masks)


def test_one_to_many_only_in_training(detector: Sam3Detector, inputs) -> None:
    with torch.no_grad():
        inference = detector.eval()(*inputs)
        training = detector.train()(*inputs)
    assert inference.one_to_many is None
    second = training.one_to_many
    assert second.presence is None and second.semantic is None and second.one_to_many is None
    for name in ("logits", "boxes", "masks"):
        first = getattr(training, name)
        assert getattr(second, name).shape == first.shape
        assert (getattr(second, name) - first).abs().max() > 1e-4
        # The second half watches; it must not disturb the first.
        assert_same(first, getattr(inference, name))
    assert_same(training.presence, inference.presence)


def test_first_boxes_start_from_the_learned_reference_points(detector: Sam3Detector, inputs) -> None:
    head = detector.base.detr_decoder.box_head.layer3
    taught = {name: value.clone() for name, value in head.state_dict().items()}
    try:
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
            found = detector(*inputs)
    finally:
        head.load_state_dict(taught)
    expected = detector.base.detr_decoder.reference_points.weight.sigmoid()
    assert_same(found.boxes, expected.expand_as(found.boxes))


def test_boxes_look_forward_twice(own_demo: LoadedModel, inputs) -> None:
    """Layer l's boxes reach back to layer l - 1's refinement, and no further."""
    detector = Sam3Detector(own_demo.model).train()
    layers = detector.base.detr_decoder.layers
    offsets: list[Tensor] = []

    def remember(module, args, output):
        offsets.append(output if output.requires_grad else output.requires_grad_())

    hook = detector.base.detr_decoder.box_head.register_forward_hook(remember)
    try:
        found = detector(*inputs)
    finally:
        hook.remove()
    assert len(offsets) == len(layers)
    first, middle, last = torch.autograd.grad(found.boxes[-1].sum(), offsets, allow_unused=True, retain_graph=True)
    assert last.abs().max() > 0 and middle.abs().max() > 0
    assert first is None or first.abs().max() == 0


@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_gradient_checkpointing_changes_no_gradient(own_demo: LoadedModel, inputs, precision: str) -> None:
    from sam3_lora.config import AdapterConfig
    from sam3_lora.model import lora

    peft_model = lora.attach(own_demo.model, AdapterConfig(rank=4, dropout=0.1))
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    detector = Sam3Detector(own_demo.model).train()
    small = (inputs.pixel_values[:1], inputs.input_ids[:1], inputs.attention_mask[:1], inputs.image_index[:1])
    gradients, checkpointed = [], []
    for enabled in (False, True):
        detector.gradient_checkpointing(enabled)
        detector.zero_grad()
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            total = scalar(detector(*small))
        total.backward()
        gradients.append({n: p.grad.clone() for n, p in peft_model.named_parameters() if p.requires_grad})
        checkpointed.append(detector.base.vision_encoder.backbone.layers[0].gradient_checkpointing)
    assert checkpointed == [False, True]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_gradient_checkpointing_recomputes_every_layer_and_each_phrase_s_masks(own_demo: LoadedModel, inputs) -> None:
    own_demo.model.requires_grad_(True)
    detector = Sam3Detector(own_demo.model).train()
    base = detector.base
    recomputed = [layer.attention for layer in base.vision_encoder.backbone.layers]
    recomputed += [layer.cross_attn for layer in base.detr_encoder.layers]
    recomputed += [layer.vision_cross_attn for layer in base.detr_decoder.layers]
    calls = dict.fromkeys((*recomputed, base.mask_decoder.pixel_decoder), 0)

    def hook(module, *_) -> None:
        calls[module] += 1

    for module in calls:
        module.register_forward_hook(hook)
    detector.gradient_checkpointing(True)
    scalar(detector(*inputs)).backward()
    assert calls.pop(base.mask_decoder.pixel_decoder) == 2 * len(inputs.input_ids)
    assert set(calls.values()) == {2}


@pytest.mark.parametrize("with_boxes", [False, True])
def test_autocast_to_bf16_stays_close(detector: Sam3Detector, inputs, with_boxes: bool) -> None:
    boxes = some_boxes(len(inputs.input_ids)) if with_boxes else ()
    with torch.no_grad():
        exact = detect(detector, inputs, *boxes)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = detect(detector, inputs, *boxes)
    assert rough.logits.dtype == rough.boxes.dtype == rough.presence.dtype == torch.float32
    torch.testing.assert_close(rough.boxes, exact.boxes, rtol=0, atol=0.02)
    torch.testing.assert_close(rough.logits, exact.logits, rtol=0, atol=0.1)
    relative = (rough.masks.float() - exact.masks).abs().mean() / exact.masks.abs().mean()
    assert relative < 0.05


def test_a_model_in_bf16_runs(own_demo: LoadedModel, inputs) -> None:
    detector = Sam3Detector(own_demo.model.to(torch.bfloat16)).eval()
    with torch.no_grad():
        found = detect(detector, inputs, *some_boxes(len(inputs.input_ids)))
    assert found.masks.dtype == torch.bfloat16
    assert all(value.isfinite().all() for value in tensors(found).values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_training_on_a_gpu_in_bf16_with_checkpointing(own_demo: LoadedModel, inputs) -> None:
    from sam3_lora.config import AdapterConfig
    from sam3_lora.model import lora

    peft_model = lora.attach(own_demo.model, AdapterConfig(rank=4)).to("cuda")
    detector = Sam3Detector(own_demo.model).train()
    detector.gradient_checkpointing(True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        total = scalar(detector(*(tensor.to("cuda") for tensor in inputs)))
    total.backward()
    assert all(p.grad.isfinite().all() for p in peft_model.parameters() if p.requires_grad)


def test_a_phrase_without_boxes_is_the_same_beside_one_with_boxes(detector: Sam3Detector, inputs) -> None:
    pixels, ids, mask, index = inputs
    boxes, labels = some_boxes(len(ids))
    labels[1:] = PADDING_LABEL
    boxes[1:] = 0
    with torch.no_grad():
        mixed = tensors(detector(pixels, ids, mask, index, None, boxes, labels))
        without = tensors(detector(pixels, ids, mask, index))
    for name, value in without.items():
        axis = 1 if name in ("logits", "boxes", "presence") else 0
        ours, expected = (one.movedim(axis, 0) for one in (mixed[name], value))
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(ours[1:], expected[1:], rtol=0, atol=1e-6 * scale)
        assert (ours[0] - expected[0]).abs().max() > 1e-3
