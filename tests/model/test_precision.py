"""The numeric precision of forward passes."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from sam3_lora.config import AdapterConfig, Component, Precision
from sam3_lora.errors import ConfigError
from sam3_lora.model import lora
from sam3_lora.model.base import LoadedModel, load_base
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import autocast, convert_frozen, resolve_precision
from tests.model.model_helpers import scalar

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_only_on_a_gpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", GPU) == ("bf16" if native else "fp32")
    assert resolve_precision("auto", CPU) == resolve_precision("auto", torch.device("mps")) == "fp32"


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert [resolve_precision(name, GPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("name", "device"), [("fp16", CPU), ("fp8", GPU)])
def test_a_precision_that_cannot_be_had_is_told(name: str, device: torch.device) -> None:
    with pytest.raises(ConfigError, match=name):
        resolve_precision(name, device)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrices_are_multiplied_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):  # type: ignore[arg-type]
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def gradients(base: LoadedModel, inputs, precision: Precision) -> tuple[float, dict[str, Tensor]]:
    """A number that depends on every output in training, and its gradients by parameter."""
    torch.manual_seed(2)  # dropout
    with autocast(CPU, precision):
        value = scalar(Sam3Detector(base.model).train()(*inputs))
    value.backward()
    return value.item(), {n: p.grad for n, p in base.model.named_parameters() if p.grad is not None}


def adapted(**settings: object) -> LoadedModel:
    """The demo with an adapter of everything, away from its first weights, at which half of the gradients are zero."""
    base = load_base("demo")
    torch.manual_seed(0)
    lora.attach(base.model, AdapterConfig(components=list(get_args(Component)), rank=4, **settings))
    for name, parameter in base.model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.02)
    return base


@pytest.mark.parametrize(("precision", "dora"), [("bf16", False), ("bf16", True), ("fp16", False)])
def test_frozen_weights_in_16_bits_change_no_gradient(inputs, precision: Precision, dora: bool) -> None:
    small = (inputs.pixel_values[:1], inputs.input_ids[:1], inputs.attention_mask[:1], inputs.image_index[:1])
    base, converted = adapted(dora=dora, dropout=0.0), adapted(dora=dora, dropout=0.0)
    convert_frozen(converted.model, precision)
    expected, expected_gradients = gradients(base, small, precision)
    value, found = gradients(converted, small, precision)
    assert value == expected
    assert found.keys() == expected_gradients.keys()
    different = [name for name, gradient in found.items() if not torch.equal(gradient, expected_gradients[name])]
    assert not different
    assert any(gradient.any() for gradient in found.values())


def test_what_is_held_in_16_bits(own_demo: LoadedModel) -> None:
    model = own_demo.model
    lora.attach(model, AdapterConfig(components=["detr_decoder", "geometry_encoder"]))
    convert_frozen(model, "bf16")
    held = {name: parameter for name, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16}
    assert "detr_decoder.layers.0.self_attn.q_proj.base_layer.weight" in held
    assert not any(parameter.requires_grad for parameter in held.values())
    in_float32 = ("geometry_encoder.", "text_encoder.", "text_projection.")
    assert not any(name.startswith(in_float32) for name in held)
    assert not any(part in name for name in held for part in ("lora_", "norm", "query_embed", "presence_token"))
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() > 1} - held.keys()
    left = {name for name in matrices if not name.startswith(in_float32) and not re.search("lora_|embed|token", name)}
    assert left == {"detr_decoder.reference_points.weight"}


def test_fp32_converts_nothing(own_demo: LoadedModel) -> None:
    convert_frozen(own_demo.model, "fp32")
    assert {parameter.dtype for parameter in own_demo.model.parameters()} == {torch.float32}
