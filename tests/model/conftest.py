"""Inputs for the demo model, and folders of models in each layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3_lora.config import ASSETS
from sam3_lora.model.base import LoadedModel, load_base
from sam3_lora.model.detector import Sam3Detector

DEMO_FOLDER = ASSETS / "demo" / "model"


@dataclass(frozen=True)
class Inputs:
    """Two images, five phrases asked of them."""

    pixel_values: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    image_index: Tensor

    def __iter__(self):
        return iter((self.pixel_values, self.input_ids, self.attention_mask, self.image_index))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def demo() -> LoadedModel:
    """Shared by the tests that only look at it."""
    return load_base("demo")


@pytest.fixture
def own_demo() -> LoadedModel:
    """For tests that change the model."""
    return load_base("demo")


@pytest.fixture
def detector(demo: LoadedModel) -> Sam3Detector:
    return Sam3Detector(demo.model).eval()


@pytest.fixture(scope="session")
def inputs(demo: LoadedModel) -> Inputs:
    phrases = ["pothole", "a long crack in the road", "dog", "crack", "red circle"]
    text = demo.processor(text=phrases, return_tensors="pt")
    pixel_values = torch.rand(2, 3, demo.image_size, demo.image_size, generator=torch.Generator().manual_seed(1))
    return Inputs(pixel_values * 2 - 1, text.input_ids, text.attention_mask, torch.tensor([0, 0, 1, 0, 1]))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A copy of the demo's folder, to be damaged."""
    return Path(shutil.copytree(DEMO_FOLDER, tmp_path / "model"))


@pytest.fixture
def edit_weights(model_folder: Path) -> Callable[[Callable[[dict[str, Tensor]], dict[str, Tensor]]], None]:
    """Rewrites the weights of ``model_folder`` by a function from state to state."""
    from safetensors.torch import load_file, save_file

    def edit(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        file = model_folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return edit


@pytest.fixture
def video_folder(model_folder: Path, edit_weights) -> Path:
    """The layout of the published model: a video model whose detector is ours, and a tracker."""
    from transformers import Sam3VideoConfig

    detector = json.loads((model_folder / "config.json").read_text())
    video = Sam3VideoConfig(detector_config=detector).to_dict() | {"architectures": ["Sam3VideoModel"]}
    (model_folder / "config.json").write_text(json.dumps(video, default=str))
    tracker = {"tracker_model.memory.weight": torch.zeros(3), "tracker_neck.conv.weight": torch.zeros(3)}
    edit_weights(lambda state: {f"detector_model.{name}": value for name, value in state.items()} | tracker)
    return model_folder
