"""Boxes, segmentations and ids that are not written as in COCO, but whose meaning is clear."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam3_lora.data.dataset import Dataset
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.index.objects.notation import KnownIds
from sam3_lora.masks import decode_segmentation, encode_rle
from tests.data.findings.helpers import HEIGHT, WIDTH, Change, every_annotation, first, opened
from tests.factories import coco, ellipse, kinds, uncompressed_rle

BOX = [10.0, 20.0, 30.0, 15.0]
POINTS = [[12, 21], [38, 22], [36, 34], [11, 33]]
FLAT = [value for point in POINTS for value in point]
MASK = ellipse((HEIGHT, WIDTH), (25, 27.5), (15, 7.5))
RLE = encode_rle(MASK)


def notation(dataset: Dataset) -> Finding:
    (finding,) = dataset.findings
    assert finding.kind == "other-notation"
    return finding


@pytest.mark.parametrize(
    ("bbox", "cause"),
    [
        (["10.0", "20", "30", "15"], "numbers-as-text"),
        ([10, "20,0", 30, "15"], "numbers-as-text"),
        ("10 20 30 15", "numbers-as-text"),
        ("[10, 20, 30, 15]", "numbers-as-text"),
        ({"x": 10, "y": 20, "width": 30, "height": 15}, "box-as-object"),
        ({"x": "10", "y": "20", "w": "30", "h": "15"}, "box-as-object"),
        ({"Left": 10, "Top": 20, "Width": 30, "Height": 15}, "box-as-object"),
        ({"xmin": 10, "ymin": 20, "xmax": 40, "ymax": 35}, "box-as-object"),
        ({"x1": 10, "y1": 20, "x2": 40, "y2": 35, "label": "crack"}, "box-as-object"),
        ({"left": 10, "top": 20, "right": 40, "bottom": 35}, "box-as-object"),
        ({"cx": 25, "cy": 27.5, "w": 30, "h": 15}, "box-as-object"),
        ({"x_center": 25, "y_center": 27.5, "width": 30, "height": 15}, "box-as-object"),
        (json.dumps({"x": 10, "y": 20, "width": 30, "height": 15}), "box-as-object"),
        ([[10, 20], [40, 35]], "box-as-points"),
        ([{"x": 40, "y": 35}, {"x": 10, "y": 20}], "box-as-points"),
        ([[10, 20, 30, 15]], "box-as-points"),
        ([40, 35, -30, -15], "box-backwards"),
        ([40, 20, -30, 15], "box-backwards"),
        ([10, 35, 30, -15], "box-backwards"),
    ],
)
def test_boxes(tmp_path, bbox, cause):
    dataset = opened(tmp_path, first(bbox=bbox, segmentation=None))
    finding = notation(dataset)
    assert dataset.split("train").images[0].annotations[0].bbox_xywh == tuple(BOX)
    assert [(one.name, one.count) for one in finding.causes] == [(cause, 1)]
    assert finding.image_names == (dataset.split("train").images[0].file_name,)


@pytest.mark.parametrize("bbox", ["text", ["a", 1, 2, 3], [1, 2], {"x": 1, "y": 2}, [[1, 2], [3]], {"x": {}}, "{", []])
def test_what_is_no_box_is_not_guessed(tmp_path, bbox):
    assert kinds(opened(tmp_path, first(bbox=bbox))) == ["bad-bbox"]


@pytest.mark.parametrize(
    ("segmentation", "cause"),
    [
        (FLAT, "polygon-as-points"),
        (POINTS, "polygon-as-points"),
        ([POINTS], "polygon-as-points"),
        ([{"x": x, "y": y} for x, y in POINTS], "polygon-as-points"),
        ([[{"x": x, "y": y} for x, y in POINTS]], "polygon-as-points"),
        ({"points": POINTS}, "polygon-as-points"),
        ([{"points": FLAT}], "polygon-as-points"),
        ({"exterior": POINTS, "interior": []}, "polygon-as-points"),
        ({"type": "Polygon", "coordinates": [POINTS]}, "polygon-as-points"),
        ({"all_points_x": FLAT[::2], "all_points_y": FLAT[1::2]}, "polygon-as-points"),
        ({"x": FLAT[::2], "y": FLAT[1::2]}, "polygon-as-points"),
        ([list(map(str, FLAT))], "numbers-as-text"),
        (json.dumps([FLAT]), "polygon-as-points"),
    ],
)
def test_polygons(tmp_path, segmentation, cause):
    dataset = opened(tmp_path, first(bbox=BOX, segmentation=segmentation))
    assert [one.name for one in notation(dataset).causes] == [cause]
    assert dataset.split("train").images[0].annotations[0].segmentation == [FLAT]


def test_several_polygons_stay_several(tmp_path):
    shifted = [[x + 1, y] for x, y in POINTS]
    dataset = opened(tmp_path, first(bbox=BOX, segmentation=[POINTS, shifted]))
    assert len(dataset.split("train").images[0].annotations[0].segmentation) == 2


@pytest.mark.parametrize(
    "segmentation",
    [
        {"exterior": POINTS, "interior": [POINTS]},
        {"type": "Polygon", "coordinates": [POINTS, POINTS]},
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [["a", 1, 5, 5, 3, 3]],
        {"points": [[1, 2]]},
        [[[[[[[[[FLAT]]]]]]]]],
    ],
)
def test_what_is_no_polygon_is_not_guessed(tmp_path, segmentation):
    assert kinds(opened(tmp_path, first(bbox=BOX, segmentation=segmentation))) == ["bad-segmentation"]


@pytest.mark.parametrize(
    ("segmentation", "cause"),
    [
        (RLE | {"counts": repr(RLE["counts"].encode())}, "rle-as-bytes"),
        (RLE | {"size": [str(HEIGHT), str(WIDTH)]}, "numbers-as-text"),
        ({"size": [HEIGHT, WIDTH], "counts": list(map(str, uncompressed_rle(MASK)["counts"]))}, "numbers-as-text"),
        ({"size": [HEIGHT, WIDTH], "counts": json.dumps(uncompressed_rle(MASK)["counts"])}, "numbers-as-text"),
        ({"counts": RLE["counts"]}, "rle-without-size"),
        (json.dumps(RLE), ""),
        ([RLE], ""),
        (RLE | {"size": [WIDTH, HEIGHT]}, "rle-width-first"),
        (encode_rle(MASK.T), "rle-width-first"),
    ],
)
def test_run_lengths(tmp_path, segmentation, cause):
    dataset = opened(tmp_path, first(bbox=BOX, segmentation=segmentation))
    assert [one.name for finding in dataset.findings for one in finding.causes] == ([cause] if cause else [])
    read = dataset.split("train").images[0].annotations[0].segmentation
    assert np.array_equal(decode_segmentation(read, (HEIGHT, WIDTH)), MASK)


def test_run_lengths_of_width_and_height_are_not_guessed_without_a_box(tmp_path):
    for folder, box in (("a", None), ("b", [0.0, 0.0, 5.0, 5.0])):
        dataset = opened(tmp_path / folder, first(bbox=box, segmentation=RLE | {"size": [WIDTH, HEIGHT]}))
        assert "bad-segmentation" in kinds(dataset)


@pytest.mark.parametrize("ids", [str, lambda number: f"{number:012d}", lambda number: f" {number} "])
def test_ids_that_are_text_on_one_side_only(tmp_path, ids):
    def annotations(entry):
        entry.update(image_id=ids(entry["image_id"]), category_id=ids(entry["category_id"]))

    def images(data):
        for entry in (*data["images"], *data["categories"]):
            entry["id"] = ids(entry["id"])

    for folder, change in (("a", every_annotation(annotations)), ("b", images)):
        dataset = opened(tmp_path / folder, change)
        assert dataset.split("train").num_objects == 8
        assert [(one.name, one.count) for one in notation(dataset).causes] == [("id-of-other-type", 8)]


def test_ids_that_several_ids_spell_are_not_guessed():
    ids = KnownIds(dict.fromkeys([1, "01", "2", "x"]), {}.get)
    assert [ids.find(value) for value in ("1", "001", 2, 2.0, "y", None, [], True, 2.5)] == [None] * 2 + ["2"] * 2 + (
        [None] * 5
    )


@pytest.mark.parametrize("spelled", [lambda name: name, lambda name: name.removesuffix(".png"), str.upper])
def test_file_names_and_names_of_categories_instead_of_ids(tmp_path, spelled):
    def change(data):
        names = {entry["id"]: entry["name"] for entry in data["categories"]}
        for entry in data["annotations"]:
            file_name = data["images"][entry["image_id"]]["file_name"]
            entry.update(image_id=spelled(f"{file_name}"), category_id=spelled(names[entry["category_id"]]))
        for entry in data["images"]:
            entry["file_name"] = f"C:\\pictures\\{entry['file_name']}"

    plain, dataset = opened(tmp_path / "plain", lambda data: None), opened(tmp_path / "set", change)
    assert dataset.split("train").objects_per_category() == plain.split("train").objects_per_category()
    of_images, of_plain = (
        [[one.id for one in image.annotations] for image in one.split("train").images] for one in (dataset, plain)
    )
    assert of_images == of_plain
    causes = [(one.name, one.count) for finding in dataset.findings for one in finding.causes]
    assert ("id-by-name", 8) in causes


def test_names_that_several_have_are_not_guessed():
    ids = KnownIds({1: None, 2: None, 3: None}, {1: "a/0.jpg", 2: "b/0.jpg", 3: "c"}.get)
    assert [ids.find(value) for value in ("0.jpg", "A/0.jpg", "c", "", "d", "3")] == [None, 1, 3, None, None, 3]


def test_a_file_of_text_is_read(tmp_path):
    def text(value):
        if isinstance(value, dict):
            return {key: text(inner) for key, inner in value.items()}
        return [text(inner) for inner in value] if isinstance(value, list) else str(value)

    def change(data):
        data.update(text(dict(data)))

    dataset = opened(tmp_path, change, kinds=("polygon", "uncompressed"))
    sound = coco(kinds=("polygon", "uncompressed"))
    split = dataset.split("train")
    assert (split.num_objects, split.num_crowds) == (8, 0)
    assert [list(item.bbox_xywh) for image in split.images for item in image.annotations] == [
        entry["bbox"] for entry in sound["annotations"]
    ]
    assert all(item.has_segmentation for image in split.images for item in image.annotations)
    assert [one.name for one in notation(dataset).causes] == ["numbers-as-text"]
    assert notation(dataset).count == 8 + len(sound["images"])


CAUSES: list[tuple[str, list[Change]]] = [
    ("bad-segmentation", [first(segmentation=value) for value in ([[0.1, 0.1, 0.5, 0.1, 0.5, 1]], [[1, 1, 5]], "x")]),
    ("bad-bbox", [first(bbox=value) for value in ([10, 10, 0, 5], "x")]),
]


@pytest.mark.parametrize(("kind", "changes"), CAUSES)
def test_all_causes_are_told(tmp_path, kind, changes):
    def change(data):
        for number, one in enumerate(changes):
            one({"annotations": data["annotations"][number:]})

    finding = next(one for one in opened(tmp_path, change).findings if one.kind == kind)
    assert len(finding.causes) == len(changes) == finding.count
    assert all(str(cause.first) in finding.message for cause in finding.causes)
