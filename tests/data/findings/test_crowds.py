"""Crowd regions: counted, told, and learned only if the user says so."""

from __future__ import annotations

import json

import pytest

from sam3_lora.config import Negatives
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrases_for
from tests.cli.helpers import call
from tests.data.findings.helpers import Change, opened
from tests.factories import kinds


def marked(every: int = 1, category: int = 0, **flags) -> Change:
    """Every so many annotations of a category (0: of any) get the flags."""

    def change(data):
        chosen = [entry for entry in data["annotations"] if not category or entry["category_id"] == category]
        for entry in chosen[::every]:
            del entry["iscrowd"]
            entry.update(flags)

    return change


FLAGS = [
    {"iscrowd": 1},
    {"iscrowd": True},
    {"iscrowd": "1"},
    {"iscrowd": 1.0},
    {"iscrowd": " true "},
    {"ignore": 1},
    {"ignore": True},
    {"iscrowd": 0, "ignore": 1},
    {"iscrowd": "0", "ignore": "1"},
]
NO_FLAGS = [
    {"iscrowd": 0, "ignore": 0},
    {"iscrowd": False, "ignore": False},
    {"iscrowd": "0"},
    {"ignore": None},
    {"iscrowd": ""},
]


@pytest.mark.parametrize("flags", FLAGS)
def test_each_way_to_mark_a_crowd_is_counted_and_told(tmp_path, flags):
    dataset = opened(tmp_path, marked(every=2, **flags))
    split, (finding,) = dataset.split("train"), dataset.findings
    assert (split.num_objects, split.num_crowds) == (4, 4) == (finding.count, sum(split.crowds_per_category().values()))
    assert (finding.kind, finding.severity, finding.variant) == ("crowds", "warning", "")
    assert set(finding.image_names) == {image.file_name for image in split.images if image.annotations}


@pytest.mark.parametrize("flags", NO_FLAGS)
def test_what_marks_no_crowd(tmp_path, flags):
    dataset = opened(tmp_path, marked(**flags))
    assert kinds(dataset) == [] and dataset.split("train").num_objects == 8


def test_few_crowds_among_many_objects_are_only_mentioned(tmp_path):
    dataset = opened(tmp_path, marked(every=30, iscrowd=1), images=30, objects=2)
    assert [(one.kind, one.severity, one.count) for one in dataset.findings] == [("crowds", "info", 2)]


@pytest.mark.parametrize("flags", [{"iscrowd": 1}, {"ignore": True}])
def test_a_category_of_crowds_alone_is_an_error(tmp_path, flags):
    (finding,) = opened(tmp_path, marked(category=2, **flags)).findings
    assert (finding.kind, finding.severity, finding.variant) == ("crowds", "error", "only")
    assert finding.facts["only"] == ("pothole",)


def test_a_category_of_crowds_and_objects_under_two_spellings_is_none_of_crowds_alone(tmp_path):
    def change(data):
        data["categories"].append({"id": 50, "name": "Pothole"})
        data["annotations"][0] |= {"category_id": 50, "iscrowd": 1}
        data["annotations"][1]["category_id"] = 2

    found = {finding.kind: finding.variant for finding in opened(tmp_path, change).findings}
    assert found["crowds"] == ""


def test_they_are_learned_as_objects_if_asked(tmp_path):
    opened(tmp_path, marked(iscrowd=1))
    assert kinds(open_dataset(tmp_path)) == ["no-objects"]
    dataset = open_dataset(tmp_path, crowds_as_objects=True)
    split, (finding,) = dataset.split("train"), dataset.findings
    assert (split.num_objects, split.num_crowds) == (8, 0)
    assert (finding.kind, finding.severity, finding.variant, finding.count) == ("crowds", "info", "as-objects", 8)
    positives, _ = phrases_for(split.images[0], dataset.categories, Negatives(0), __import__("random").Random(0))
    assert sum(len(positive.annotations) for positive in positives) == 2


def test_inspect_counts_them(tmp_path):
    opened(tmp_path, marked(every=2, iscrowd=1))
    split = json.loads(call("inspect", tmp_path, "--json").stdout)["splits"]["train"]
    assert (split["objects"], split["crowds"], sum(split["crowds_per_category"].values())) == (4, 4, 4)
    deep = json.loads(call("inspect", tmp_path, "--deep", "--json").stdout)["splits"]["train"]
    assert deep == split
    assert "4 crowd regions" in call("inspect", tmp_path).stdout
    as_objects = json.loads(call("inspect", tmp_path, "--crowds-as-objects", "--json").stdout)["splits"]["train"]
    assert (as_objects["objects"], as_objects["crowds"]) == (8, 0)
