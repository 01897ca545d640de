"""Keys that are not read and could matter are named; those that every tool writes are not."""

from __future__ import annotations

import pytest

from tests.data.findings.helpers import again, every_annotation, first, image, opened
from tests.factories import kinds


@pytest.mark.parametrize(
    "change",
    [
        first(IsGroupOf=True),
        first(is_depiction=1),
        first(score=0.31),
        first(deleted=True),
        first(attributes={"difficult": True}),
        first(is_verified=False),
        first(is_exhaustive=True),
        image(negative_category_ids=[3]),
        image(absent=["joint"]),
        image(exhaustive=False),
        image(verified=0),
        image(annotated=False),
        image(is_labeled=0),
    ],
)
def test_a_key_that_may_say_what_is_learned_is_a_warning(tmp_path, change):
    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["flags-not-read"]
    (finding,) = dataset.findings
    assert finding.severity == "warning" and finding.count == 1
    assert finding.image_names in (("0_000.png",), ())
    assert finding.message.startswith("1 key of") and finding.fix


@pytest.mark.parametrize(
    "change",
    [
        first(noun_phrase="a deep pothole"),
        first(tokens_positive=[[2, 6]]),
        image(caption="a hole in the road"),
        image(text_prompt="pothole"),
        lambda data: data["categories"][0].update(phrases=["hole"]),
    ],
)
def test_a_key_that_may_hold_phrases_is_a_warning(tmp_path, change):
    (finding,) = opened(tmp_path, change).findings
    assert (finding.kind, finding.severity, finding.count) == ("phrases-not-read", "warning", 1)


@pytest.mark.parametrize(
    "change",
    [
        first(weather="rain"),
        first(attributes={"lane": 3}),
        image(camera={"f": 1}),
        first(depth=1.5),
        first(obb=[1, 2, 3, 4, 0.5]),
    ],
)
def test_other_keys_are_told(tmp_path, change):
    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["keys-not-read"] and dataset.findings[0].severity == "info"


@pytest.mark.parametrize(
    "change",
    [
        first(area=3, score=0, difficult=False, attributes={"occluded": True, "difficult": False}),
        first(IsGroupOf=0, is_verified=True, keypoints=[1, 2, 2], lane=[], parent=None, text="", deleted=False),
        image(annotated=True, num_annotations=2),
        image(license=1, flickr_url="u", date_captured="2013", extra={"name": "x"}),
        lambda data: data["categories"][0].update(color="red", isthing=1, synset="crack.n.01"),
    ],
)
def test_usual_keys_and_flags_that_are_not_set_say_nothing(tmp_path, change):
    assert kinds(opened(tmp_path, change)) == []


def test_each_key_is_counted_once_and_says_in_how_many_entries(tmp_path):
    def change(data):
        every_annotation(lambda entry: entry.update(score=0.5))(data)
        again("images", id=1, file_name="0_001.png")

    (finding,) = opened(tmp_path, change).findings
    assert finding.count == 1 and "8 of the first 8 annotations" in finding.locations[0].detail
    assert len(finding.image_names) == 4
