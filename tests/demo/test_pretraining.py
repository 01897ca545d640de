"""The scripts behind the demo's model, at tiny size: pre-training resumes exactly, the measure counts rightly."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Sam3Model

from sam3_lora.data.dataset import open_dataset
from sam3_lora.evaluate.precision_recall_f1 import ThresholdSweep
from sam3_lora.predict.predictor import PhraseResult, Predictor
from scripts import make_demo_model, measure_demo, scenes
from scripts import pretrain_demo_model as pretraining


@pytest.fixture
def tiny(monkeypatch):
    config = make_demo_model.demo_config(hidden_size=16, vision_size=32, vision_layers=2)
    monkeypatch.setattr(make_demo_model, "demo_config", lambda: config)


def command(folder: Path, *options: str) -> list[str]:
    steps = [part for stage in ("ground", "boxes", "full", "scores") for part in (f"--{stage}-steps", "1")]
    return [
        "pretrain",
        "--work",
        str(folder / "work"),
        "--out",
        str(folder / "model"),
        *steps,
        "--scenes",
        "6",
        "--device",
        "cpu",
        *options,
    ]


def test_pretraining_writes_a_model_that_stock_transformers_loads(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", command(tmp_path, "--curve", str(tmp_path / "curve")))
    pretraining.main()
    _, missing = Sam3Model.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not missing["missing_keys"]
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    assert np.isfinite(lines[-1]["total"])
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    monkeypatch.setattr(sys, "argv", command(tmp_path))
    pretraining.main()  # a finished one is not trained again
    assert "Going on after step 4" in capsys.readouterr().out


def test_half_of_the_practising_queries_start_from_the_given_boxes(tiny):
    stages = [pretraining.Stage("boxes", 1, 2, 2, 1, 1e-3, (0.1, 0.1))]
    training = pretraining.Pretraining(stages, num_scenes=4, seed=3, device=torch.device("cpu"))
    training.pool = [pretraining._scene(number, 3) for number in range(4)]
    batch = training.batch(stages[0])
    detector = training.practising.train()
    for layer in detector.base.detr_decoder.box_head.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    detector.practice = batch.practice
    vision, text = detector.encode_images(batch.pixel_values), detector.encode_text(**batch.tokens)
    found = detector.detect(vision, text, batch.image_index, masks=False)
    assert torch.allclose(found.one_to_many.boxes[-1], batch.practice.start, atol=1e-4), "no layer moves a box"
    assert not torch.allclose(found.boxes[-1], batch.practice.start, atol=1e-2)


def test_a_stopped_pretraining_goes_on_as_if_nothing_had_been(tiny):
    names = ("ground", "boxes", "full", "scores")
    stages = [pretraining.Stage(name, 1, 2, 2, 1, 1e-3, (0.1, 0.1)) for name in names]

    def start():
        training = pretraining.Pretraining(stages, num_scenes=4, seed=3, device=torch.device("cpu"))
        training.pool = [pretraining._scene(number, 3) for number in range(4)]
        return training

    unbroken = start()
    totals = [unbroken.step()["total"] for _ in range(4)]
    first = start()
    assert [first.step()["total"] for _ in range(3)] == pytest.approx(totals[:3], rel=1e-5)
    second = start()
    second.load_state(first.state())
    assert second.step()["total"] == pytest.approx(totals[3], rel=1e-5)


def test_targets_are_what_the_phrases_mean():
    scene = scenes.make_scene(np.random.default_rng(5))
    figure = scene.figures[0]
    phrases = [f"{figure.color} {figure.kind}", "elephant"]
    tokenizer = make_demo_model.demo_processor().tokenizer
    step = pretraining.make_step([scene], [phrases], tokenizer, np.random.default_rng(0), queries=8)
    meant = [one for one in scene.figures if scenes.answers(phrases[0], one)]
    assert step.targets.counts.tolist() == [len(meant), 0]
    assert ((step.targets.boxes > 0) & (step.targets.boxes < 1)).all()
    assert step.union[0].any()
    assert not step.union[1].any()
    assert step.practice.is_object[0].any()
    assert not step.practice.is_object[1].any()
    for way in range(8):
        turned = pretraining.turned(scene, way)
        inside = turned.image[turned.figures[0].mask].mean(0)
        assert inside == pytest.approx(scene.image[figure.mask].mean(0))  # picture and mask turn together


def result(masks: list[np.ndarray], scores: list[float]) -> PhraseResult:
    logits = np.where(np.stack(masks), 1.0, -1.0).astype(np.float32)
    return PhraseResult("x", np.zeros((len(masks), 4), np.float32), np.array(scores), logits, masks[0].shape)


def test_an_object_is_found_once():
    half = np.zeros((20, 20), bool)
    half[:10] = True
    is_tp = measure_demo.true_positives(result([half, half, ~half], [0.9, 0.8, 0.7]), [half])
    assert is_tp == [True, False, False]
    sweep = ThresholdSweep(np.array([0.9, 0.8, 0.7]), np.array(is_tp), num_objects=1)
    results = measure_demo.SceneResults(sweep, max_absent_scores=np.array([0.6, 0.1]))
    assert sweep.at(0.85).f1 == 1
    assert sweep.at(0.75).f1 == pytest.approx(2 / 3)
    assert 0.8 < results.best_threshold() <= 0.9
    assert results.false_firing(0.5) == 0.5


def test_the_measure_gives_every_number(tiny_base):
    valid = open_dataset("demo").split("valid")
    values = measure_demo.measure(Predictor.load(str(tiny_base)), valid, num_scenes=2)
    assert {"scenes_f1", "scenes_false_firing", "valid_f1", "foreign_firing"} <= values.keys()
    assert all(0 <= values[name] <= 1 for name in ("scenes_f1", "valid_f1", "foreign_firing"))
