"""What all tests share: one thread, fixed seeds, the repository on the path, GPU tests skipped without a GPU."""

from __future__ import annotations

import os
import random
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Tests keep nothing in the user's folders of this app, nor find anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM3_LORA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SAM3_LORA_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A folder with a Sam3Model of the demo's shape, narrower and with fewer layers."""
    from transformers import Sam3Model

    from scripts.make_demo_model import demo_config, initialize
    from tests.factories import tiny_processor

    folder = tmp_path_factory.mktemp("base")
    initialize(Sam3Model(demo_config(hidden_size=16, vision_size=32, vision_layers=2))).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def quick_config(tiny_base, tmp_path_factory):
    """Four steps of two images each on six images."""
    from sam3_lora.config import RunConfig
    from tests.factories import write_dataset

    dataset = write_dataset(tmp_path_factory.mktemp("data"), images=5, empty_images=1)
    return RunConfig().with_settings(
        {
            "model.base": str(tiny_base),
            "data.path": str(dataset),
            "data.num_negatives": 1,
            "lora.rank": 4,
            "training.max_steps": 4,
            "training.device": "cpu",
            "output.sample_images": ["1_000.png"],
        }
    )


@pytest.fixture
def config(quick_config, tmp_path):
    return quick_config.with_settings({"output.runs": str(tmp_path / "runs")})


@pytest.fixture
def only_steps(monkeypatch):
    """Leaves out the sample predictions and the reload check, where a test looks at the steps of many runs."""
    from sam3_lora.train import loop

    monkeypatch.setattr(loop.SampleWriter, "write", lambda self, step, base=False: None)
    monkeypatch.setattr(loop, "verify_reload", lambda setup, folder: "")


SLOW_LAST = ("model", "train", "parity", "ui", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0

    items.sort(key=rank)  # stable: within a folder the order stays
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
