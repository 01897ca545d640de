"""A concept is learned without changing the model, used by name, and refused where it does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3_lora.concepts.learn import Example, LearnOptions, learn
from sam3_lora.concepts.references import examples_of_boxes, examples_of_category, parse_reference
from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset
from sam3_lora.errors import DataError, ModelError, Sam3LoraError
from sam3_lora.model.concept import load, names_in, save, words_of
from sam3_lora.predict.predictor import Predictor

VALID = sorted((ASSETS / "demo" / "dataset" / "valid").rglob("*.jpg"))
ADAPTER = ASSETS / "demo" / "adapter"
SHORT = LearnOptions(steps=12)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("demo", device="cpu")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return examples_of_category(open_dataset("demo").split("train"), "pothole", 3, seed=0)


@pytest.fixture(scope="module")
def learned(predictor, examples):
    losses: list[float] = []
    before = {name: value.clone() for name, value in predictor.detector.state_dict().items()}
    options = LearnOptions(steps=40, images_per_step=len(examples))
    concept = learn(predictor, "my hole", examples, options=options, progress=lambda step: losses.append(step.loss))
    after = predictor.detector.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "nothing of the model changes"
    assert not predictor.detector.training and len(losses) == 40
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:3])
    return concept


def test_it_is_used_by_name_alone_and_beside_words(predictor, learned):
    predictor.set_image(VALID[1])
    before = predictor.prompt(["red circle", "crack"], 0.01)
    predictor.concepts.add(learned)
    found = predictor.prompt(["red circle", "<My-Hole>", "crack", "deep <my hole>"], 0.01)
    assert list(found) == ["red circle", "<My-Hole>", "crack", "deep <my hole>"]
    for phrase, result in before.items():
        assert np.array_equal(result.scores, found[phrase].scores), "other words are the same to the bit"
        assert np.array_equal(result.boxes_xyxy, found[phrase].boxes_xyxy)
    assert not np.array_equal(found["<My-Hole>"].scores, found["deep <my hole>"].scores)
    with pytest.raises(Sam3LoraError, match="my hole"):
        predictor.prompt(["<gone>"])


def test_it_survives_its_file_and_is_the_same(predictor, learned, tmp_path):
    path = tmp_path / "hole.safetensors"
    save(learned, path)
    again = load(path)
    assert again.card == learned.card and torch.equal(again.tokens, learned.tokens) and path.stat().st_size < 10_000
    assert (again.card.images, again.card.negatives, again.card.base) == (3, 3, "demo")


def test_the_same_seed_learns_the_same(predictor, examples):
    one, other = (learn(predictor, "x", examples, options=SHORT) for _ in range(2))
    assert torch.equal(one.tokens, other.tokens)


def test_on_top_of_an_adapter_it_needs_that_adapter(learned, examples, predictor):
    adapted = Predictor.load("demo", ADAPTER, "cpu")
    adapted.concepts.add(learned)
    adapted.set_image(VALID[1])
    predictor.concepts.add(learned)
    predictor.set_image(VALID[1])
    on_base, beside = (one.prompt(["<my hole>"], 0.01)["<my hole>"] for one in (predictor, adapted))
    assert np.array_equal(on_base.scores, beside.scores), "it is answered by what it was learned on"
    own = learn(adapted, "x", examples, options=SHORT)
    adapted.concepts.add(own)
    with pytest.raises(ModelError, match="adapter"):
        predictor.concepts.add(own)


def test_another_base_is_refused(learned, tiny_base):
    with pytest.raises(ModelError, match="another base"):
        Predictor.load(str(tiny_base), device="cpu").concepts.add(learned)


def test_bad_examples_are_one_sentence(predictor, examples):
    image = examples[0].image
    cases = [
        ([], "x"),
        ([Example(image, np.zeros((0, 4)))], "x"),
        ([Example(image, np.array([[5, 5, 5, 9.0]]))], "x"),
        ([Example(image, np.array([[9000, 5, 9100, 9.0]]))], "x"),
        ([Example(image, np.array([[np.nan, 5, 9100, 9.0]]))], "x"),
        (examples * 40, "x"),
        (examples, "<x>"),
        (examples, " "),
    ]
    for some, name in cases:
        with pytest.raises((DataError, ModelError)) as error:
            learn(predictor, name, some, options=SHORT)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"x" * 3_000_000])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for where in (path, tmp_path / "gone", tmp_path):
        with pytest.raises(ModelError) as error:
            load(where)
        assert "\n" not in str(error.value)


def test_any_flipped_byte_is_refused_or_harmless(learned, tmp_path):
    path = tmp_path / "a.safetensors"
    save(learned, path)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(sound), 150).tolist():
        path.write_bytes(sound[:place] + bytes([sound[place] ^ int(rng.integers(1, 256))]) + sound[place + 1 :])
        try:
            assert torch.isfinite(load(path).tokens).all()
        except ModelError as error:
            assert "\n" not in str(error)


def test_references():
    assert parse_reference("C:/a.jpg:1,2,3,4") == (Path("C:/a.jpg"), (1, 2, 4, 6))
    for text in ("a.jpg", "a.jpg:1,2,3", "a.jpg:1,2,0,4", ":1,2,3,4", "a.jpg:a,b,c,d", "a.jpg:nan,1,nan,1"):
        with pytest.raises(DataError):
            parse_reference(text)
    found = examples_of_boxes([f"{VALID[0]}:1,2,30,40", f"{VALID[0]}:50,60,30,40"], [VALID[1]])
    assert [len(one.boxes_xyxy) for one in found] == [2, 0]
    assert names_in("old <my hole> and <x>") == ["my hole", "x"] and words_of("old <my hole> and <x>") == "old and"
