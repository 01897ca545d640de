"""Adapters that PEFT alone has written: strength 0 is exactly the base and nothing jumps, or they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import LoadedModel, load_base
from sam3_lora.model.detector import Sam3Detector

LINEARS = r"detr_decoder\.layers\.\d\.(self|text_cross)_attn\.[qv]_proj|mask_decoder\.mask_embedder\.layers\.0"
SCALABLE: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
    "bias of the update": {"lora_bias": True},
    "ranks by pattern": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "orthogonal start": {"init_lora_weights": "orthogonal"},
    "some of the layers": {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "all biases": {"bias": "all"},
    "biases of its layers": {"bias": "lora_only"},
    "whole modules": {"modules_to_save": ["dot_product_scoring"]},
    "an embedding": {"target_modules": ["label_embed", "q_proj"]},
    "a convolution": {"target_modules": ["boxes_direct_project", "mask_decoder.instance_projection"]},
    "parameters": {"target_parameters": ["detr_decoder.query_embed.weight"]},
    "tokens": {"trainable_token_indices": {"token_embedding": [1, 2]}},
    "an initialization that changes the base": {"init_lora_weights": "pissa"},
}


def written(folder: Path, **settings: Any) -> Path:
    """An adapter that stock PEFT saves after a training that moved all that it trains."""
    torch.manual_seed(0)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LINEARS} | settings)
    model = peft.get_peft_model(load_base("demo").model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.2).add_(0.1 * torch.randn_like(parameter))
    model.peft_config["default"].base_model_name_or_path = "demo"
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def logits(base: LoadedModel, inputs) -> torch.Tensor:
    with torch.no_grad():
        return Sam3Detector(base.model).eval()(*inputs).logits


@pytest.mark.parametrize("kind", SCALABLE)
def test_strength_leads_from_the_base_to_the_adapter_without_a_jump(kind: str, tmp_path: Path, inputs) -> None:
    base = load_base("demo")
    untouched = logits(base, inputs)
    model = lora.load(base.model, written(tmp_path / "adapter", **SCALABLE[kind]))
    trained = logits(base, inputs)
    whole = (trained - untouched).abs().max()
    assert whole > 0.05
    for strength in (0.01, 0.99, 1.01):
        lora.set_strength(model, strength)
        end = untouched if strength < 0.5 else trained
        assert (logits(base, inputs) - end).abs().max() < 0.1 * whole, strength
    lora.set_strength(model, 0.5)
    assert not torch.equal(logits(base, inputs), trained)
    for strength, expected in ((0.0, untouched), (1.0, trained), (0.0, untouched)):
        lora.set_strength(model, strength)
        assert torch.equal(logits(base, inputs), expected)


@pytest.mark.parametrize("kind", SCALABLE)
def test_merged_it_detects_as_the_adapter(kind: str, tmp_path: Path, inputs) -> None:
    base = load_base("demo")
    model = lora.load(base.model, written(tmp_path / "adapter", **SCALABLE[kind]))
    trained = logits(base, inputs)
    merged = lora.merge(model)
    with torch.no_grad():
        torch.testing.assert_close(Sam3Detector(merged).eval()(*inputs).logits, trained, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_exact_base_is_refused_with_the_setting_and_a_way_out(
    kind: str, tmp_path: Path, demo: LoadedModel
) -> None:
    folder = written(tmp_path / "adapter", **REFUSED[kind])
    with pytest.raises(ModelError) as refused:
        lora.load(demo.model, folder)
    said = str(refused.value)
    setting = next(iter(REFUSED[kind]))
    assert "base model" in said and "PEFT's" in said and "\n" not in said
    assert setting in said or setting == "target_modules" or "pissa" in said
    assert not lora.adapted_components(demo.model)


def test_biases_in_the_weights_are_refused_whatever_the_settings_say(tmp_path: Path, demo: LoadedModel) -> None:
    from safetensors.torch import load_file, save_file

    file = written(tmp_path / "adapter") / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("lora_A.weight"))
    bias = name.replace("lora_A.weight", "base_layer.bias")
    save_file(weights | {bias: torch.ones(weights[name].shape[1])}, file)
    with pytest.raises(ModelError, match="base_layer.bias"):
        lora.load(demo.model, file.parent)


def test_weights_under_other_names_are_told(tmp_path: Path, demo: LoadedModel) -> None:
    from safetensors.torch import load_file, save_file

    file = written(tmp_path / "adapter") / "adapter_model.safetensors"
    save_file({name.removeprefix("base_model.model."): tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match="names that PEFT gives"):
        lora.load(demo.model, file.parent)


def test_an_update_with_a_bias_is_not_merged_into_a_layer_without_one(tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", lora_bias=True, target_modules=["text_projection"])
    with pytest.raises(ModelError, match="text_projection"):
        lora.merge(lora.load(load_base("demo").model, folder))


def test_dora_weights_with_settings_of_plain_lora_are_refused(tmp_path: Path, demo: LoadedModel) -> None:
    file = written(tmp_path / "adapter", use_dora=True) / "adapter_config.json"
    file.write_text(file.read_text().replace('"use_dora": true', '"use_dora": false'))
    with pytest.raises(ModelError, match="lora_magnitude_vector"):
        lora.load(demo.model, file.parent)
