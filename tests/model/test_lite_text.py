"""SAM3-LiteText: SAM 3 with a smaller text encoder is loaded, adapted, saved and merged as SAM 3 is."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base, load_config
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.merge import merge_into_folder
from sam3_lora.predict.predictor import Predictor
from tests.model.conftest import DEMO_FOLDER
from tests.model.model_helpers import scalar, tensors


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's sizes, with random weights."""
    from transformers import Sam3LiteTextConfig, Sam3LiteTextModel

    folder = tmp_path_factory.mktemp("lite") / "model"
    shutil.copytree(DEMO_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    values = json.loads((DEMO_FOLDER / "config.json").read_text())
    parts = {name: part for name, part in values.items() if name.endswith("_config") and name != "text_config"}
    for name, part in parts.items():
        if name != "vision_config":
            part["model_type"] = part["model_type"].replace("sam3_", "sam3_lite_text_")
    text = {
        "vocab_size": 978,
        "hidden_size": 64,
        "intermediate_size": 128,
        "projection_dim": 32,
        "num_hidden_layers": 4,
    }
    config = Sam3LiteTextConfig(**parts, text_config=text | {"num_attention_heads": 4, "max_position_embeddings": 32})
    torch.manual_seed(0)
    Sam3LiteTextModel(config).save_pretrained(folder)
    return folder


def test_it_is_loaded_with_all_of_its_weights(lite: Path) -> None:
    loaded = load_base(lite)
    assert type(loaded.model).__name__ == "Sam3LiteTextModel"
    assert load_config(lite).model_type == "sam3_lite_text"
    assert load_config(lite, image_size=84).image_size == load_base(lite, image_size=84).image_size == 84


def test_the_detector_gives_what_the_model_gives(lite: Path, inputs) -> None:
    """The last layer, as the model's own forward with a padded box."""
    model = load_base(lite).model
    padded = {
        "input_boxes": torch.zeros(5, 1, 4),
        "input_boxes_labels": torch.full((5, 1), -10),
    }
    with torch.inference_mode():
        ours = Sam3Detector(model).eval()(*inputs)
        stock = model(
            pixel_values=inputs.pixel_values[inputs.image_index],
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            **padded,
        )
    torch.testing.assert_close(ours.logits[-1], stock.pred_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.masks, stock.pred_masks, rtol=0, atol=1e-3)


def test_an_adapter_is_trained_saved_loaded_and_merged(lite: Path, inputs, tmp_path: Path) -> None:
    config = AdapterConfig(components=["vision_encoder", "text_encoder", "detr_decoder", "scoring"], rank=2)
    base = load_base(lite)
    adapted = lora.attach(base.model, config)
    assert lora.count(load_config(lite), config).parameters == sum(
        parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad
    )
    detector = Sam3Detector(base.model).train()
    scalar(detector(*inputs)).backward()
    second = [parameter for name, parameter in adapted.named_parameters() if "lora_B" in name]
    assert all(parameter.grad is not None for parameter in second)
    with torch.no_grad():
        for parameter in second:
            parameter.normal_(std=0.05)
        expected = tensors(detector.eval()(*inputs))
    lora.save(adapted, tmp_path / "adapter", str(lite))
    again = load_base(lite)
    lora.load(again.model, tmp_path / "adapter")
    merged = load_base(merge_into_folder(str(lite), tmp_path / "adapter", tmp_path / "merged"))
    for model in (again.model, merged.model):
        with torch.inference_mode():
            found = tensors(Sam3Detector(model).eval()(*inputs))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)
    Predictor.load(str(lite), tmp_path / "adapter", device="cpu")
    with pytest.raises(ModelError, match="that Meta's SAM 3 does not have"):
        merge_into_folder(str(lite), tmp_path / "adapter", tmp_path / "meta", layout="meta")
    assert not (tmp_path / "meta").exists()
