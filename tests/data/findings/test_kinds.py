"""Every fault has its finding: a sound dataset with exactly one fault gives exactly that one."""

from __future__ import annotations

import math
import re

import pytest

from sam3_lora.data.findings import messages_annotations, messages_values
from tests.data.findings.helpers import HEIGHT, WIDTH, again, append, first, image, opened
from tests.factories import kinds

SEVERITIES = {
    kind: severity
    for messages in (messages_annotations, messages_values)
    for severity, kinds_of in (("error", messages.ERRORS), ("warning", messages.WARNINGS), ("info", messages.INFOS))
    for kind in kinds_of
}
ANNOTATION_FAULTS = [
    ("bad-bbox", first(bbox=[math.nan, 1, 2, 3])),
    ("bad-bbox", first(bbox=[math.inf, 1, 2, 3])),
    ("bad-bbox", first(bbox=[10, 10, 0, 5])),
    ("other-notation", first(bbox=[10, 10, 5, -5])),
    ("bad-bbox", first(bbox=[10, 10, 5])),
    ("other-notation", first(bbox="10 10 5 5")),
    ("bad-bbox", first(bbox="1055")),
    ("other-notation", first(bbox=["10", "10", "5", "5"])),
    ("other-notation", first(bbox={"x": 1, "y": 2, "w": 3, "h": 4})),
    ("bad-bbox", first(bbox={"x": 1, "y": 2})),
    ("turned-boxes", first(bbox=[30, 30, 20, 10, 0.5], segmentation=None)),
    ("bad-bbox", first(bbox=[10**400, 1, 5, 5])),
    ("bad-bbox", first(bbox=[[10], [10], [5], [5]])),
    ("bad-bbox", first(bbox=None, segmentation=None)),
    ("box-from-mask", first(bbox=None)),
    ("boxes-normalized", first(bbox=[0.2, 0.3, 0.1, 0.2])),
    ("boxes-outside-image", first(bbox=[WIDTH + 10, 5, 10, 10])),
    ("boxes-outside-image", first(bbox=[20, 5, WIDTH, 10])),
    ("boxes-outside-image", first(bbox=[-30, 5, 40, 10])),
    ("bad-segmentation", first(segmentation=[[1, 1, 5, 5]])),
    ("bad-segmentation", first(segmentation=[[1, 1, 5, 5, 3]])),
    ("bad-segmentation", first(segmentation=[[1, 1, 5, 5, 3, math.nan]])),
    ("other-notation", first(segmentation=[1, 1, 5, 5, 3, 3])),
    ("other-notation", first(segmentation=[["1", 1, 5, 5, 3, 3]])),
    ("bad-segmentation", first(segmentation="1 1 5 5 3 3")),
    ("bad-segmentation", first(segmentation={"size": [WIDTH, HEIGHT], "counts": "abc"})),
    ("bad-segmentation", first(segmentation={"size": [HEIGHT, WIDTH]})),
    ("bad-segmentation", first(segmentation={"counts": [1, 2]})),
    ("bad-segmentation", first(segmentation={"size": [HEIGHT, WIDTH], "counts": [5, -5]})),
    ("bad-segmentation", first(segmentation={"size": [HEIGHT, WIDTH], "counts": "]]oo"})),
    ("bad-segmentation", first(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]])),
    ("bad-segmentation", first(segmentation=[[0.1, 0.1, 0.5, 0.1, 0.5, 1]])),
    ("bad-iscrowd", first(iscrowd="no")),
    ("unknown-image", first(image_id=99)),
    ("unknown-image", first(image_id=[0])),
    ("unknown-image", first(image_id=None)),
    ("other-notation", first(image_id="0")),
    ("unknown-category", first(category_id=99)),
    ("unknown-category", first(category_id={"id": 1})),
    ("unknown-category", first(category_id=None)),
    ("bad-annotation", append("annotations", "crack")),
    ("bad-annotation", append("annotations", None)),
    ("duplicate-annotation", again("annotations", id=1000)),
    ("annotation-without-id", first(id=None)),
    ("annotation-without-id", first(id=[1])),
    ("duplicate-annotation-id", first(id=1)),
    ("annotations-wrong-key", first(bbox=None, segmentation=None, bboxes=[1, 2, 30, 40])),
]
FILE_FAULTS = [
    ("image-missing", append("images", {"id": 50, "file_name": "gone.png", "width": WIDTH, "height": HEIGHT})),
    ("path-outside-dataset", append("images", {"id": 50, "file_name": "../../a.png", "width": 9, "height": 9})),
    ("path-outside-dataset", append("images", {"id": 50, "file_name": "/etc/a.png", "width": 9, "height": 9})),
    ("path-outside-dataset", append("images", {"id": 50, "file_name": "..\\..\\a.png", "width": 9, "height": 9})),
    ("path-outside-dataset", append("images", {"id": 50, "file_name": "C:\\a.png", "width": 9, "height": 9})),
    ("bad-image", append("images", {"id": 50, "file_name": 3, "width": 9, "height": 9})),
    ("bad-image", append("images", {"id": 50, "width": 9, "height": 9})),
    ("bad-image", append("images", {"id": None, "file_name": "a.png", "width": 9, "height": 9})),
    ("bad-image", append("images", {"id": [1], "file_name": "a.png", "width": 9, "height": 9})),
    ("bad-image", append("images", ["a.png"])),
    ("bad-image-size", image(width=0)),
    ("other-notation", image(width="64")),
    ("bad-image-size", image(height=None)),
    ("bad-image-size", image(height=math.nan)),
    ("bad-image-size", image(width=10**30)),
    ("bad-image-size", image(width=100_000, height=100_000)),
    ("size-mismatch", lambda data: data["images"][-1].update(width=WIDTH * 2, height=HEIGHT)),
    ("image-scaled", lambda data: data["images"][-1].update(width=WIDTH * 2, height=HEIGHT * 2)),
    ("image-scaled", lambda data: data["images"][-1].update(width=WIDTH * 3 // 2 + 1, height=HEIGHT * 3 // 2)),
    ("duplicate-file", again("images", id=50)),
    ("duplicate-file", again("images")),
    ("duplicate-image-id", lambda data: data["images"][-1].update(id=0)),
    ("bad-category", append("categories", {"id": 50})),
    ("bad-category", append("categories", {"id": 50, "name": " _ "})),
    ("bad-category", append("categories", {"id": 50, "name": None})),
    ("bad-category", append("categories", {"id": 50, "name": "--"})),
    ("bad-category", append("categories", {"id": {}, "name": "dent"})),
    ("bad-category", append("categories", 3)),
    ("same-phrase", lambda data: data["categories"][2].update(name="POTHOLE")),
    ("unused-category", append("categories", {"id": 50, "name": "potholes"})),
]


@pytest.mark.parametrize(("kind", "change"), ANNOTATION_FAULTS + FILE_FAULTS)
def test_one_fault_one_finding(tmp_path, kind, change):
    dataset = opened(tmp_path, change)
    (finding,) = (one for one in dataset.findings if one.kind != "json-not-strict")  # because of NaN
    assert finding.kind == kind
    assert finding.count == 1 and len(finding.locations) == 1
    recovered = kind == "bad-bbox" and dataset.split("train").num_objects == 8
    assert finding.severity == ("warning" if recovered else SEVERITIES[kind])
    assert finding.split == ("" if kind in ("same-phrase", "unused-category") else "train")
    assert finding.message.endswith(".") and finding.fix.endswith(".")
    assert not re.search(r"\{\w+\}", finding.message + finding.fix)


@pytest.mark.parametrize(("kind", "change"), ANNOTATION_FAULTS)
def test_a_fault_in_an_annotation_leaves_the_others_and_says_where(tmp_path, kind, change):
    dataset = opened(tmp_path, change)
    split = dataset.split("train")
    assert split.num_objects in (7, 8)
    if split.num_objects == 7 and not kind.startswith("unknown"):
        assert split.images[0].unusable_categories == {"crack"}
    if kind == "unknown-category":  # it may be any
        assert split.images[0].unusable_categories == set(split.categories)
    if kind not in ("unknown-image", "bad-annotation", "annotation-without-id", "duplicate-annotation-id"):
        assert dataset.findings[0].locations[0].image == split.images[0].file_name
    assert dataset.findings[0].locations[0].annotation is not None


def test_every_kind_of_finding_is_tested():
    tested = {kind for kind, _ in ANNOTATION_FAULTS + FILE_FAULTS}
    elsewhere = {
        "boxes-misread",
        "crowds",
        "image-elsewhere",
        "image-ambiguous",
        "masks-wrong-key",
        "no-objects",
        "no-images",
        "split-unreadable",
        "image-orientation-unclear",
        "image-unreadable",
        "duplicate-category-id",
        "nameless-category",
    }
    assert tested | elsewhere == set(SEVERITIES)


@pytest.mark.parametrize("name", [None, "", " ", "***", ["pothole"]])
def test_objects_of_a_category_without_a_name_are_counted_and_name_the_cause(tmp_path, name):
    dataset = opened(tmp_path, lambda data: data["categories"][1].update(name=name))
    assert set(kinds(dataset)) == {"bad-category", "nameless-category"}
    nameless = next(finding for finding in dataset.findings if finding.kind == "nameless-category")
    assert nameless.count + dataset.split("train").num_objects == 8 and nameless.image_names


@pytest.mark.parametrize("value", [None, {"1": "crack"}, "crack"])
def test_categories_that_are_no_list_are_the_cause(tmp_path, value):
    dataset = opened(tmp_path, lambda data: data.update(categories=value))
    assert kinds(dataset) == ["bad-category", "unknown-category"]
    assert (dataset.findings[0].variant, dataset.findings[0].severity) == ("no-list", "error")


def test_an_emoji_is_a_name(tmp_path):
    dataset = opened(tmp_path, lambda data: data["categories"][1].update(name="🕳\ufe0f"))
    assert kinds(dataset) == [] and "🕳\ufe0f" in dataset.categories


@pytest.mark.parametrize("step", [-1, 1])
def test_ids_of_categories_that_are_all_one_off(tmp_path, step):
    def change(data):
        for entry in data["annotations"]:
            entry["category_id"] += step

    (finding,) = opened(tmp_path, change).findings
    assert (finding.kind, finding.variant) == ("unknown-category", "shifted")
    assert finding.facts["unused"] == (3 if step < 0 else 1)


@pytest.mark.parametrize("number", [0, 4, 9, "x"])
def test_one_unknown_category_beside_all_others_is_not_one_off(tmp_path, number):
    (finding,) = opened(tmp_path, first(category_id=number)).findings
    assert (finding.kind, finding.variant) == ("unknown-category", "")
