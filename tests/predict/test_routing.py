"""Routing by phrase: which model answers a phrase, that its answer is that model's own, and what is computed for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3_lora.config import AdapterConfig
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.folder import predict_images
from sam3_lora.predict.postprocess import ADAPTER, BASE, PostprocessConfig
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.routing import Routing
from sam3_lora.structures import VISUAL
from tests.factories import write_dataset

TAUGHT, OTHERS = ("crack", "paint marking"), ("walrus", "car")
ROUTING = Routing(TAUGHT)


def with_adapter(base: str, component: str) -> Predictor:
    loaded = load_base(base)
    model = lora.attach(loaded.model, AdapterConfig(rank=4, components=[component]))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return Predictor(loaded, model)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "phrase", ["crack", "Cracks", " crack", "road crack", "paint marking", "Paint-Markings", "paint"]
)
def test_a_taught_phrase_its_plural_and_a_close_wording_are_the_adapters(phrase: str) -> None:
    assert ROUTING.is_taught(phrase)


@pytest.mark.parametrize("phrase", ["walrus", "crab", "cracker", "painting", VISUAL])
def test_every_other_phrase_is_the_bases(phrase: str) -> None:
    assert not ROUTING.is_taught(phrase)


def test_taught_phrases_are_normalized_and_blank_ones_match_nothing() -> None:
    routing = Routing(("Crack", " crack ", "", "  ", "_", "T-Shirt"))
    assert routing.taught == ("crack", "t-shirt")
    assert routing.is_taught("t shirts") and not routing.is_taught("walrus")
    assert not Routing(()).is_taught("crack")


@pytest.mark.parametrize("component", ["detr_decoder", "vision_encoder", "text_encoder", "mask_decoder"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_each_answer_is_that_models_own_to_the_bit(component: str, strength: float, tiny_base: Path, image) -> None:
    predictor = with_adapter(str(tiny_base), component)
    predictor.strength = strength
    predictor.set_image(image)
    asked = (TAUGHT[0], OTHERS[0], TAUGHT[1], OTHERS[1])
    routed = predictor.prompt(asked, threshold=0.0, routing=ROUTING)
    assert predictor.strength == strength
    assert tuple(routed) == asked, "in the order given"
    alone = predictor.prompt(TAUGHT, threshold=0.0)
    other_alone = predictor.prompt(OTHERS, threshold=0.0)
    predictor.strength = 0.0
    of_base = predictor.prompt(OTHERS, threshold=0.0)
    for phrase, expected in (alone | of_base).items():
        for what in ("scores", "boxes_xyxy", "mask_logits"):
            np.testing.assert_array_equal(getattr(routed[phrase], what), getattr(expected, what))
        assert routed[phrase].answered_by == expected.answered_by == (ADAPTER if phrase in TAUGHT else BASE)
    for phrase, unrouted in other_alone.items():
        assert not np.array_equal(unrouted.mask_logits, of_base[phrase].mask_logits), "the adapter answers differently"


@pytest.mark.parametrize(("component", "passes"), [("detr_decoder", 1), ("vision_encoder", 2)])
def test_vision_runs_once_where_the_adapter_leaves_it_alone(
    component: str, passes: int, tiny_base: Path, image
) -> None:
    predictor, calls = with_adapter(str(tiny_base), component), []
    predictor.detector.base.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    predictor.set_image(image)
    predictor.prompt((*TAUGHT, *OTHERS), routing=ROUTING)
    assert len(calls) == passes


def test_each_phrase_runs_once_and_the_mask_head_is_of_the_model_that_answers(tiny_base: Path, image) -> None:
    predictor = with_adapter(str(tiny_base), "mask_decoder")
    predictor.set_image(image)
    strengths = {}
    for chunk in predictor.prompt_in_chunks((*TAUGHT, *OTHERS), routing=ROUTING):
        assert not strengths.keys() & chunk.results.keys()
        strengths |= dict.fromkeys(chunk.results, predictor.strength)
    assert strengths == dict.fromkeys(OTHERS, 0.0) | dict.fromkeys(TAUGHT, 1.0)


def test_boxes_alone_are_the_adapters_and_with_a_phrase_the_phrase_decides(tiny_base: Path, image) -> None:
    predictor = with_adapter(str(tiny_base), "detr_decoder")
    predictor.set_image(image)
    boxes = Exemplars(np.array([[10.0, 5.0, 60.0, 40.0]]), np.array([True]))
    alone = predictor.prompt([], 0.0, exemplars=boxes, routing=ROUTING)
    assert {phrase: one.answered_by for phrase, one in alone.items()} == {VISUAL: ADAPTER}
    both = predictor.prompt(["crack", "walrus"], 0.0, exemplars=boxes, routing=ROUTING)
    assert {phrase: one.answered_by for phrase, one in both.items()} == {"crack": ADAPTER, "walrus": BASE}


def test_without_an_adapter_or_at_strength_0_the_base_answers_all(tiny_base: Path, image) -> None:
    alone, at_zero = Predictor(load_base(str(tiny_base))), with_adapter(str(tiny_base), "detr_decoder")
    at_zero.strength = 0.0
    for predictor in (alone, at_zero):
        predictor.set_image(image)
        for result in predictor.prompt(("crack", "walrus"), 0.0, routing=ROUTING).values():
            assert result.answered_by == BASE


def test_a_folder_is_routed_and_says_who_answered(tiny_base: Path, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, ("valid",), images=1, objects=1, empty_images=0) / "valid"
    predictor = with_adapter(str(tiny_base), "detr_decoder")
    paths, config = [next(folder.rglob("*.[jp]*g"))], PostprocessConfig(threshold=0.0, use_presence=False)
    (one,) = predict_images(predictor, paths, folder, ("crack", "walrus"), config, strength=1.0, routing=ROUTING)
    answered = {found.phrase: found.answered_by for found in one.found.objects}
    assert answered == {"crack": ADAPTER, "walrus": BASE}
