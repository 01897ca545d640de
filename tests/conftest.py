"""What all tests share: one thread, fixed seeds, how many processes, GPU tests skipped without a GPU."""

from __future__ import annotations

import os
import random
from itertools import zip_longest
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import psutil
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
            "data.min_foreign": 0,
            "replay.source": "none",
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


TESTS = Path(__file__).parent
MOST_PROCESSES, BYTES_EACH = 4, 3e9  # of memory, with an app and a browser of its own
SLOW_LAST = ("model", "train", "parity", "ui", "e2e")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """How many processes; 0: in this one. None: as many as a variable of xdist's own says.

    Several for whole folders. For fewer tests their start takes longest; slow tests need all the memory; those on a GPU
    would wait for each other; a test in a browser needs more than one core, and is best beside one without.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    option = config.getoption
    chosen = option("keyword") or option("markexpr") != "not slow" or option("capture") == "no" or option("lf", False)
    files = {file for folder in map(Path, config.args) if folder.is_dir() for file in folder.rglob("test_*.py")}
    if chosen or sum("e2e" not in file.parts for file in files) < 6 or torch.cuda.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = min(MOST_PROCESSES, cores, int(psutil.virtual_memory().available / BYTES_EACH))
    return many if many > 1 else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    files = sorted(by_file, key=_rank)  # stable: within a folder the order stays
    if hasattr(config, "workerinput"):  # one of several processes: slow files begin, so that all end together
        browser = [file for file in files if _rank(file) == len(SLOW_LAST)]
        others = sorted(set(files) - set(browser), key=lambda file: (-_rank(file), file))
        files = [file for pair in zip_longest(browser, others) for file in pair if file]
    items[:] = [item for file in files for item in by_file[file]]
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


def _rank(file: Path) -> int:
    """0 for quick tests; more, the slower those of a folder are."""
    folder = file.relative_to(TESTS).parts[0]
    return SLOW_LAST.index(folder) + 1 if folder in SLOW_LAST else 0
