"""What a run leaves beside its metrics: sample predictions, a model card, the reload check of its adapter."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sam3_lora.config import AdapterConfig, ModelConfig
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files import taught_phrases
from sam3_lora.model.base import load_base
from sam3_lora.runs.run import Run
from sam3_lora.runs.samples import read_samples, write_sample
from sam3_lora.train import loop
from sam3_lora.train.loop import fit
from sam3_lora.train.model_card import loading_code
from tests.train.helpers import request_after, steps, train


@pytest.fixture(scope="module")
def run(quick_config, tmp_path_factory):
    runs = str(tmp_path_factory.mktemp("runs"))
    settings = {"output.runs": runs, "output.name": "my potholes", "output.sample_images": []}
    run = Run.create(quick_config.with_settings(settings))
    fit(run)
    return run


def test_the_same_images_are_predicted_at_each_evaluation_the_base_first(run):
    samples = run.samples()
    assert [sample.step for sample in samples] == [0] * 4 + [3] * 4 + [4] * 4
    assert len({sample.image for sample in samples}) == 4
    for sample in samples:
        with Image.open(sample.path) as picture:
            assert picture.size == (64, 48) and picture.format == "PNG"
        assert sample.objects == 2


def test_a_sample_that_is_written_again_counts_once_and_half_a_line_not_at_all(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    write_sample(tmp_path, 3, 0, "a.png", picture, found=1, objects=2)
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('\n{"step": 3, "im')
    write_sample(tmp_path, 3, 0, "a.png", picture, found=5, objects=2)
    write_sample(tmp_path, 0, 0, "a.png", picture, found=0, objects=2)
    assert [(sample.step, sample.found) for sample in read_samples(tmp_path)] == [(0, 0), (3, 5)]
    assert read_samples(tmp_path / "none") == []


def test_the_reload_check_stands_in_the_status(run):
    assert run.status().reload_proof == "ok"


def test_the_reload_check_holds_in_mixed_precision(config):
    assert train(config, training__precision="bf16").status().reload_proof == "ok"


@pytest.mark.parametrize("damage", ["other weights", "half a file"])
def test_the_reload_check_fails_when_the_file_is_not_what_was_trained(config, monkeypatch, damage):
    original = loop.verify_reload

    def tamper_first(setup, folder):
        path = folder / "adapter_model.safetensors"
        if damage == "half a file":
            path.write_bytes(path.read_bytes()[:500])
        else:
            save_file({name: tensor + 0.05 for name, tensor in load_file(path).items()}, path)
        return original(setup, folder)

    monkeypatch.setattr(loop, "verify_reload", tamper_first)
    run = train(config, training__max_steps=1)
    assert run.status().state == "finished"
    assert ("differ by up to" if damage == "other weights" else "damaged") in run.status().reload_proof


def test_the_model_card_tells_what_it_was_trained_on(run):
    for kind, folder in run.adapters().items():
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: peft")
        for part in (
            "my potholes",
            "6 images with 10 objects",
            "crack, pothole, joint",
            "rank: 4",
            "Best cgF1: ",
            "Lowest validation loss: ",
        ):
            assert part in card, (kind, part)
        assert str(run.folder.parent) not in card
        assert set(taught_phrases.read(folder)) == {"crack", "pothole", "joint"} and taught_phrases.FILE in card


def test_the_code_on_the_model_card_loads_the_adapter(run, tmp_path, capsys):
    card = (run.adapters()["best"] / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) < 20
    Image.new("RGB", (64, 48)).save(tmp_path / "image.jpg")
    places = {"image.jpg": tmp_path / "image.jpg", "path/to/this/folder": run.adapters()["best"]}
    for shown, place in places.items():
        assert f'"{shown}"' in code
        code = code.replace(f'"{shown}"', repr(str(place)))
    exec(code, {})
    assert "tensor" in capsys.readouterr().out


def test_the_code_for_another_image_size_loads_the_adapter_at_it(tmp_path, capsys):
    model = lora.attach(load_base("demo", image_size=84).model, AdapterConfig(components=["scoring"], rank=2))
    lora.save(model, tmp_path / "adapter", "demo")
    code = loading_code(ModelConfig(image_size=84), "crack")
    assert "PeftModel" in loading_code(ModelConfig(), "crack")
    assert "Predictor" in loading_code(ModelConfig(base="checkpoints/sam3.pt"), "crack")
    Image.new("RGB", (64, 48)).save(tmp_path / "image.jpg")
    for shown, place in {"image.jpg": "image.jpg", "path/to/this/folder": "adapter"}.items():
        code = code.replace(f'"{shown}"', repr(str(tmp_path / place)))
    found: dict = {}
    exec(code, found)
    assert found["predictor"]._base.image_size == 84
    assert "[" in capsys.readouterr().out


def test_a_run_goes_on_from_an_adapter(run, config, only_steps, monkeypatch):
    request_after(monkeypatch, 1, "stop")
    settings = {"training__max_steps": 2, "lora__dropout": 0.0}
    adapter = run.adapters()["best"]
    afresh, onward = (train(config, **settings, model__adapter=folder) for folder in ("", str(run.folder)))
    assert f"continues from {adapter}" in onward.log_tail(), "the run's folder means its best adapter"
    assert steps(onward)[0]["total"] != steps(afresh)[0]["total"]
    # The first step of the warm-up has a rate of 0: what comes out is what went in.
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (adapter, onward.adapters()["last"]))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"lora.rank": 2, "lora.alpha": 8.0}, ConfigError, r"Set lora.rank to 4, lora.alpha to 32"),
        ({"lora.components": ["scoring"]}, ConfigError, "lora.components"),
        ({"model.adapter": "/nowhere"}, ModelError, "no"),
    ],
)
def test_an_adapter_that_cannot_be_gone_on_from_is_told(run, config, settings, error, words):
    new = Run.create(config.with_settings({"model.adapter": str(run.adapters()["last"]), **settings}))
    with pytest.raises(error, match=words):
        fit(new)
    assert new.status().state == "failed"


def test_rows_hold_what_the_diagnosis_needs(run):
    rows = steps(run)
    # Two of the six images: two objects each, of two categories, or none; one negative for each image.
    for row in rows:
        assert row["phrases"] - row["negatives"] <= row["objects"]
        assert row["negatives"] >= 1 and row["objects"] in (2, 4)
    first = rows[0]["grad_norm_by_component"]
    assert first.keys() == set(run.config.lora.components)
    whole = torch.tensor(list(first.values())).square().sum().sqrt()
    assert float(whole) == pytest.approx(rows[0]["grad_norm"], rel=1e-3)
    (last,) = [row for row in run.metrics()[0] if row["kind"] == "validation"][-1:]
    assert 0 <= last["f1_50"] <= 1 and -1 <= last["cgf1"] <= 1
