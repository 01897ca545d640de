"""Every way in reads an adapter in the same careful way, as a regular expression shows that PEFT alone would take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS
from sam3_lora.model.base import load_base
from sam3_lora.predict.predictor import Predictor
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import fit
from tests.cli.helpers import IMAGE, call
from tests.hostile_adapters import Damage, replaced, settings

# Selects what the adapter changes; Python's re reads it, RE2 does not.
LOOK_AHEAD = settings(target_modules=r"(?=dot_product_scoring).*_proj")
NO_FILE = replaced(WEIGHTS, os.mkfifo)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    components = AdapterConfig(components=["scoring"], modules=["q_proj", "k_proj"])
    folder = tmp_path_factory.mktemp("adapter") / "good"
    lora.save(lora.attach(load_base("demo").model, components), folder, "demo")
    return folder


@pytest.fixture
def adapter(good: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(good, tmp_path / "adapter"))


def of_command(*arguments: object) -> Callable[[Path, Path], str]:
    def use(adapter: Path, out: Path) -> str:
        given = [{"ADAPTER": adapter, "OUT": out}.get(str(argument), argument) for argument in arguments]
        result = call(*given)
        assert isinstance(result.exception, Sam3LoraError), result.output
        assert "Traceback" not in result.output
        return str(result.exception)

    return use


def of_predictor(adapter: Path, out: Path) -> str:
    with pytest.raises(Sam3LoraError) as refused:
        Predictor.load(adapter=adapter)
    return str(refused.value)


def of_training(adapter: Path, out: Path) -> str:
    chosen = {"lora.components": ["scoring"], "lora.modules": ["q_proj", "k_proj"], "output.runs": str(out)}
    run = Run.create(RunConfig().with_settings(chosen | {"model.adapter": str(adapter)}))
    with pytest.raises(Sam3LoraError) as refused:
        fit(run)
    return str(refused.value)


WAYS = {
    "predict": of_command("predict", IMAGE, "--prompt", "x", "--adapter", "ADAPTER"),
    "evaluate": of_command("evaluate", "demo", "--split", "valid", "--adapter", "ADAPTER"),
    "merge": of_command("merge", "ADAPTER", "OUT"),
    "script": of_predictor,
    "warm start": of_training,
}


@pytest.mark.parametrize(("damage", "said"), [(LOOK_AHEAD, "regular expression"), (NO_FILE, "no regular file")])
@pytest.mark.parametrize("way", WAYS)
def test_a_hostile_adapter_is_refused_whichever_way_it_comes(
    way: str, damage: Damage, said: str, adapter: Path, tmp_path: Path
) -> None:
    damage(adapter)
    message = WAYS[way](adapter, tmp_path / "out")
    assert said in message and "\n" not in message
    assert not list(tmp_path.glob("out/*")) or way == "warm start"
