"""A smaller model than the demo and a dataset of a few noisy images, so that a whole run takes a second."""

import sys
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from tests.factories import tiny_processor, write_dataset

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A folder with a Sam3Model of the demo's shape, narrower and with fewer layers."""
    from transformers import Sam3Model

    sys.path.insert(0, str(SCRIPTS))
    from make_demo_model import demo_config, initialize

    folder = tmp_path_factory.mktemp("base")
    initialize(Sam3Model(demo_config(hidden_size=16, vision_size=32, vision_layers=2))).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def quick_config(tiny_base, tmp_path_factory):
    """Four steps of two images each on six images."""
    dataset = write_dataset(tmp_path_factory.mktemp("data"), images=5, empty_images=1)
    return RunConfig().with_settings(
        {
            "model.base": str(tiny_base),
            "data.path": str(dataset),
            "data.num_negatives": 1,
            "lora.rank": 4,
            "training.max_steps": 4,
            "training.device": "cpu",
        }
    )


@pytest.fixture
def config(quick_config, tmp_path):
    return quick_config.with_settings({"output.runs": str(tmp_path / "runs")})
