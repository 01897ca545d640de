"""Predictor: one image, many prompts; results fit the image; the adapter is switched, not loaded twice."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.data.images import read_image
from sam3_lora.errors import ConfigError, DataError, ModelError, Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.predictor import Predictor

SIZE_HW = (60, 90)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (*SIZE_HW, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """An adapter that changes the demo model's predictions."""
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


def test_a_phrase_gives_the_same_result_alone_and_among_others(predictor, image):
    predictor.set_image(image)
    alone = predictor.prompt(["crack"], threshold=0.0)["crack"]
    among = predictor.prompt(["joint", "crack", "a very long phrase " * 20], threshold=0.0)["crack"]
    np.testing.assert_allclose(alone.scores, among.scores, atol=1e-5)


def test_the_adapter_is_switched_over_the_same_weights(predictor, adapter, image):
    base = Predictor.load("demo", device="cpu")
    base.set_image(image)
    predictor.set_image(image)
    with_adapter = predictor.prompt(["crack"], threshold=0.0)["crack"].scores
    predictor.strength = 0.0
    without = predictor.prompt(["crack"], threshold=0.0)["crack"].scores
    predictor.strength = 1.0
    np.testing.assert_allclose(without, base.prompt(["crack"], threshold=0.0)["crack"].scores, atol=1e-6)
    assert not np.allclose(with_adapter, without, rtol=0.05)
    np.testing.assert_array_equal(predictor.prompt(["crack"], threshold=0.0)["crack"].scores, with_adapter)
    with pytest.raises(Sam3LoraError, match="adapter"):
        base.strength = 1.0


def test_the_image_is_encoded_once_for_many_prompts(predictor, image, monkeypatch):
    encoded = []
    original = predictor.detector.encode_images
    monkeypatch.setattr(
        predictor.detector, "encode_images", lambda *args, **more: encoded.append(1) or original(*args, **more)
    )
    predictor.set_image(255 - image)  # none that the cache may know
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


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 0, 3), np.uint8), "nowhere.png", __file__, "."]
)
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


def test_a_model_that_loads_but_cannot_run_gives_a_sentence(image, tmp_path):
    folder = shutil.copytree(ASSETS / "demo" / "model", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["geometry_encoder_config"]["num_attention_heads"] = 5  # 5 heads do not divide the width
    (folder / "config.json").write_text(json.dumps(config))
    predictor = Predictor.load(str(folder), device="cpu")
    predictor.set_image(image)
    with pytest.raises(ModelError, match="was loaded, but fails on an image"):
        predictor.prompt(["crack"])


def prompt_all(predictor, phrases=("crack", "joint"), **options):
    """Everything that a prompt gives, as one array per phrase."""
    found = predictor.prompt(phrases, threshold=0.0, **options)
    return {phrase: np.concatenate((one.scores, one.boxes_xyxy.ravel())) for phrase, one in found.items()}


def test_caches_give_the_results_of_a_fresh_predictor(predictor, adapter, image):
    other = np.ascontiguousarray(image[::-1])
    for shown in (image, other, image):
        predictor.set_image(shown)
        for strength, phrases in ((1.0, ("crack",)), (0.0, ("joint", "crack")), (0.5, ("crack", "a new phrase"))):
            predictor.strength = strength
            fresh = Predictor.load("demo", adapter, device="cpu")
            fresh.strength = strength
            fresh.set_image(shown)
            expected = prompt_all(fresh, phrases)
            for phrase, found in prompt_all(predictor, phrases).items():
                np.testing.assert_allclose(found, expected[phrase], atol=1e-5, rtol=1e-5)
    predictor.strength = 1.0


def test_the_cache_of_images_is_bounded_by_bytes(image, monkeypatch):
    monkeypatch.setattr("sam3_lora.predict.predictor.CACHED_IMAGE_BYTES", 1)
    smallest = Predictor.load("demo", device="cpu")
    smallest.set_image(image)
    smallest.prompt(["crack", "joint"])
    one_image = smallest._vision.num_bytes
    assert len(smallest._vision) == 1, "the last one stays however large it is"
    monkeypatch.setattr("sam3_lora.predict.predictor.CACHED_IMAGE_BYTES", int(2.5 * one_image))
    predictor = Predictor.load("demo", device="cpu")
    for number in range(4):
        predictor.set_image(np.roll(image, number))
        predictor.prompt([f"word {number}"])
    assert len(predictor._vision) == 2


def test_many_phrases_go_through_the_model_in_chunks(predictor, image, monkeypatch):
    predictor.set_image(image)
    many = [f"thing {number}" for number in range(10)]
    monkeypatch.setattr("sam3_lora.predict.predictor.phrases_at_once", lambda *_: 4)
    assert [len(chunk.results) for chunk in predictor.prompt_in_chunks(many)] == [4, 4, 2]
    together = prompt_all(predictor, many)
    assert list(together) == many
    for phrase in (many[0], many[-1]):
        np.testing.assert_allclose(together[phrase], prompt_all(predictor, [phrase])[phrase], atol=1e-4)


def test_masks_are_made_only_of_phrases_with_an_object_above_the_threshold(predictor, image):
    predictor.set_image(image)
    every = predictor.prompt(["crack", "joint", "pothole"], threshold=0.0)
    best = {phrase: float(result.scores[0]) for phrase, result in every.items()}
    highest = max(best, key=best.get)
    made = []
    decoder = predictor.detector.base.mask_decoder.pixel_decoder
    handle = decoder.register_forward_hook(lambda *_: made.append(1))
    some = predictor.prompt(list(every), threshold=best[highest])
    own = predictor.prompt(list(every), threshold=best | {highest: 2.0})
    none = predictor.prompt(list(every), threshold=2.0)
    without_presence = predictor.prompt(list(every), threshold=0.0, use_presence=False)
    handle.remove()
    assert len(made) == 1 + 2 + 0 + 3
    for phrase, result in some.items():
        expected = every[phrase].above(best[highest])
        np.testing.assert_allclose(result.mask_logits, expected.mask_logits, atol=1e-5)
        assert result.masks.shape == expected.masks.shape == (int(phrase == highest), *SIZE_HW)
        assert len(own[phrase]) == int(phrase != highest) and len(none[phrase]) == 0
        np.testing.assert_array_equal(without_presence[phrase].scores, every[phrase].scores)


def test_results_refer_to_the_size_that_is_asked_for(predictor, image):
    predictor.set_image(image)
    own = predictor.prompt(["crack"], threshold=0.0)["crack"]
    predictor.set_image(image, (2 * SIZE_HW[0], 2 * SIZE_HW[1]))
    double = predictor.prompt(["crack"], threshold=0.0)["crack"]
    np.testing.assert_allclose(double.boxes_xyxy, 2 * own.boxes_xyxy, rtol=1e-5)
    assert double.masks.shape[1:] == (2 * SIZE_HW[0], 2 * SIZE_HW[1])


@pytest.mark.parametrize("component", ["vision_encoder", "text_encoder", "geometry_encoder", "mask_decoder"])
def test_cached_features_are_of_the_current_strength(component, image):
    """Whatever component the adapter changes, at one strength after the other or on its own."""
    base = load_base("demo")
    model = lora.attach(base.model, RunConfig().with_settings({"lora.components": [component]}).lora)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)

    def mask_logits(predictor, strength):
        predictor.strength = strength
        predictor.set_image(image)
        return predictor.prompt(["crack"], threshold=0.0)["crack"].mask_logits

    used = Predictor(base, model)
    mask_logits(used, 1.0)
    for strength in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(mask_logits(used, strength), mask_logits(Predictor(base, model), strength))
    assert not np.array_equal(mask_logits(used, 0.0), mask_logits(used, 1.0))


@pytest.mark.parametrize(
    ("component", "vision", "geometry"), [("detr_decoder", 2, 2), ("geometry_encoder", 2, 6), ("vision_encoder", 6, 6)]
)
def test_base_and_adapter_share_what_the_adapter_leaves_alone(component, vision, geometry, image):
    """Over two images that are prompted in turn, as the side by side view does, at three strengths."""
    base = load_base("demo")
    model = lora.attach(base.model, RunConfig().with_settings({"lora.components": [component]}).lora)
    predictor, calls = Predictor(base, model), []
    for name in ("vision_encoder", "geometry_encoder"):
        getattr(base.model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    for _ in range(2):
        for shown in (image, 255 - image):
            for strength in (0.0, 1.0, 0.5):
                predictor.strength = strength
                predictor.set_image(shown)
                predictor.prompt(["crack"])
    assert (calls.count("vision_encoder"), calls.count("geometry_encoder")) == (vision, geometry)


def test_strength_goes_from_the_base_to_the_adapter_and_beyond(predictor, adapter, image):
    base = Predictor.load("demo", device="cpu")
    base.set_image(image)
    trained = Predictor.load("demo", adapter, device="cpu")
    trained.set_image(image)
    predictor.set_image(image)
    found = {}
    for strength in (0.0, 0.5, 1.0, 1.5):
        predictor.strength = strength
        found[strength] = prompt_all(predictor)["crack"]
    predictor.strength = 1.0
    np.testing.assert_array_equal(found[0.0], prompt_all(base)["crack"])
    np.testing.assert_array_equal(found[1.0], prompt_all(trained)["crack"])
    assert np.abs(found[0.5] - found[0.0]).max() > 1e-4
    assert np.abs(found[0.5] - found[1.0]).max() > 1e-4
    assert np.abs(found[1.5] - found[1.0]).max() > 1e-4
    for wrong in (-0.1, 9.0):
        with pytest.raises(Sam3LoraError, match="strength"):
            predictor.strength = wrong


def test_strength_1_is_the_adapter_where_layers_have_scales_of_their_own(adapter, image, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"alpha_pattern": {".*q_proj": 99}}))
    predictor = Predictor.load("demo", folder, device="cpu")
    predictor.set_image(image)
    before = prompt_all(predictor)["crack"]
    predictor.strength = 0.5
    assert not np.array_equal(prompt_all(predictor)["crack"], before)
    predictor.strength = 1.0
    np.testing.assert_array_equal(prompt_all(predictor)["crack"], before)


def test_pictures_of_any_depth_and_turn_are_read_as_files_are(image, tmp_path):
    gray = image[..., 0]
    kinds = {"I": gray.astype(np.int32) * 257, "F": gray.astype(np.float32) / 255}
    for mode, values in kinds.items():
        picture = Image.fromarray(values)
        assert picture.mode == mode
        assert np.abs(read_image(picture)[..., 0].astype(int) - gray).max() <= 1
    turned = Image.fromarray(image)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        np.testing.assert_array_equal(read_image(opened), read_image(tmp_path / "turned.png"))
    assert read_image(tmp_path / "turned.png").shape == (SIZE_HW[1], SIZE_HW[0], 3)


def test_exemplars_change_the_result_with_a_phrase_and_alone(predictor, image):
    predictor.set_image(image)
    box = np.array([[10.0, 5.0, 60.0, 40.0]])
    plain = prompt_all(predictor)["crack"]
    like = prompt_all(predictor, exemplars=Exemplars(box, np.array([True])))["crack"]
    unlike = prompt_all(predictor, exemplars=Exemplars(box, np.array([False])))["crack"]
    assert np.abs(like - plain).max() > 1e-5
    assert np.abs(unlike - like).max() > 1e-5
    alone = predictor.prompt([], threshold=0.0, exemplars=Exemplars(box, np.array([True])))
    assert list(alone) == ["visual"]
    none = Exemplars(np.zeros((0, 4)), np.zeros(0, bool))
    np.testing.assert_array_equal(prompt_all(predictor, exemplars=none)["crack"], plain)
    for wrong in ([[10, 10, 10, 40]], [[200, 200, 300, 300]], [[np.nan, 0, 5, 5]]):
        with pytest.raises(Sam3LoraError, match="Exemplar box 1"):
            predictor.prompt(["crack"], exemplars=Exemplars(np.array(wrong, float), np.array([True])))


@pytest.mark.parametrize("dora", [False, True])
def test_16_bits_give_the_predictions_of_float32_up_to_rounding_at_every_strength(image, tmp_path, dora):
    torch.manual_seed(0)
    model = lora.attach(load_base("demo").model, RunConfig().with_settings({"lora.dora": dora}).lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    lora.save(model, tmp_path / "adapter", "demo")
    exact, rounded = (
        Predictor.load("demo", tmp_path / "adapter", device="cpu", precision=precision)
        for precision in ("fp32", "bf16")
    )
    dtypes = {parameter.dtype for parameter in rounded.detector.parameters()}
    assert dtypes == {torch.float32, torch.bfloat16}, "frozen weights are held in 16 bits, those of the adapter are not"
    found = {}
    for strength in (0.0, 0.5, 1.0):
        for predictor in (exact, rounded):
            predictor.strength = strength
            predictor.set_image(image)
        expected, result = (one.prompt(["crack"], threshold=0.0)["crack"] for one in (exact, rounded))
        assert result.mask_logits.dtype == result.scores.dtype == result.boxes_xyxy.dtype == np.float32
        np.testing.assert_allclose(result.scores, expected.scores, atol=0.03)
        found[strength] = result.scores
    assert not np.array_equal(found[0.0], found[0.5]) and not np.array_equal(found[0.5], found[1.0])
    base = Predictor.load("demo", device="cpu", precision="bf16")
    base.set_image(image)
    np.testing.assert_array_equal(base.prompt(["crack"], threshold=0.0)["crack"].scores, found[0.0])


def test_a_precision_that_the_device_lacks_is_refused():
    with pytest.raises(ConfigError, match="fp16 needs"):
        Predictor.load("demo", device="cpu", precision="fp16")
    assert Predictor.load("demo", device="cpu").precision == "fp32"
