"""Phrases on the command line: those that the adapter was trained with are prompted as they were trained."""

import json
from pathlib import Path

import pytest

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.runs.run import Run
from tests.cli.helpers import IMAGE, call
from tests.factories import write_dataset


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """Of a run on categories, one of which has a comma in its name, and one in its phrase."""
    root = tmp_path_factory.mktemp("runs")
    data = write_dataset(root / "data", images=1, categories=("damage, severe", "pipe", "crack"))
    settings = {"data.path": str(data), "output.runs": str(root), "data.category_phrases": {"pipe": "pipe; rusty"}}
    folder = Run.create(RunConfig().with_settings(settings)).folder / "adapters" / "best"
    lora.save(lora.attach(load_base("demo").model, AdapterConfig(components=["scoring"])), folder, "demo")
    return folder


@pytest.mark.parametrize(
    ("typed", "with_adapter", "prompted"),
    [
        (["damage, severe"], True, ["damage, severe"]),
        (["Pipe;rusty, crack"], True, ["pipe; rusty", "crack"]),
        (["damage", "severe"], True, ["damage", "severe"]),
        (["damage, slight"], True, ["damage", "slight"]),
        (["damage, severe"], False, ["damage", "severe"]),
        (['"damage, severe"', "crack"], False, ["damage, severe", "crack"]),
    ],
)
def test_known_and_quoted_phrases_are_one(adapter: Path, typed, with_adapter: bool, prompted) -> None:
    options = [option for text in typed for option in ("--prompt", text)]
    called = call("predict", IMAGE, *options, *(["--adapter", adapter] if with_adapter else []), "--json")
    assert list(json.loads(called.stdout)["phrases"]) == prompted
    assert ("phrases" in called.stderr) == (len(prompted) > len(typed)), "what was split is told"


def test_of_a_dataset_that_is_gone_the_phrases_in_the_settings_are_known(adapter: Path) -> None:
    data = Path(Run.open(adapter.parent.parent).config.data.path)
    data.rename(data.with_name("moved"))
    called = call("predict", IMAGE, "--prompt", "pipe; rusty", "--adapter", adapter, "--json")
    data.with_name("moved").rename(data)
    assert list(json.loads(called.stdout)["phrases"]) == ["pipe; rusty"]
