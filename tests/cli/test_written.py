"""Where commands write: checked before the work, nothing half written, what was measured is printed in any case."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.evaluate import store
from sam3_lora.runs.run import Run
from tests.cli.helpers import IMAGE, call
from tests.factories import write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", ("valid",), images=1, objects=1, empty_images=0)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes long fails the test."""

    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("the target is checked before the work begins")

    for place in (
        "sam3_lora.predict.predictor.Predictor.load",
        "sam3_lora.data.doctor.examine",
        "sam3_lora.data.formats.png_masks._pairs",
        "sam3_lora.model.merge.load_base",
    ):
        monkeypatch.setattr(place, work)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["evaluate", "inspect", "inspect --report", "predict", "merge", "convert-masks"])
@pytest.mark.parametrize("target", ["in no folder", "in a file", "a folder", "of another kind"])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    command: str, target: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.md").mkdir()
    out = {
        "in no folder": tmp_path / "mistyped" / "report.md",
        "in a file": tmp_path / "file" / "report.md",
        "a folder": tmp_path / "folder.md",
        "of another kind": tmp_path / "report.txt",
    }[target]
    takes_folder = command in ("predict", "merge", "convert-masks")
    if takes_folder and target != "in a file":
        pytest.skip("a folder is made, and may have any name")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "demo"}'
    )
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    arguments = {
        "evaluate": ["evaluate", data, "--out", out],
        "inspect": ["inspect", data, "--out", out],
        "inspect --report": ["inspect", data, "--report", out],
        "predict": ["predict", IMAGE, "--prompt", "x", "--out", out],
        "merge": ["merge", tmp_path / "adapter", out],
        "convert-masks": ["convert-masks", data / "valid", data / "valid", out, "--class", "1=crack"],
    }[command]
    result = call(*arguments)
    assert isinstance(result.exception, Sam3LoraError) and result.exception.fix
    assert out.name in str(result.exception)
    assert sorted(tmp_path.rglob("*")) == before


def full(path: Path, data: str | bytes) -> None:
    raise OSError(28, "No space left on device")


def test_an_examination_is_printed_although_its_report_cannot_be_written(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sam3_lora.cli.output.atomic_write", full)
    result = call("inspect", data, "--out", tmp_path / "report.md", "--json")
    assert "No space left" in str(result.exception)
    assert json.loads(result.stdout)["images"] == 1
    assert not list(tmp_path.glob("*report*"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sam3_lora.model import lora
    from sam3_lora.model.base import load_base

    folder = tmp_path_factory.mktemp("adapter") / "saved"
    lora.save(lora.attach(load_base("demo").model, RunConfig().lora), folder, "demo")
    return folder


@pytest.fixture
def adapter(saved: Path, tmp_path: Path) -> Path:
    """The adapter of a run."""
    run = Run.create(RunConfig().with_settings({"output.runs": str(tmp_path / "runs"), "output.name": "tried"}))
    return Path(shutil.copytree(saved, run.folder / "adapters" / "best"))


@pytest.mark.parametrize("place", ["sam3_lora.evaluate.store.atomic_write", "sam3_lora.cli.output.atomic_write"])
def test_an_evaluation_is_printed_although_it_cannot_be_written(adapter, data, tmp_path, monkeypatch, place) -> None:
    monkeypatch.setattr(place, full)
    out = tmp_path / "report.json"
    result = call("evaluate", data, "--adapter", adapter, "--out", out, "--json")
    assert "No space left" in str(result.exception)
    printed = json.loads(result.stdout)
    assert printed["base"] and printed["adapter"]
    assert (printed["stored"] is None) == ("store" in place), "the other one is written all the same"
    assert out.exists() == ("store" in place)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_that_takes_no_file_is_told_before_and_its_evaluation_printed(adapter, data) -> None:
    (adapter.parent.parent / store.FOLDER).write_text("a file where the folder would be")
    result = call("evaluate", data, "--adapter", adapter, "--json")
    assert result.exception is None
    assert "will not be stored" in result.stderr
    assert json.loads(result.stdout)["stored"] is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_of_adapters_and_merged_models_follow_the_umask(adapter: Path, tmp_path: Path, umask: int) -> None:
    from sam3_lora.model import lora
    from sam3_lora.model.base import load_base
    from sam3_lora.model.merge import merge_into_folder

    before = os.umask(umask)
    try:
        model = lora.load(load_base("demo").model, adapter)
        lora.save(model, tmp_path / "new", "demo", "# Card")
        lora.save(model, tmp_path / "new", "demo", "# Card")  # replaces the first
        merge_into_folder("demo", adapter, tmp_path / "merged")
    finally:
        os.umask(before)
    files = [*(tmp_path / "new").iterdir(), *(tmp_path / "merged").rglob("*.*")]
    assert {"adapter_model.safetensors", "README.md", "model.safetensors"} <= {file.name for file in files}
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in files} == {
        file.name: oct(0o666 & ~umask) for file in files
    }
