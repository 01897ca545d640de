"""Adapters made to do harm: refused within a second or two, in one sentence, and the model is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.model import lora
from sam3_lora.model.adapter_files.adapter_base import FILE, read
from sam3_lora.model.adapter_files.saved_adapter import open_adapter
from sam3_lora.model.base import load_base, load_config
from sam3_lora.model.base_files.architecture import skeleton
from sam3_lora.model.warm_start import start_from
from tests.hostile_adapters import CASES, ENDLESS, SLOW, make_adapter, settings

SECONDS = 2.5  # of processor time; patterns may take one of them


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapters") / "good")


@pytest.fixture(scope="module")
def base():
    return skeleton(load_config("demo"))


@pytest.fixture
def adapter(good: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(good, tmp_path / "adapter"))


def test_the_good_one_is_taken(good: Path, base) -> None:
    saved = open_adapter(base, good)
    assert len(saved.weights) == 2 * len(saved.layers) > 10
    assert {(layer.rank, layer.alpha) for layer in saved.layers.values()} == {(4, 8.0)}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_at_once_in_one_sentence(name: str, adapter: Path, base) -> None:
    damage, message = CASES[name]
    damage(adapter)
    started = time.thread_time()
    with pytest.raises(ModelError, match=message) as refused:
        lora.load(base, adapter)
    assert time.thread_time() - started < SECONDS
    said = str(refused.value)
    assert refused.value.fix and "\n" not in said and len(said) < 700
    assert not lora.adapted_components(base)


# Its own process, because what it must not do is hang. One line per pattern, so that the one that hangs is known.
_SCRIPT = """
import sys, time
from pathlib import Path
from sam3_lora.errors import ModelError
from sam3_lora.model.adapter_files.saved_adapter import open_adapter
from sam3_lora.model.base import load_config
from sam3_lora.model.base_files.architecture import skeleton
base = skeleton(load_config("demo"))
for folder in sorted(Path(sys.argv[1]).iterdir()):
    started = time.thread_time()
    try:
        open_adapter(base, folder)
        result = "taken"
    except ModelError:
        result = "refused"
    print(folder.name, result, time.thread_time() - started, flush=True)
"""


@pytest.mark.timeout(600)  # where the machine has much else to do
def test_patterns_without_an_end_neither_hang_nor_matter(good: Path, tmp_path: Path) -> None:
    def with_settings(name: str, **values: object) -> None:
        settings(**values)(Path(shutil.copytree(good, tmp_path / "made" / name)))

    for number, pattern in enumerate(SLOW[:2]):
        with_settings(f"slow-{number}", target_modules=pattern)
    for number, pattern in enumerate(ENDLESS):
        with_settings(f"{number}-target", target_modules=pattern)
    for number, pattern in enumerate(ENDLESS[:2]):
        with_settings(f"{number}-exclude", exclude_modules=pattern)
        with_settings(f"{number}-rank", rank_pattern={pattern: 3})
        with_settings(f"{number}-alpha", alpha_pattern={pattern: 3})
        with_settings(f"{number}-layers", target_modules=["q_proj"], layers_to_transform=0, layers_pattern=pattern)
    many = {f"{pattern}{number}": 3 for number in range(300) for pattern in ENDLESS + SLOW if len(pattern) < 1000}
    with_settings("many", rank_pattern=many, alpha_pattern=many)
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "made")]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True).stdout
    except subprocess.TimeoutExpired as hung:
        pytest.fail(f"hangs after {(hung.stdout or b'').decode().splitlines()[-1:]}")
    results = [line.split() for line in output.splitlines()]
    assert len(results) == len(ENDLESS) + 4 * 2 + 2 + 1
    assert [(name, seconds) for name, _, seconds in results if float(seconds) > SECONDS] == []
    taken = {name for name, result, _ in results if result == "taken"}
    assert {f"{number}-{kind}" for number in range(2) for kind in ("exclude", "rank", "alpha")} <= taken, (
        "match nothing"
    )
    assert not any(name.endswith(("target", "layers")) or name.startswith("slow") for name in taken)


def test_a_base_model_file_that_is_no_file_or_says_too_much_is_refused(adapter: Path) -> None:
    import os

    for make in (
        os.mkfifo,
        lambda path: path.write_text('{"image_size": true}'),
        lambda path: path.write_bytes(b" " * 2_000_000),
        lambda path: path.symlink_to("/dev/zero"),
    ):
        (adapter / FILE).unlink()
        make(adapter / FILE)
        with pytest.raises(ModelError, match=FILE):
            read(adapter)


def test_a_warm_start_takes_no_hostile_adapter_and_no_other_scale(adapter: Path) -> None:
    chosen = AdapterConfig(rank=4, alpha=8, components=["detr_decoder"])
    model = lora.attach(load_base("demo").model, chosen)
    start_from(model, adapter, chosen)
    settings(alpha_pattern={"q_proj": 16})(adapter)
    with pytest.raises(ConfigError, match=r"several values of lora\.alpha"):
        start_from(model, adapter, chosen)
    settings(alpha_pattern={".*": 16})(adapter)
    with pytest.raises(ConfigError, match=r"Set lora\.alpha to 16"):
        start_from(model, adapter, chosen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("NaN", "integers", "fewer layers than weights", "all large"):
        folder = Path(shutil.copytree(adapter, adapter.parent / name))
        settings(alpha_pattern={})(folder)
        CASES[name][0](folder)
        with pytest.raises(ModelError, match=CASES[name][1]):
            start_from(model, folder, chosen)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
