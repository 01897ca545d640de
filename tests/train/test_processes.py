"""Several processes train one run: the same config, one writer, the same step for all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam3_lora.train.run import Run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("normalization", ["local", "global"])
def test_two_processes_train_and_validate_one_run(config, tmp_path, normalization):
    path = tmp_path / "run.yaml"
    path.write_text(
        config.with_settings({"loss.normalization": normalization, "training.max_steps": 2}).to_yaml(), encoding="utf-8"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = subprocess.run(
        [*launch, "-m", "sam3_lora", "train", str(path), "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    outcome = json.loads(result.stdout)
    assert (outcome["state"], outcome["steps"]) == ("finished", 2)
    assert outcome["best_validation_loss"] > 0
    run = Run.open(outcome["run"])
    assert [row["step"] for row in run.metrics()[0] if row["kind"] == "step"] == [1, 2]
    assert "2 processes" in run.log_tail()
