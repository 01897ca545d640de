"""sam3-lora config, train, predict and evaluate: what each writes is what the next one reads."""

import json
import re
import shutil
from pathlib import Path

import pytest

from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.errors import ConfigError
from sam3_lora.recipes import PRESETS, demo_config, recipe_for
from sam3_lora.recipes import preset as make_preset
from sam3_lora.runs.run import Run
from tests.cli.helpers import IMAGE, call
from tests.factories import write_dataset


def test_config_prints_what_train_reads(tmp_path):
    for preset in PRESETS:
        path = tmp_path / f"{preset}.yaml"
        path.write_text(call("config", "--preset", preset).stdout)
        assert "# " in path.read_text()
        adapter = {f"lora.{name}": value for name, value in make_preset(preset).lora.model_dump().items()}
        assert RunConfig.load(path) == demo_config().with_settings(adapter)


def test_config_writes_the_recipe_for_base_and_dataset(tmp_path):
    data = write_dataset(tmp_path / "data", images=2)
    text = call("config", "--base", "facebook/sam3", "--dataset", data).stdout
    path = tmp_path / "run.yaml"
    path.write_text(text)
    config = RunConfig.load(path)
    chosen = {"model.base": "facebook/sam3", "data.path": str(data)}
    assert config == RunConfig().with_settings(chosen | recipe_for("facebook/sam3", 3).values)
    assert text.startswith("# Recipe for SAM 3 on up to 10 images. Not yet confirmed on real weights.\n")
    above = text.split("epochs: 40")[0].splitlines()[-4:]
    assert any("few-shot: 40 epochs" in line for line in above), above
    assert text.count("not yet confirmed on real weights") == len(recipe_for("facebook/sam3", 3).advice)
    assert max(map(len, text.splitlines())) <= 120

    path.write_text(call("config", "--base", "facebook/sam3", "--preset", "minimal").stdout)
    config = RunConfig.load(path)
    assert config.lora == make_preset("minimal").lora
    assert (config.training.learning_rate, config.training.epochs) == (1e-4, 20)
    refused = call("config", "--dataset", tmp_path / "nowhere")
    assert refused.exit_code and "nowhere" in str(refused.exception)


def test_train_predict_and_evaluate_hand_over_to_each_other(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(call("config", "--preset", "minimal").stdout)
    data = write_dataset(tmp_path / "data", images=2)
    settings = {"training.max_steps": 2, "data.path": data, "output.runs": tmp_path / "runs", "training.device": "cpu"}
    trained = call("train", config, *(f"--set={name}={value}" for name, value in settings.items()), "--json")
    outcome = json.loads(trained.stdout)
    assert (outcome["state"], outcome["steps"]) == ("finished", 2)
    assert outcome["best_validation_loss"] > 0
    assert (outcome["best_by"], outcome["best_step"]) == ("cgf1", 2) and outcome["best_value"] is not None
    assert re.search(r"epoch 1: validation loss \d+\.\d{3}, F1 \d\.\d\d, cgF1 -?\d\.\d\d$", trained.stderr, re.M)

    adapter = f"{outcome['run']}/adapters/best"
    out = tmp_path / "out"
    arguments = ("--prompt", "pothole", "--prompt", "crack", "--threshold", "0", "--adapter", outcome["run"])
    called = call("predict", IMAGE, *arguments, "--out", out, "--json")
    assert str(Path(adapter)) in called.stderr, "which adapter of the run it is"
    predicted = json.loads(called.stdout)
    assert list(predicted["phrases"]) == ["pothole", "crack"]
    assert {"score", "box_xyxy", "area"} == set(predicted["phrases"]["pothole"][0])
    assert (out / f"{IMAGE.stem.replace('_', '-')}-overlay.png").is_file()

    base = tmp_path / "base"  # another folder than the default's: it is read from the adapter
    shutil.copytree(ASSETS / "demo" / "model", base)
    settings_file = Path(adapter) / "adapter_config.json"
    settings_file.write_text(
        json.dumps({**json.loads(settings_file.read_text()), "base_model_name_or_path": str(base)})
    )
    measured = json.loads(call("evaluate", data, "--adapter", adapter, "--json").stdout)
    assert json.loads(Path(measured["stored"]).read_text())["base_name"] == str(base)
    for metrics in (measured["base"], measured["adapter"]):
        assert {"map_bbox", "map_segm", "f1_50", "cgf1", "il_mcc"} <= metrics.keys()
        assert 0 <= metrics["map_segm"] <= 1
    assert measured["verdict"] and measured["stored"].startswith(outcome["run"])


def test_wrong_settings_on_the_command_line(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(call("config").stdout)
    settings = ("training.speed=9", "training.epochs=0", "training.epochs", "training=5", "training.epochs=[")
    for setting in (*settings, r'output.runs="a\0b"'):
        result = call("train", config, "--set", setting)
        assert isinstance(result.exception, ConfigError), setting


def test_a_check_says_how_long_it_takes_and_no_done_before_an_error(tmp_path, tiny_base):
    config = tmp_path / "run.yaml"
    config.write_text(call("config").stdout)
    settings = {"model.base": tiny_base, "data.path": write_dataset(tmp_path / "data"), "training.max_steps": 1}
    settings |= {"training.device": "cpu", "output.runs": tmp_path / "runs"}
    told = call("train", config, "--check", *(f"--set={name}={value}" for name, value in settings.items()))
    assert re.search(r"about \d+ (s|min) for 1 step\n", told.output)
    wrong = call("train", config, "--check", "--set=data.path=/nowhere")
    assert wrong.exit_code == 2 and "Done" not in wrong.output and "ERROR" in wrong.output


def test_a_run_that_cannot_be_resumed_says_why(tmp_path):
    run = Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "runs")}))
    with pytest.raises(ZeroDivisionError), run.writing():
        _ = 1 / 0
    told = str(call("train", "--resume", run.folder).exception)
    assert "cannot be resumed. This run ended before its first checkpoint" in told
    with run.writing():
        told = str(call("train", "--resume", run.folder).exception)
    assert "is being trained. Stop it or wait for its end" in told
