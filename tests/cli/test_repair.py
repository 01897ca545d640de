"""sam3-lora repair: shows what edits mend, keeps them, and writes the dataset anew."""

import json

import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.edits.file import read_edits
from sam3_lora.errors import Sam3LoraError
from tests.cli.helpers import call
from tests.data.edits.test_mutated import tree
from tests.factories import write_dataset, write_spoiled


def faulty(data: dict) -> None:
    data["annotations"].append({**data["annotations"][0], "id": 99})
    data["annotations"][3]["iscrowd"] = 1
    data["images"].append({"id": 50, "file_name": "gone.png", "width": 9, "height": 9})


@pytest.fixture
def dataset(tmp_path):
    return write_spoiled(tmp_path / "data", faulty)


def test_it_shows_what_can_be_mended_and_changes_nothing(dataset):
    before = tree(dataset.parent)
    printed = call("repair", dataset).stdout
    assert "--fix image-missing" in printed and "--fix crowds, if you are sure" in printed
    report = json.loads(call("repair", dataset, "--json").stdout)
    assert report["edits"] == report["mended"] == report["new"] == [] and tree(dataset.parent) == before
    assert {"duplicate-annotation", "image-missing", "crowds"} <= {one["kind"] for one in report["left"]}


def test_it_mends_keeps_the_edits_and_writes(tmp_path, dataset):
    before = tree(dataset)
    kept, out = tmp_path / "edits.yaml", tmp_path / "new"
    asked = call("repair", dataset, "--fix", "all", "--save", kept, "--out", out, "--link", "--json")
    report = json.loads(asked.stdout)
    assert {one["kind"] for one in report["mended"]} == {"duplicate-annotation", "image-missing"}
    assert report["splits"]["train"]["before"]["images"] == 6 and report["splits"]["train"]["after"]["images"] == 5
    assert report["written"]["images"] == 5 and len(report["edits"]) == 2 == len(read_edits(kept).edits)
    assert tree(dataset) == before
    again = json.loads(call("repair", dataset, "--edits", kept, "--fix", "crowds", "--json").stdout)
    assert len(again["edits"]) == 3 and again["splits"]["train"]["after"]["crowds"] == 0
    both = json.loads(call("repair", dataset, "--fix", "crowds", "--fix", "all", "--fast", "--json").stdout)
    assert {*map(str, both["edits"])} == {*map(str, again["edits"])}
    assert {finding.kind for finding in open_dataset(out).findings} == {"crowds"}
    assert "5 images" in call("inspect", dataset, "--edits", kept).stdout


def test_it_holds_out_a_share():
    report = json.loads(call("repair", "demo", "--hold-out", "train:test:0.25", "--fast", "--json").stdout)
    counts = {name: (one["before"]["images"], one["after"]["images"]) for name, one in report["splits"].items()}
    assert counts == {"train": (64, 48), "valid": (24, 24), "test": (0, 16)}


def test_two_datasets_are_written_as_one(tmp_path, dataset):
    other = write_dataset(tmp_path / "other", ("train",), categories=("Cracks", "manhole"))
    printed = call("repair", dataset, "--fast", "--merge", other, "--out", tmp_path / "both").stdout
    assert "Cracks (4 objects): becomes crack" in printed and "manhole (4 objects): new" in printed
    both = open_dataset(tmp_path / "both")
    assert {"crack", "manhole"} <= {*both.categories} and "Cracks" not in both.categories
    assert len(both.split("train").images) == 5 + 5  # the file of one more is missing


def test_mistakes_are_one_sentence(tmp_path, dataset):
    (tmp_path / "bad.yaml").write_text("edits: 3")
    for options in (
        ("--merge", "demo"),
        ("--fix", "nonsense"),
        ("--fix", "size-mismatch"),
        ("--edits", tmp_path / "bad.yaml"),
        ("--out", dataset / "inside"),
        ("--out", tmp_path),
        ("--save", tmp_path / "bad.yaml" / "edits.yaml"),
        ("--hold-out", "train:0.1"),
        ("--hold-out", "train:test:1.5"),
        ("--hold-out", "nowhere:test:0.5"),
    ):
        error = call("repair", dataset, *options).exception
        assert isinstance(error, Sam3LoraError) and "\n" not in str(error), options
