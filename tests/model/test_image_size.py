"""Another image size than the base's own: it fits, model and processor agree on it, and adapters keep it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam3Config, Sam3Model

from sam3_lora.config import AdapterConfig, ModelConfig
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.base import LoadedModel, load_base, load_config, load_processor
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.image_size import image_size_step, with_image_size
from sam3_lora.model.merge import merge_into_folder
from sam3_lora.predict.predictor import Predictor
from tests.model.model_helpers import tensors

SMALL = AdapterConfig(components=["scoring"], rank=2)


def test_the_sizes_that_fit_are_what_the_windows_cover() -> None:
    assert image_size_step(Sam3Config()) == 336
    assert image_size_step(load_config("demo")) == 84


@pytest.mark.parametrize(
    ("size", "fix"),
    [
        (500, "336 or 672"),
        (100, "Choose 336"),
        (1007, "672 or 1008"),
        (1009, "1008 or 1344"),
        (0, "Choose 336"),
        (-5, "Choose 336,"),
    ],
)
def test_a_size_that_does_not_fit_names_the_nearest_that_do(size: int, fix: str) -> None:
    with pytest.raises(ModelError, match=f"multiple of 336 .* got {size}") as raised:
        with_image_size(Sam3Config(), size)
    assert fix in raised.value.fix


def test_the_architecture_follows() -> None:
    config = with_image_size(Sam3Config(), 672)
    assert config.image_size == config.vision_config.backbone_config.image_size == 672
    assert config.vision_config.backbone_feature_sizes == [[192, 192], [96, 96], [48, 48]]
    assert load_config("demo", image_size=84).image_size == 84
    with pytest.raises(ModelError, match="multiple of 84"):
        load_base("demo", image_size=90)


@pytest.mark.parametrize("size", [84, 252, 336])
def test_model_and_processor_agree_on_the_size(size: int) -> None:
    loaded = load_base("demo", image_size=size)
    assert loaded.image_size == size
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    inputs = loaded.processor(images=image, text=["circle"], return_tensors="pt")
    assert inputs.pixel_values.shape == (1, 3, size, size)
    assert loaded.processor.image_processor.mask_size["height"] == size // 14 * 4
    detector = Sam3Detector(loaded.model).eval()
    with torch.inference_mode():
        found = detector(inputs.pixel_values, inputs.input_ids, inputs.attention_mask, torch.tensor([0]))
    assert found.masks is not None
    assert found.masks.shape[-2:] == (size // 14 * 4,) * 2
    assert load_processor("demo", image_size=size).image_processor.size["height"] == size


def test_rotary_embeddings_span_what_they_spanned_in_training(demo: LoadedModel) -> None:
    """Layers with global attention: positions from 0 to the window's side, however many patches there are."""
    larger = load_base("demo", image_size=336).model
    for layer, before in zip(
        larger.vision_encoder.backbone.layers, demo.model.vision_encoder.backbone.layers, strict=True
    ):
        if layer.window_size:
            assert torch.equal(layer.position_ids, before.position_ids)
        else:
            assert layer.position_ids.shape[0] == 4 * before.position_ids.shape[0]
            assert layer.position_ids.amax() == pytest.approx(6 * (1 - 1 / 24))
    reference = Sam3Model(with_image_size(load_config("demo"), 336))
    for layer, built in zip(
        larger.vision_encoder.backbone.layers, reference.vision_encoder.backbone.layers, strict=True
    ):
        assert torch.equal(layer.position_ids, built.position_ids)


def adapter_for(size: int, folder: Path) -> Path:
    model = lora.attach(load_base("demo", image_size=size).model, SMALL)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    lora.save(model, folder, "demo")
    return folder


def test_an_adapter_is_used_at_the_size_it_was_trained_with(tmp_path: Path) -> None:
    adapter = adapter_for(84, tmp_path / "adapter")
    assert adapter_base.read(adapter) == AdapterBase(84, "")
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)

    def scores(**loading: int) -> np.ndarray:
        predictor = Predictor.load("demo", adapter, "cpu", **loading)
        predictor.set_image(image)
        return predictor.prompt(["circle"], threshold=0.0)["circle"].scores

    assert np.array_equal(scores(), scores(image_size=84))
    assert not np.array_equal(scores(), scores(image_size=168)), "the size must matter for this test to mean anything"


def test_a_merged_model_keeps_the_size(tmp_path: Path) -> None:
    adapter = adapter_for(84, tmp_path / "adapter")
    assert load_base(merge_into_folder("demo", adapter, tmp_path / "merged")).image_size == 84
    larger = merge_into_folder("demo", adapter, tmp_path / "larger", image_size=252)
    assert load_base(larger).image_size == 252


@pytest.mark.parametrize("text", ["", "[]", "{", '{"image_size": "84"}', '{"image_size": -3, "processor": 7}'])
def test_without_the_file_the_bases_own_size_holds_and_a_damaged_one_is_an_error(tmp_path: Path, text: str) -> None:
    assert adapter_base.read(tmp_path) == AdapterBase()
    (tmp_path / adapter_base.FILE).write_text(text)
    with pytest.raises(ModelError, match=r"base_model\.json.* cannot be read"):
        adapter_base.read(tmp_path)


def test_settings_reach_the_model(model_folder: Path) -> None:
    """The processor of the demo for a folder without one, and another size."""
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (model_folder / name).unlink()
    settings = ModelConfig(base=str(model_folder), processor="demo", image_size=84)
    loaded = load_base(**settings.loading)
    assert loaded.image_size == loaded.processor.image_processor.size["height"] == 84
    assert len(loaded.processor.tokenizer) == 978
    with pytest.raises(ModelError, match="Expected processor_config.json"):
        load_base(model_folder)


def test_the_same_detections_as_before_at_the_bases_own_size(demo: LoadedModel, inputs) -> None:
    asked = load_base("demo", image_size=168)
    with torch.inference_mode():
        before, now = (tensors(Sam3Detector(one.model).eval()(*inputs)) for one in (demo, asked))
    assert before.keys() == now.keys()
    for name, value in before.items():
        assert torch.equal(now[name], value), name
