"""Predictor: one image, many prompts; what comes back fits the image; the adapter is switched, not loaded twice."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam3_lora.config import RunConfig
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.predict import Predictor

SIZE_HW = (60, 90)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (*SIZE_HW, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes the demo model's answers."""
    torch.manual_seed(0)
    model = lora.attach(load_base("demo").model, RunConfig().lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    lora.save(model, folder, "demo")
    return folder


@pytest.fixture(scope="module")
def predictor(adapter):
    return Predictor.load("demo", adapter, device="cpu")


def test_results_fit_the_image(predictor, image):
    predictor.set_image(image)
    results = predictor.prompt(["pothole", " crack ", "", "pothole"], threshold=0.0)
    assert list(results) == ["pothole", "crack"]
    for result in results.values():
        assert result.masks.shape == (len(result), *SIZE_HW) and result.masks.dtype == bool
        assert (np.diff(result.scores) <= 0).all()
        assert (result.boxes_xyxy >= 0).all()
        assert (result.boxes_xyxy <= np.array([SIZE_HW[1], SIZE_HW[0]] * 2)).all()


def test_a_threshold_afterwards_equals_one_from_the_start(predictor, image):
    predictor.set_image(image)
    every = predictor.prompt(["crack"], threshold=0.0)["crack"]
    middle = float(np.median(every.scores))
    direct = predictor.prompt(["crack"], threshold=middle)["crack"]
    np.testing.assert_array_equal(every.above(middle).scores, direct.scores)
    np.testing.assert_array_equal(every.above(middle).masks, direct.masks)
    assert len(predictor.prompt(["crack"], threshold=0.0, limit=3)["crack"]) == 3


def test_a_phrase_is_answered_alike_alone_and_among_others(predictor, image):
    predictor.set_image(image)
    alone = predictor.prompt(["crack"], threshold=0.0)["crack"]
    among = predictor.prompt(["joint", "crack", "a very long phrase " * 20], threshold=0.0)["crack"]
    np.testing.assert_allclose(alone.scores, among.scores, atol=1e-5)


def test_the_adapter_is_switched_over_the_same_weights(predictor, adapter, image):
    base = Predictor.load("demo", device="cpu")
    base.set_image(image)
    predictor.set_image(image)
    with_adapter = predictor.prompt(["crack"], threshold=0.0)["crack"].scores
    predictor.adapter_enabled = False
    without = predictor.prompt(["crack"], threshold=0.0)["crack"].scores
    predictor.adapter_enabled = True
    np.testing.assert_allclose(without, base.prompt(["crack"], threshold=0.0)["crack"].scores, atol=1e-6)
    assert np.abs(with_adapter - without).max() > 1e-3
    np.testing.assert_array_equal(predictor.prompt(["crack"], threshold=0.0)["crack"].scores, with_adapter)
    with pytest.raises(Sam3LoraError, match="adapter"):
        base.adapter_enabled = True


def test_the_image_is_encoded_once_for_many_prompts(predictor, image, monkeypatch):
    encoded = []
    original = predictor.detector.encode_images
    monkeypatch.setattr(predictor.detector, "encode_images", lambda pixels: encoded.append(1) or original(pixels))
    predictor.set_image(image)
    for phrase in ("crack", "joint", "pothole"):
        predictor.prompt([phrase])
    assert len(encoded) == 1


def test_images_come_as_array_picture_or_path(predictor, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "image.png")
    scores = []
    for source in (image, Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")):
        predictor.set_image(source)
        scores.append(predictor.prompt(["crack"], threshold=0.0)["crack"].scores)
    for other in scores[1:]:
        np.testing.assert_array_equal(scores[0], other)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3)), "nowhere.png", __file__])
def test_what_is_no_image_is_refused(predictor, wrong):
    with pytest.raises(DataError):
        predictor.set_image(wrong)


def test_prompts_need_an_image_and_a_phrase(image):
    fresh = Predictor.load("demo", device="cpu")
    with pytest.raises(Sam3LoraError, match="image"):
        fresh.prompt(["crack"])
    fresh.set_image(image)
    with pytest.raises(Sam3LoraError, match="phrase"):
        fresh.prompt([" "])
