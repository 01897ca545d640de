"""Several processes train one run: the same config, one writer, the same step for all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sam3_lora.runs.run import Run
from sam3_lora.train.checkpoint import read_checkpoint
from sam3_lora.train.loop import fit
from tests.factories import write_dataset

ROOT = Path(__file__).resolve().parents[2]


def train_in_two_processes(config, tmp_path):
    """The run that two processes have trained, and what the command printed."""
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
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
    return Run.open(outcome["run"]), outcome


def steps(run):
    return [row for row in run.metrics()[0] if row["kind"] == "step"]


@pytest.mark.slow
def test_two_processes_train_and_validate_one_run(config, tmp_path):
    data = write_dataset(tmp_path / "data", splits=("train",), images=6, empty_images=0)
    broken = sorted((data / "train").glob("*.png"))[:3]
    for path in broken:
        path.write_bytes(path.read_bytes()[:-40])
    settings = {"training.max_steps": 2, "data.valid_split": "holdout", "data.holdout": 0.3, "data.path": str(data)}
    settings |= {"replay.source": "own", "replay.images_per_step": 1}
    run, outcome = train_in_two_processes(config.with_settings(settings), tmp_path)
    assert all(row["replay_total"] > 0 for row in steps(run)), "each process replays its share"
    assert len(run.held_out().images) == 2 and "4 images with" in run.log_tail()
    assert (outcome["state"], outcome["steps"], outcome["reload_proof"]) == ("finished", 2, "ok")
    assert outcome["best_validation_loss"] > 0
    noted = [row["images"] for row in run.metrics()[0] if row.get("about") == "image-left-out"]
    assert sorted(noted) == [[path.name] for path in broken], "whichever process met them"
    assert [row["step"] for row in steps(run)] == [1, 2]
    assert "2 processes" in run.log_tail()
    state = read_checkpoint(run.checkpoints()[0])
    first, second = (random["torch"] for random in state["random"])
    assert not torch.equal(first, second)  # each process draws its own dropout, and gets it back


def test_two_processes_give_the_losses_of_one_with_twice_the_batch(config, tmp_path, only_steps):
    """As far as all batches hold equally many phrases, over which the mean of the classification is taken."""
    data = write_dataset(tmp_path / "data", images=8, empty_images=0)
    settings = {"data.path": str(data), "data.valid_split": "", "lora.dropout": 0.0, "loss.normalization": "global"}
    config = config.with_settings({**settings, "training.max_steps": 8, "training.epochs": 8})
    together, _ = train_in_two_processes(config.with_settings({"training.batch_size": 2}), tmp_path)
    alone = Run.create(config.with_settings({"training.batch_size": 4}))
    fit(alone)
    assert [row["total"] for row in steps(together)] == pytest.approx([row["total"] for row in steps(alone)], rel=1e-4)
    assert [row["objects"] for row in steps(together)] == [row["objects"] for row in steps(alone)]
