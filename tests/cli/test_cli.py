"""The command line: what it prints for programs, and one sentence with exit code 2 for every mistake."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam3_lora.cli.app import app
from sam3_lora.config import ASSETS, RunConfig
from sam3_lora.errors import ConfigError, Sam3LoraError
from sam3_lora.runs.run import Run
from tests.factories import coco, write_dataset, write_split

IMAGE = next((ASSETS / "demo" / "dataset" / "valid").rglob("*.jpg"))


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, (SystemExit, Sam3LoraError)):
        raise result.exception
    return result


def test_inspect_counts_and_finds(tmp_path):
    dataset = write_dataset(tmp_path, images=3, objects=2, empty_images=1)
    report = json.loads(call("inspect", dataset, "--json").stdout)
    assert report["splits"]["train"]["images"] == 4
    assert report["splits"]["train"]["objects"] == 6 == sum(report["splits"]["train"]["categories"].values())
    assert "train: 4 images, 6 objects" in call("inspect", dataset).stdout
    (tmp_path / "valid" / "_annotations.coco.json").write_text("{")
    findings = json.loads(call("inspect", dataset, "--json").stdout)["findings"]
    assert {"kind", "severity", "count", "message", "fix"} == set(findings[0])
    assert findings[0]["severity"] == "error"


def test_control_characters_in_names_do_not_reach_the_terminal(tmp_path):
    data = coco()
    data["categories"][0]["name"] = "crack\x1b[31m\x07\u202e"
    data["images"][0]["file_name"] = "gone\x1b]0;title.png"
    write_split(tmp_path / "train", data)
    (tmp_path / "train" / "gone\x1b]0;title.png").unlink()
    printed = call("inspect", tmp_path).stdout
    assert (
        "\x1b" not in printed
        and "\x07" not in printed
        and "\u202e" not in printed
        and r"crack\x1b[31m" in printed
        and "gone" in printed
    )


def test_config_prints_what_train_reads(tmp_path):
    for preset in ("minimal", "balanced", "maximum"):
        path = tmp_path / f"{preset}.yaml"
        path.write_text(call("config", "--preset", preset).stdout)
        assert "# " in path.read_text()


def test_train_predict_and_evaluate_hand_over_to_each_other(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(call("config", "--preset", "minimal").stdout)
    data = write_dataset(tmp_path / "data", images=2)
    settings = {"training.max_steps": 2, "data.path": data, "output.runs": tmp_path / "runs", "training.device": "cpu"}
    trained = call("train", config, *(f"--set={name}={value}" for name, value in settings.items()), "--json")
    outcome = json.loads(trained.stdout)
    assert (outcome["state"], outcome["steps"]) == ("finished", 2)
    assert outcome["best_validation_loss"] > 0

    adapter = f"{outcome['run']}/adapters/best"
    out = tmp_path / "out"
    arguments = ("--prompt", "pothole", "--prompt", "crack", "--threshold", "0", "--adapter", adapter)
    predicted = json.loads(call("predict", IMAGE, *arguments, "--out", out, "--json").stdout)
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


MISTAKES = {
    "dataset missing": ["inspect", "nowhere"],
    "dataset is a file": ["inspect", __file__],
    "config missing": ["train", "nowhere.yaml"],
    "config of another kind": ["train", __file__],
    "neither config nor run": ["train"],
    "run with too long a name": ["train", "--resume", "x" * 300],
    "adapter with too long a name": ["predict", IMAGE, "--prompt", "x", "--adapter", "x" * 300],
    "run missing": ["train", "--resume", "nowhere"],
    "image missing": ["predict", "nowhere.jpg", "--prompt", "x"],
    "image of another kind": ["predict", __file__, "--prompt", "x"],
    "blank phrase": ["predict", IMAGE, "--prompt", " "],
    "base missing": ["predict", IMAGE, "--prompt", "x", "--base", "./nowhere"],
    "base of another kind": ["predict", IMAGE, "--prompt", "x", "--base", str(ASSETS)],
    "adapter missing": ["predict", IMAGE, "--prompt", "x", "--adapter", "nowhere"],
    "adapter of another kind": ["predict", IMAGE, "--prompt", "x", "--adapter", str(ASSETS)],
    "split missing": ["evaluate", "demo", "--split", "nowhere"],
    "report of another kind": ["evaluate", "demo", "--out", "report.txt"],
    "device of another kind": ["predict", IMAGE, "--prompt", "x", "--device", "abacus"],
    "preset unknown": ["config", "--preset", "huge"],
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_sentence_with_its_fix(arguments):
    result = call(*arguments)
    assert isinstance(result.exception, Sam3LoraError)
    assert "\n" not in str(result.exception)
    assert result.exception.fix


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


def test_a_mistake_ends_with_exit_code_2_and_no_traceback():
    command = [sys.executable, "-m", "sam3_lora", "inspect", "nowhere", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ASSETS.parent)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
