"""A merged folder is a plain model: stock transformers gives with it what the adapter gave here."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam3Model, Sam3Processor
from typer.testing import CliRunner

from sam3_lora.cli.app import app
from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.model.merge import merge_into_folder
from sam3_lora.predict.predictor import Predictor

SIZE_HW = (60, 90)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """One that changes every component and answers differently."""
    torch.manual_seed(0)
    model = lora.attach(
        load_base("demo").model,
        AdapterConfig(components=["vision_encoder", "text_encoder", "detr_encoder", "detr_decoder", "mask_decoder"]),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("adapters") / "best"
    lora.save(model, folder, "demo")
    return folder


def stock_answer(folder: Path, image: Image.Image, phrase: str):
    processor = Sam3Processor.from_pretrained(folder)
    model, info = Sam3Model.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = processor(
        images=image, text=phrase, input_boxes=[[[0, 0, 1, 1]]], input_boxes_labels=[[-10]], return_tensors="pt"
    )
    with torch.inference_mode():
        outputs = model.eval()(**inputs)
    return processor.post_process_instance_segmentation(outputs, threshold=0.0, target_sizes=[image.size[::-1]])[0]


def test_stock_transformers_detects_with_the_merged_folder_as_the_adapter_does(adapter: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE_HW, 3), dtype=np.uint8)
    called = CliRunner().invoke(app, ["merge", str(adapter), str(tmp_path / "merged"), "--json"])
    folder = Path(json.loads(called.stdout)["folder"])
    assert sorted(path.suffix for path in folder.iterdir() if "model" in path.name) == [".safetensors"]

    predictor = Predictor.load("demo", adapter, device="cpu")
    predictor.set_image(pixels)
    ours = predictor.prompt(["circle"], threshold=0.0)["circle"]
    stock = stock_answer(folder, Image.fromarray(pixels), "circle")
    order = stock["scores"].argsort(descending=True, stable=True).numpy()
    np.testing.assert_allclose(stock["scores"].numpy()[order], ours.scores, atol=1e-5)
    limits = np.array([SIZE_HW[1], SIZE_HW[0]] * 2)
    np.testing.assert_allclose(stock["boxes"].numpy()[order].clip(0, limits), ours.boxes_xyxy, atol=1e-2)
    differing = (stock["masks"].numpy()[order].astype(bool) != ours.masks).mean()
    assert differing < 1e-3

    predictor.strength = 0.0
    base = predictor.prompt(["circle"], threshold=0.0)["circle"]
    assert np.abs(base.scores - ours.scores).max() > 1e-3, "the adapter must matter for this test to mean anything"


def test_a_folder_that_is_taken_stays_as_it_is(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "mine.txt"):
        with pytest.raises(ModelError, match="is not empty"):
            merge_into_folder("demo", adapter, out)
    assert (tmp_path / "taken" / "mine.txt").read_text() == "mine"
    with pytest.raises(ModelError, match="another base model|no layer|incomplete"):
        merge_into_folder(str(tiny(tmp_path)), adapter, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def tiny(folder: Path) -> Path:
    """The demo's processor with a model of another width."""
    from transformers import Sam3Config

    from sam3_lora.config import ASSETS

    values = json.loads((ASSETS / "demo" / "model" / "config.json").read_text())
    values["vision_config"]["backbone_config"] |= {"hidden_size": 32, "intermediate_size": 32}
    Sam3Model(Sam3Config(**values)).save_pretrained(folder / "tiny")
    Sam3Processor.from_pretrained(ASSETS / "demo" / "model").save_pretrained(folder / "tiny")
    return folder / "tiny"


def test_converted_weights_are_not_merged(adapter):
    """They are rounded to 16 bits, and so would the merged model be."""
    predictor = Predictor.load("demo", adapter, device="cpu", precision="bf16")
    with pytest.raises(AssertionError, match="merged with their rounding"):
        lora.merge(predictor._peft_model)
