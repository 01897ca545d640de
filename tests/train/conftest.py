"""A smaller model than the demo and a dataset of a few noisy images, so that a whole run takes a second."""

import pytest

from sam3_lora.config import RunConfig
from tests.factories import write_dataset


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
            "output.sample_images": ["1_000.png"],
        }
    )


@pytest.fixture
def config(quick_config, tmp_path):
    return quick_config.with_settings({"output.runs": str(tmp_path / "runs")})


@pytest.fixture
def only_steps(monkeypatch):
    """Leaves out the samples and the reload proof, where a test looks at the steps of many runs."""
    from sam3_lora.train import loop

    monkeypatch.setattr(loop.Training, "_sample", lambda self, base=False: None)
    monkeypatch.setattr(loop.Training, "_prove", lambda self: "")
