"""What a training process takes of its machine: worker processes, and how a GPU multiplies."""

import pytest
import torch

from sam3_lora.config import RunConfig
from sam3_lora.train import accelerator

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("cores", "trainings", "workers"), [(1, 1, 0), (2, 1, 1), (8, 1, 4), (16, 1, 8), (64, 1, 8), (64, 8, 4), (4, 4, 0)]
)
def test_workers_leave_half_of_the_cores(cores, trainings, workers, monkeypatch):
    monkeypatch.setattr(accelerator, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(trainings))
    assert accelerator.auto_workers(GPU) == workers
    assert accelerator.auto_workers(CPU) == 0


def test_only_a_run_on_a_gpu_multiplies_in_tf32(monkeypatch):
    training = RunConfig().with_settings({"training.precision": "fp32"}).training
    with monkeypatch.context() as patch:
        patch.setattr(accelerator, "resolve_device", lambda name: GPU)
        accelerator.make_accelerator(training)
    assert torch.get_float32_matmul_precision() == "high"
    accelerator.make_accelerator(training.model_copy(update={"device": "cpu"}))
    assert torch.get_float32_matmul_precision() == "highest"
