"""An evaluation with a real model: one vision pass per image and model, each phrase once, the loss of whole batches."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from PIL import Image

from sam3_lora.config import LossConfig, Negatives, RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.samples import SampleDataset
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.validation_loss import BATCH_SIZE, NEGATIVES, mean_loss, validation_loader
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.vision_cache import VisionCache
from tests.factories import write_dataset

IMAGES = 3  # the last one is alone in its batch


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    """Other tests of this process may have kept the features of the same images."""
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory):
    folder = write_dataset(tmp_path_factory.mktemp("data"), ("valid",), images=IMAGES, objects=2, empty_images=1)
    split = open_dataset(folder).split("valid")
    split.images[1].path.write_bytes(b"no image")  # so that the images after it move up
    with Image.open(split.images[2].path) as picture:  # annotations still refer to its old size
        picture.resize((2 * picture.width, 2 * picture.height)).save(split.images[2].path)
    return split


def with_adapter(base: str, components: list[str]) -> Predictor:
    """A predictor whose adapter changes these components."""
    loaded = load_base(base)
    model = lora.attach(loaded.model, RunConfig().with_settings({"lora.components": components}).lora)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return Predictor(loaded, model)


def requested(split) -> EvaluationRequest:
    return EvaluationRequest(split, dataset="made up", base_name="demo")


@pytest.mark.parametrize(
    ("components", "passes"), [(["vision_encoder", "detr_decoder"], 2), (["detr_decoder", "mask_decoder"], 1)]
)
def test_each_image_is_encoded_once_per_model_and_once_where_vision_is_shared(split, tiny_base, components, passes):
    predictor = with_adapter(str(tiny_base), components)
    calls: Counter[str] = Counter()
    base = predictor.detector.base
    for name in ("vision_encoder", "geometry_encoder", "text_encoder"):
        getattr(base, name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    evaluate(predictor, requested(split))
    assert calls["vision_encoder"] == IMAGES * passes
    assert calls["geometry_encoder"] == IMAGES * passes, "its prompt without boxes depends on vision and itself only"


def test_what_training_has_kept_of_images_is_not_encoded_again(split, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM3_LORA_CACHE", str(tmp_path))
    predictor = with_adapter(str(tiny_base), ["detr_decoder"])
    before = evaluate(predictor, requested(split))
    cache = VisionCache(predictor.detector, predictor.precision, predictor.processor, limit_gb=1)
    samples = SampleDataset(split.images, predictor.processor, split.prompt_categories, Negatives(1), seed=0)
    cache.attach(samples)
    readable = [(0, number) for number, image in enumerate(split.images) if image.path != split.images[1].path]
    assert list(cache.fill([samples], readable))[-1].plan.missing == IMAGES
    predictor.forget()
    passes: list[int] = []
    hooks = predictor.detector.base.vision_encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    after = evaluate(predictor, requested(split))
    hooks.remove()
    assert not passes
    assert after.base.metrics == pytest.approx(before.base.metrics, rel=1e-5, nan_ok=True)
    assert after.adapter.metrics == pytest.approx(before.adapter.metrics, rel=1e-5, nan_ok=True)
    # An adapter that changes vision reads nothing, nor does another precision.
    for other in (with_adapter(str(tiny_base), ["vision_encoder", "detr_decoder"]), predictor):
        other.precision = "bf16"
        other.forget()
        other.detector.base.vision_encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
        passes.clear()
        evaluate(other, requested(split))
        assert passes


def test_each_phrase_goes_through_the_heads_once_and_masks_are_made_where_they_are_needed(split, tiny_base):
    predictor = Predictor(load_base(str(tiny_base)))
    base, asked, masked, prompts = predictor.detector.base, [], [], []
    detect = predictor.detector.detect
    predictor.detector.detect = lambda vision, text, *args, **kwargs: (
        asked.append(len(text.states)) or detect(vision, text, *args, **kwargs)
    )
    base.mask_decoder.pixel_decoder.register_forward_hook(lambda *_: masked.append(1))
    prompt_in_chunks = predictor.prompt_in_chunks
    predictor.prompt_in_chunks = lambda phrases, thresholds: (
        prompts.append(thresholds) or prompt_in_chunks(phrases, thresholds)
    )
    evaluate(predictor, requested(split))
    assert len(prompts) == IMAGES
    assert sum(asked) == sum(len(one) for one in prompts), "no phrase twice"
    measured = sum(threshold == 0 for one in prompts for threshold in one.values())
    with_objects = sum(
        len({item.category for item in image.annotations}) for number, image in enumerate(split.images) if number != 1
    )
    # The model is untrained: no extra phrase scores above 0.5. The loss compares masks of phrases with objects.
    assert sum(masked) == measured + with_objects
    assert sum(asked) > sum(masked)


def test_the_loss_is_that_of_batches_that_run_by_themselves(split, tiny_base):
    predictor = with_adapter(str(tiny_base), ["vision_encoder", "mask_decoder"])
    report = evaluate(predictor, requested(split))
    present = split.present()
    readable = present.images.take([number for number in range(len(present.images)) if number != 1])
    loader = validation_loader(readable, predictor.processor, split.prompt_categories, NEGATIVES, BATCH_SIZE)
    loss = Sam3LossWrapper.from_config(LossConfig()).eval()
    for strength, metrics in ((0.0, report.base.metrics), (1.0, report.adapter.metrics)):
        predictor.strength = strength
        expected = mean_loss(loader, lambda batch: loss(predictor.detector(*batch.inputs), batch.targets)).total
        assert metrics["validation_loss"] == pytest.approx(expected, rel=1e-5)
