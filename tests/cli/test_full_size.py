"""A model of SAM 3's full size with random weights goes through every command, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.runs.run import Run, list_runs
from tests.cli.helpers import IMAGE
from tests.factories import write_dataset

IMAGE_SIZE = 336
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``Sam3Model`` as published, float32, with SAM 3's image processor and the demo's tokenizer."""
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    from sam3_lora.model.base import load_processor

    folder = tmp_path_factory.mktemp("base") / "sam3"
    model = Sam3Model(Sam3Config())
    assert sum(parameter.numel() for parameter in model.parameters()) > 800e6
    model.save_pretrained(folder)
    Sam3Processor(Sam3ImageProcessor(), load_processor("demo").tokenizer).save_pretrained(folder)
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sam3_lora", *map(str, arguments)]


def call(*arguments: object) -> dict[str, Any]:
    """Runs a command in a process of its own and reads the JSON object that it prints."""
    began = time.monotonic()
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True, check=False)
    print(f"{arguments[0]}: {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def stop_after_a_step(config: Path, runs: Path) -> Run:
    """Trains, and asks for a stop as soon as a step is written."""
    with subprocess.Popen(
        command("train", config), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as job:
        while job.poll() is None:
            run = next(iter(list_runs(runs)), None)
            if run is not None and any(row["kind"] == "step" for row in run.metrics()[0]):
                run.requests.add("stop")
                break
            time.sleep(0.2)
        _, told = job.communicate()
    assert job.returncode == 0, told
    return list_runs(runs)[0]


def test_check_train_resume_predict_and_evaluate(full_size: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", images=2)
    settings = {
        "data.path": str(data),
        "data.num_negatives": 1,
        "model.base": str(full_size),
        "model.image_size": IMAGE_SIZE,
        "training.max_steps": 3,
        "training.batch_size": 1,
        "training.device": "cpu",
        "output.runs": str(tmp_path / "runs"),
    }
    config = tmp_path / "run.yaml"
    config.write_text(RunConfig().with_settings(settings).to_yaml())

    checked = call("train", config, "--check")
    assert [problem for problem in checked["problems"] if problem["severity"] == "error"] == []
    assert checked["measured"]["seconds_per_step"] > 0

    run = stop_after_a_step(config, tmp_path / "runs")
    assert run.status().state == "stopped"
    assert 1 <= run.status().step < 3
    outcome = call("train", "--resume", run.folder)
    assert (outcome["state"], outcome["steps"], outcome["reload_proof"]) == ("finished", 3, "ok")
    steps = [row for row in run.metrics()[0] if row["kind"] == "step"]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert all(0 < row["total"] < 10_000 for row in steps)

    adapter = run.folder / "adapters" / "last"
    assert json.loads((adapter / "base_model.json").read_text())["image_size"] == IMAGE_SIZE
    found = call("predict", IMAGE, "--prompt", "pothole", "--threshold", "0", "--adapter", adapter, "--device", "cpu")
    assert 0 < len(found["phrases"]["pothole"]) <= 200
    measured = call("evaluate", data, "--adapter", adapter, "--device", "cpu")
    for model in ("base", "adapter"):
        assert 0 <= measured[model]["map_segm"] <= 1
