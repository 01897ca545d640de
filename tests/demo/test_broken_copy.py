"""The broken copy of the demo dataset holds every fault that the app can find, each where its name says."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from sam3_lora.config import ASSETS
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.doctor import examine
from sam3_lora.data.findings import messages, messages_doctor, messages_edits, messages_formats, messages_prompts
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.images import load_image
from sam3_lora.demo.broken_copy import FAULTS, make_broken_copy
from sam3_lora.errors import DataError

OF_FORMATS = {*messages_formats.ERRORS, *messages_formats.WARNINGS, *messages_formats.INFOS}  # no COCO file has them
OF_FORMATS |= {*messages_prompts.WARNINGS, *messages_prompts.INFOS}  # what files say on purpose is no fault
OF_FORMATS |= {*messages_edits.WARNINGS}  # nor are edits that do not fit
# What a whole split of boxes in other numbers has.
BY_WHOLE_SPLIT = {"boxes-normalized", "boxes-misread", "box-mask-mismatch", "boxes-outside-image"}
OF_DOCTOR = {*messages_doctor.ERRORS, *messages_doctor.WARNINGS, *messages_doctor.INFOS}
DEMO = ASSETS / "demo" / "dataset"
SCRIPT = ASSETS.parent / "scripts" / "make_demo_dataset.py"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    before = contents(DEMO)
    out = make_broken_copy(DEMO, tmp_path_factory.mktemp("broken") / "broken-demo")
    assert contents(DEMO) == before
    return out


def held(findings: tuple[Finding, ...], kinds: Iterable[str]) -> None:
    """Asserts that every kind is found, in the split of the fault and in the image named after it."""
    found = {(finding.kind, finding.split): finding for finding in findings}
    for kind in kinds:
        finding = found.get((kind, FAULTS[kind].split)) or found.get((kind, ""))
        assert finding is not None, kind
        stems = {Path(name).stem for name in finding.image_names}
        assert not stems or kind in stems or (kind, stems) == ("duplicate-image-id", {"sound"}), kind


def test_opening_finds_every_kind_in_the_image_named_after_it(broken):
    dataset = open_dataset(broken)
    kinds = messages.WORDINGS.keys() - OF_FORMATS - OF_DOCTOR
    assert {finding.kind for finding in dataset.findings} == kinds
    held(dataset.findings, kinds)


def test_examining_finds_every_kind_in_the_image_named_after_it(broken):
    findings = examine(open_dataset(broken)).findings
    assert {finding.kind for finding in findings} == messages.WORDINGS.keys() - OF_FORMATS == set(FAULTS)
    held(findings, FAULTS)
    repeated = {(finding.kind, finding.count) for finding in findings if finding.image_names and finding.count > 1}
    assert {kind for kind, _ in repeated} == BY_WHOLE_SPLIT, repeated


def test_most_images_can_be_looked_at(broken):
    looked_at = []
    for split in open_dataset(broken).splits.values():
        for record in split.images:
            try:
                looked_at.append(load_image(record).ndim == 3)
            except DataError:
                looked_at.append(False)
    assert sum(looked_at) >= 0.8 * len(looked_at) > 20


def test_the_same_source_gives_the_same_copy(broken, tmp_path):
    again = make_broken_copy(DEMO, tmp_path / "again")
    first = contents(again)
    assert first == contents(broken)
    assert contents(make_broken_copy(DEMO, again)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_it_is_small_and_explains_itself(broken):
    files = contents(broken)
    assert sum(map(len, files.values())) < 8 * 2**20
    guide = files["README.md"].decode()
    for fault in FAULTS.values():
        assert f"| {fault.split} | {fault.kind} | {fault.sentence} |" in guide
        assert fault.sentence.endswith(".") and "\n" not in fault.sentence


def test_nothing_else_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        make_broken_copy(DEMO, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="is not empty"):
        make_broken_copy(DEMO, tmp_path / "notes.txt")


def test_a_source_that_is_none(tmp_path):
    with pytest.raises(DataError, match="demo dataset"):
        make_broken_copy(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_script_makes_it(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make_demo_dataset.py", "--broken", "--out", str(tmp_path / "out")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert contents(tmp_path / "out") == contents(broken)
    monkeypatch.setattr(sys, "argv", ["make_demo_dataset.py", "--broken"])
    with pytest.raises(SystemExit):  # the default of --out is the demo dataset itself
        runpy.run_path(str(SCRIPT), run_name="__main__")
