"""Objects on other images as prompts: what a reference gives, what it costs, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.errors import Sam3LoraError
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.references import MAX_BOXES, Reference
from sam3_lora.structures import VISUAL
from sam3_lora.tiles import Tiling

BOXES = np.array([[10.0, 12.0, 60.0, 50.0], [70.0, 20.0, 110.0, 80.0]])


def image(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def exemplars(*positive: bool, boxes: np.ndarray = BOXES) -> Exemplars:
    return Exemplars(boxes[: len(positive)], np.array(positive))


@pytest.fixture(scope="module")
def predictor(tiny_base) -> Predictor:
    return Predictor.load(str(tiny_base))


@pytest.mark.parametrize("phrases", [(), ("crack", "joint")])
@pytest.mark.parametrize("positive", [(True,), (True, False)])
def test_a_reference_to_the_image_itself_is_exemplar_boxes_on_it(predictor, phrases, positive) -> None:
    pixels, shown = image(1), exemplars(*positive)
    predictor.set_image(pixels)
    own = predictor.prompt(phrases, 0.0, exemplars=shown)
    referred = predictor.prompt(phrases, 0.0, exemplars=[Reference(pixels, shown)])
    plain = predictor.prompt(phrases or ("object",), 0.0)
    assert list(own) == list(referred) == list(phrases or (VISUAL,))
    for (name, one), without in zip(own.items(), plain.values(), strict=True):
        np.testing.assert_allclose(referred[name].scores, one.scores, atol=1e-6)
        np.testing.assert_allclose(referred[name].boxes_xyxy, one.boxes_xyxy, atol=1e-3)
        assert not np.allclose(np.sort(one.scores), np.sort(without.scores), atol=1e-6)


def test_what_is_referred_to_matters_and_a_reference_is_encoded_once(predictor, monkeypatch) -> None:
    encoded = []
    encode = predictor.detector.encode_images
    monkeypatch.setattr(
        predictor.detector, "encode_images", lambda *some, **named: encoded.append(1) or encode(*some, **named)
    )
    one, other = (Reference(image(seed), exemplars(True)) for seed in (11, 12))
    predictor.forget()
    scores = []
    for target in (image(13), image(14)):
        predictor.set_image(target)
        prompts = ([one], [other], [one, other])
        scores += [predictor.prompt(["crack"], 0.0, exemplars=shown)["crack"].scores.tobytes() for shown in prompts]
    assert len(encoded) == 4, "two references and two images"
    assert len(set(scores)) == 6


def test_references_are_asked_of_every_tile(predictor) -> None:
    predictor.set_image(image(3, (160, 160)))
    predictor.tiles = Tiling(96)
    try:
        found = predictor.prompt((), 0.0, exemplars=[Reference(image(4), exemplars(True))])
    finally:
        predictor.tiles = None
    assert list(found) == [VISUAL] and found[VISUAL].stored is not None


@pytest.mark.parametrize(
    "references",
    [
        [Reference(image(5), exemplars(False))],
        [Reference(image(5), exemplars(True, boxes=np.array([[5.0, 5.0, 5.0, 30.0]])))],
        [Reference(image(5), exemplars(True, boxes=np.array([[500.0, 500.0, 600.0, 600.0]])))],
        [Reference(image(5), exemplars(True, boxes=np.array([[np.nan, 5.0, 50.0, 30.0]])))],
        [Reference(image(5), Exemplars(np.tile(BOXES[:1], (MAX_BOXES + 1, 1)), np.ones(MAX_BOXES + 1, dtype=bool)))],
    ],
)
def test_references_that_show_nothing_get_one_sentence(predictor, references) -> None:
    predictor.set_image(image(6))
    with pytest.raises(Sam3LoraError) as raised:
        predictor.prompt((), exemplars=references)
    assert "\n" not in raised.value.message and raised.value.fix
