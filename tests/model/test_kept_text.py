"""Features of phrases that are computed once and kept, and where the text encoder is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sam3_lora.config import AdapterConfig, Component
from sam3_lora.model import kept_text, lora
from sam3_lora.model.base import LoadedModel
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import convert_frozen
from tests.model.model_helpers import detect, scalar


@pytest.fixture
def encoded(own_demo: LoadedModel) -> Iterator[list[int]]:
    """How many phrases the text encoder got at each call."""
    calls: list[int] = []
    handle = own_demo.model.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    yield calls
    handle.remove()


def adapt(base: LoadedModel, component: Component) -> None:
    """Adds an adapter that already changes something."""
    torch.manual_seed(0)
    model = lora.attach(base.model, AdapterConfig(components=[component], dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


def computed(base: LoadedModel, inputs) -> Tensor:
    """The features as the model itself gives them."""
    with torch.no_grad():
        return base.model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output


def test_kept_features_are_those_that_the_model_computes(own_demo, inputs, encoded) -> None:
    detector = Sam3Detector(own_demo.model).train()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        text = detector.encode_text(inputs.input_ids, inputs.attention_mask)
    assert text.states.dtype == torch.float32
    assert encoded == [1] * 5
    torch.testing.assert_close(text.states, computed(own_demo, inputs), rtol=1e-5, atol=1e-5)
    assert torch.equal(text.mask, inputs.attention_mask.bool())
    assert own_demo.model.text_encoder.training, "the mode is as before"


def test_each_phrase_is_encoded_once_whatever_comes_with_it(own_demo, inputs, encoded) -> None:
    detector = Sam3Detector(own_demo.model).eval()
    first = detector.encode_text(inputs.input_ids[:3], inputs.attention_mask[:3])
    order = [4, 2, 2, 0]
    second = Sam3Detector(own_demo.model).encode_text(inputs.input_ids[order], inputs.attention_mask[order])
    assert encoded == [1] * 4  # the first three, and then only the fifth
    assert torch.equal(second.states[1:], first.states[[2, 2, 0]])
    kept_text.forget(own_demo.model)
    again = detector.encode_text(inputs.input_ids[order], inputs.attention_mask[order])
    assert torch.equal(again.states, second.states)


def test_what_inference_has_kept_can_be_trained_with(own_demo, inputs) -> None:
    adapt(own_demo, "detr_decoder")
    detector = Sam3Detector(own_demo.model)
    with torch.inference_mode():
        detector.eval()(*inputs)
    scalar(detector.train()(*inputs)).backward()
    gradients = [p.grad for n, p in own_demo.model.named_parameters() if "text_cross_attn" in n and p.requires_grad]
    assert gradients and all(gradient is not None for gradient in gradients)


def test_an_adapted_text_encoder_is_followed_and_gets_gradients(own_demo, inputs) -> None:
    adapt(own_demo, "text_encoder")
    detector = Sam3Detector(own_demo.model).eval()
    text = detector.encode_text(inputs.input_ids, inputs.attention_mask)
    assert torch.equal(text.states, computed(own_demo, inputs))
    text.states.square().mean().backward()
    trained = [p for n, p in own_demo.model.named_parameters() if "lora_B" in n]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    with torch.no_grad():
        trained[0].add_(0.1)
    after = detector.encode_text(inputs.input_ids, inputs.attention_mask).states
    assert not torch.equal(after, text.states)
    assert torch.equal(after, computed(own_demo, inputs))


def test_features_of_an_adapter_are_kept_by_the_name_of_its_weights(own_demo, inputs, encoded) -> None:
    adapt(own_demo, "text_encoder")
    detector = Sam3Detector(own_demo.model).eval()
    tokens = inputs.input_ids, inputs.attention_mask
    first = detector.encode_text(*tokens, state="full").states
    assert torch.equal(detector.encode_text(*tokens, state="full").states, first)
    assert len(encoded) == 5
    other = detector.encode_text(*tokens, state="half").states
    assert len(encoded) == 10
    torch.testing.assert_close(other, first, rtol=0, atol=0)  # the weights are the same here


def test_a_merged_text_encoder_is_another_one(own_demo, inputs) -> None:
    detector = Sam3Detector(own_demo.model).eval()
    before = detector.encode_text(inputs.input_ids, inputs.attention_mask).states
    torch.manual_seed(0)
    adapted = lora.attach(own_demo.model, AdapterConfig(components=["text_encoder"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    lora.merge(adapted)
    after = detector.encode_text(inputs.input_ids, inputs.attention_mask).states
    assert float((after - before).detach().abs().amax()) > 1e-3
    torch.testing.assert_close(after, computed(own_demo, inputs), rtol=1e-5, atol=1e-5)


def test_a_bounded_number_is_kept(own_demo, inputs, encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_text, "MAX_PHRASES", 2)
    detector = Sam3Detector(own_demo.model).eval()
    for rows in ([0, 1, 2], [1, 2], [0]):
        detector.encode_text(inputs.input_ids[rows], inputs.attention_mask[rows])
    assert len(encoded) == 4  # 1 and 2 were still there, 0 was the oldest
    assert len(kept_text._kept[own_demo.model]) == 2


@pytest.mark.parametrize("component", ["detr_decoder", "text_encoder"])
def test_only_an_adapted_text_encoder_moves_to_the_device(own_demo, component: Component) -> None:
    adapt(own_demo, component)
    own_demo.to("meta")
    model = own_demo.model
    staying = {n for n, p in model.named_parameters() if p.device.type == "cpu"}
    expected = {n for n, _ in model.named_parameters() if n.startswith(("text_encoder.", "text_projection."))}
    assert staying == (expected if component == "detr_decoder" else set())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert set(kept_text.tensors_of(nn.ModuleDict({"a": model}), model)) == {
        f"a.{name}" for name in tensors if name.startswith(("text_encoder.", "text_projection."))
    }


def test_a_frozen_text_encoder_stays_in_float32_and_an_adapted_one_does_not(own_demo, inputs) -> None:
    expected = Sam3Detector(own_demo.model).encode_text(inputs.input_ids, inputs.attention_mask)
    kept_text.forget(own_demo.model)
    convert_frozen(own_demo.model, "bf16")
    assert {parameter.dtype for parameter in own_demo.model.text_encoder.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        detector = Sam3Detector(own_demo.model).eval()
        found = detector.encode_text(inputs.input_ids, inputs.attention_mask)
        assert torch.isfinite(detect(detector, inputs).logits).all()
    assert torch.equal(found.states, expected.states)


def test_an_adapted_text_encoder_is_held_in_16_bits(own_demo, inputs) -> None:
    adapt(own_demo, "text_encoder")
    detector = Sam3Detector(own_demo.model).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        expected = detector.encode_text(inputs.input_ids, inputs.attention_mask, state=1)
        convert_frozen(own_demo.model, "bf16")
        found = detector.encode_text(inputs.input_ids, inputs.attention_mask, state=2)
    dtypes = {n: p.dtype for n, p in own_demo.model.named_parameters() if "text_encoder" in n and "_proj" in n}
    assert torch.bfloat16 in dtypes.values()
    assert torch.equal(found.states, expected.states)
