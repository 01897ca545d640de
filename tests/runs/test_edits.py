"""A run keeps a copy of the edits that its dataset is opened with: what happens to the file later does not matter."""

from __future__ import annotations

import shutil

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.file import write_edits
from sam3_lora.data.edits.kinds import CrowdsToObjects, EditList, ExcludeImages
from sam3_lora.errors import DataError
from sam3_lora.runs.fingerprint import changes, fingerprint
from sam3_lora.runs.run import Run, list_runs
from tests.factories import write_dataset


@pytest.fixture
def config(tmp_path) -> RunConfig:
    folder = write_dataset(tmp_path / "data")
    name = open_dataset(folder).split("train").images.names[0]
    write_edits(tmp_path / "edits.yaml", EditList((ExcludeImages("train", (name,)),)))
    settings = {"data.path": str(folder), "data.edits": str(tmp_path / "edits.yaml")}
    return RunConfig().with_settings({**settings, "output.runs": str(tmp_path / "runs")})


def test_a_run_keeps_its_edits_wherever_it_is(tmp_path, config):
    wanted = open_dataset(**config.data.reading).split("train").images.names
    run = Run.create(config)
    (tmp_path / "edits.yaml").unlink()
    assert "  edits: edits.yaml" in (run.folder / "config.yaml").read_text()
    moved = Run.open(shutil.move(run.folder, tmp_path / "elsewhere"))
    assert open_dataset(**moved.config.data.reading).split("train").images.names == wanted
    again = Run.create(moved.config.with_settings({"output.name": "again"}))
    assert (again.folder / "edits.yaml").read_text() == (moved.folder / "edits.yaml").read_text()


def test_edits_that_cannot_be_read_begin_no_run(tmp_path, config):
    (tmp_path / "edits.yaml").write_text("edits: [{edit: nothing}]")
    with pytest.raises(DataError, match=r"edits\.yaml"):
        Run.create(config)
    assert list_runs(tmp_path / "runs") == []


def test_other_edits_change_the_fingerprint(config):
    data = config.data.reading
    edited = fingerprint(open_dataset(**data).splits.values())
    plain = fingerprint(open_dataset(**{**data, "edits": ""}).splits.values())
    other = fingerprint(open_dataset(**{**data, "edits": EditList((CrowdsToObjects("train"),))}).splits.values())
    assert edited == fingerprint(open_dataset(**data).splits.values())
    assert "train" in changes(plain, edited) and "train" in changes(edited, other)
