"""Phrases on the command line: those that the adapter was trained with are prompted as trained, and routed."""

import json
from pathlib import Path

import pytest

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.taught_phrases import FILE as TAUGHT
from sam3_lora.model.adapter_files.taught_phrases import write as write_taught
from sam3_lora.model.base import load_base
from sam3_lora.runs.run import Run
from tests.cli.helpers import IMAGE, call
from tests.factories import write_dataset
from tests.hostile_adapters import make_adapter


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


@pytest.mark.parametrize(
    ("options", "of_adapter"),
    [
        ([], {"pothole", "toucan"}),
        (["--route"], {"pothole"}),
        (["--taught", "toucans"], {"toucan"}),
        (["--route", "--taught", "joint"], set()),
        (["--no-route", "--taught", "joint"], {"pothole", "toucan"}),
    ],
)
def test_a_phrase_says_who_answered_it(options: list[str], of_adapter: set[str], tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    write_taught(adapter, ["potholes"])
    called = call("predict", IMAGE, "--prompt", "pothole, toucan", "--adapter", adapter, *options, "--json")
    answered = json.loads(called.stdout)["answered_by"]
    assert answered == {phrase: "adapter" if phrase in of_adapter else "base" for phrase in ("pothole", "toucan")}


def test_what_cannot_be_routed_is_refused_before_a_model_is_loaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sam3_lora.predict.predictor.Predictor.load", lambda *_, **__: pytest.fail("it is loaded"))
    adapter = make_adapter(tmp_path / "adapter")
    (adapter / TAUGHT).unlink()
    for options, said in (([], "Expected an adapter"), (["--adapter", adapter], "does not know which phrases")):
        refused = call("predict", IMAGE, "--prompt", "pothole", *options, "--route").exception
        assert isinstance(refused, Sam3LoraError) and said in str(refused)


def test_objects_like_marked_ones_are_looked_for_with_phrases_and_without() -> None:
    marks = ("--like", f"{IMAGE}:10,10,60,60", "--unlike", f"{IMAGE}:80,80,40,40")
    for phrases, names in (((), ["visual"]), (("--prompt", "pothole"), ["pothole"])):
        assert list(json.loads(call("predict", IMAGE, *phrases, *marks, "--json").stdout)["phrases"]) == names
    for wrong in (("--like", f"{IMAGE}:9000,1,3,4"), ("--like", "gone.jpg:1,1,3,4"), marks[2:], ("--like", "x"), ()):
        refused = call("predict", IMAGE, *wrong).exception
        assert isinstance(refused, Sam3LoraError) and refused.fix, wrong
