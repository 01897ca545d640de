"""Boxes that are not left, top, width and height: the masks name what they are, and refute what they are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.doctor import examine
from tests.data.findings.helpers import HEIGHT, WIDTH, every_annotation, opened
from tests.factories import kinds, octagon

LAYOUTS: dict[str, Callable[[float, float, float, float], list[float]]] = {
    "as-centers": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "as-corners": lambda x, y, w, h: [x, y, x + w, y + h],
    "as-rows-and-columns": lambda x, y, w, h: [y, x, h, w],
    "as-corners-in-rows-and-columns": lambda x, y, w, h: [y, x, y + h, x + w],
}
BOXES = [[3, 2, 26, 9], [34, 20, 8, 20], [5, 30, 20, 6], [40, 4, 8, 14]]


def written(folder, layout: Callable[..., list[float]], *, masks: bool = True, boxes=BOXES, wrong: int = 99) -> Dataset:
    """A dataset of BOXES; the first `wrong` boxes are written in a layout, all others as in COCO."""

    def change(data):
        for number, entry in enumerate(data["annotations"]):
            box = boxes[number % len(boxes)]
            entry["bbox"] = layout(*box) if number < wrong else box
            entry["segmentation"] = octagon(tuple(box)) if masks else []

    return opened(folder, change, objects=1, images=8)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_masks_name_the_layout(tmp_path, name):
    dataset = written(tmp_path, LAYOUTS[name])
    found = {finding.kind: finding for finding in dataset.findings}
    misread = found["boxes-misread"]
    assert (misread.severity, misread.count, misread.facts["probed"]) == ("error", 8, 8)
    assert [one.name for one in misread.causes] == [name] and len(misread.image_names) == 8
    if "boxes-outside-image" in found:
        assert found["boxes-outside-image"].variant == name


def test_examining_names_the_layout_of_single_boxes(tmp_path):
    dataset = written(tmp_path, LAYOUTS["as-centers"], wrong=2)
    mismatch = next(one for one in examine(dataset).findings if one.kind == "box-mask-mismatch")
    assert {cause.name: cause.count for cause in mismatch.causes} == {"as-centers": 2}


@pytest.mark.parametrize("name", ["as-centers", "as-corners"])
def test_fractions_are_named_with_their_layout(tmp_path, name):
    def fractions(*box):
        a, b, c, d = LAYOUTS[name](*box)
        return [a / WIDTH, b / HEIGHT, c / WIDTH, d / HEIGHT]

    found = {finding.kind: finding for finding in written(tmp_path, fractions).findings}
    assert found["boxes-normalized"].variant == name and "boxes-misread" not in found


def test_fractions_as_in_coco(tmp_path):
    dataset = written(tmp_path, lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT])
    assert [(one.kind, one.variant) for one in dataset.findings] == [("boxes-normalized", "as-in-coco")]


@pytest.mark.parametrize("name", LAYOUTS)
def test_few_wrong_boxes_among_right_ones_are_no_layout(tmp_path, name):
    assert "boxes-misread" not in kinds(written(tmp_path, LAYOUTS[name], wrong=2))


def test_masks_refute_corners(tmp_path):
    """All boxes leave the image and would fit as corners; but they are right, and the image's size is not."""

    def change(data):
        for entry in data["annotations"]:
            entry["bbox"] = [7, 7, WIDTH - 4, HEIGHT - 4]
            entry["segmentation"] = octagon((7, 7, WIDTH - 7, HEIGHT - 7))

    finding = next(one for one in opened(tmp_path, change, objects=1).findings if one.kind == "boxes-outside-image")
    assert finding.variant == "as-in-coco"


@pytest.mark.parametrize(
    ("name", "boxes"),
    [("as-centers", [[40, 30, 20, 16], [44, 26, 18, 20]]), ("as-corners", [[40, 30, 20, 16], [44, 26, 18, 20]])],
)
def test_without_masks_what_would_fit_is_named(tmp_path, name, boxes):
    dataset = written(tmp_path, LAYOUTS[name], masks=False, boxes=boxes)
    assert [(one.kind, one.variant) for one in dataset.findings] == [("boxes-outside-image", name)]


def test_right_boxes_say_nothing(tmp_path):
    assert kinds(written(tmp_path, lambda *box: list(box))) == []
    change = every_annotation(lambda entry: None)
    assert kinds(opened(tmp_path / "b", change)) == [] == kinds(open_dataset(tmp_path / "b"))
