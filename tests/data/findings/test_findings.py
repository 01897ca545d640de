"""Every fault has its finding: a sound dataset with exactly one fault gives exactly that one."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.data.findings import words_opening as words
from sam3_lora.data.findings.findings import MAX_LOCATIONS
from tests.factories import SIZE_HW, coco, write_split

HEIGHT, WIDTH = SIZE_HW
Change = Callable[[dict[str, Any]], None]
SEVERITIES = {
    **dict.fromkeys(words.ERRORS, "error"),
    **dict.fromkeys(words.WARNINGS, "warning"),
    **dict.fromkeys(words.INFOS, "info"),
}


def opened(folder, change: Change, **options) -> Dataset:
    """A dataset of one split whose sound file was changed after its images were written."""
    data = coco(**options)
    write_split(folder / "train", data)
    changed = copy.deepcopy(data)
    change(changed)
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(changed))
    return open_dataset(folder)


def kinds(dataset: Dataset) -> list[str]:
    return [finding.kind for finding in dataset.findings]


def first(**values) -> Change:
    """Changes the first annotation (a polygon); None deletes a key."""

    def change(data):
        entry = data["annotations"][0]
        entry.update(values)
        for key in [key for key, value in values.items() if value is None]:
            del entry[key]

    return change


def image(**values) -> Change:
    return lambda data: data["images"][0].update(values)


def append(key: str, entry: Any) -> Change:
    return lambda data: data[key].append(entry)


def again(key: str, **values) -> Change:
    return lambda data: data[key].append({**data[key][0], **values})


def every_annotation(change: Callable[[dict], None]) -> Change:
    return lambda data: [change(entry) for entry in data["annotations"]] and None


ANNOTATION_FAULTS = [
    ("bad-bbox", first(bbox=[math.nan, 1, 2, 3])),
    ("bad-bbox", first(bbox=[math.inf, 1, 2, 3])),
    ("bad-bbox", first(bbox=[10, 10, 0, 5])),
    ("bad-bbox", first(bbox=[10, 10, 5, -5])),
    ("bad-bbox", first(bbox=[10, 10, 5])),
    ("bad-bbox", first(bbox="10 10 5 5")),
    ("bad-bbox", first(bbox="1055")),
    ("bad-bbox", first(bbox=["10", "10", "5", "5"])),
    ("bad-bbox", first(bbox={"x": 1, "y": 2, "w": 3, "h": 4})),
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
    ("bad-segmentation", first(segmentation=[1, 1, 5, 5, 3, 3])),
    ("bad-segmentation", first(segmentation=[["1", 1, 5, 5, 3, 3]])),
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
    ("unknown-image", first(image_id="0")),
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
    ("bad-image-size", image(width="64")),
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
    ("bad-category", append("categories", {"id": {}, "name": "dent"})),
    ("bad-category", append("categories", 3)),
    ("same-phrase", lambda data: data["categories"][2].update(name="POTHOLE")),
    ("unused-category", append("categories", {"id": 50, "name": "potholes"})),
]


@pytest.mark.parametrize(("kind", "change"), ANNOTATION_FAULTS + FILE_FAULTS)
def test_one_fault_one_finding(tmp_path, kind, change):
    dataset = opened(tmp_path, change)
    assert kinds(dataset) == [kind]
    finding = dataset.findings[0]
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
        "masks-wrong-key",
        "no-objects",
        "no-images",
        "split-unreadable",
        "image-unreadable",
        "duplicate-category-id",
    }
    assert tested | elsewhere == set(SEVERITIES)


class TestFoundingBugs:
    """Three mistakes that once cost days each, named within a second and named first."""

    @pytest.mark.parametrize("key", ["bboxes", "masks", "annotation", "Annotations", "objects"])
    def test_annotations_under_another_key(self, tmp_path, key):
        dataset = opened(tmp_path, lambda data: data.update({key: data.pop("annotations")}))
        assert kinds(dataset) == ["annotations-wrong-key"]
        finding = dataset.findings[0]
        assert (finding.variant, finding.facts["keys"], finding.severity) == ("", (key,), "error")
        assert f"under '{key}'" in finding.message and "Rename" in finding.fix

    def test_boxes_and_masks_in_lists_of_their_own(self, tmp_path):
        def change(data):
            entries = data.pop("annotations")
            data["bboxes"] = [entry["bbox"] for entry in entries]
            data["masks"] = [entry["segmentation"] for entry in entries]

        dataset = opened(tmp_path, change)
        assert kinds(dataset)[0] == "annotations-wrong-key"
        assert dataset.findings[0].facts["keys"] == ("bboxes", "masks")
        assert "'bboxes', 'masks'" in dataset.findings[0].message

    def test_boxes_inside_the_image_entries(self, tmp_path):
        def change(data):
            data["annotations"] = []
            for entry in data["images"]:
                entry["bboxes"] = [[1, 2, 30, 40]]

        dataset = opened(tmp_path, change)
        finding = dataset.findings[0]
        assert (finding.kind, finding.variant) == ("annotations-wrong-key", "in-images")
        assert finding.facts["keys"] == ("bboxes",)

    def test_boxes_and_masks_under_other_keys_in_every_annotation(self, tmp_path):
        def change(entry):
            entry["bboxes"], entry["masks"] = entry.pop("bbox"), entry.pop("segmentation")

        dataset = opened(tmp_path, every_annotation(change))
        assert kinds(dataset) == ["annotations-wrong-key"]
        assert dataset.findings[0].count == 8

    def test_the_key_that_matters_is_named_behind_many_others(self, tmp_path):
        def change(entry):
            for key in "abcdefgh":
                entry[key] = 1
            entry["bboxes"] = entry.pop("bbox")
            del entry["segmentation"]

        dataset = opened(tmp_path, every_annotation(change))
        assert dataset.findings[0].variant == "in-annotations" and dataset.findings[0].facts["keys"] == ("bboxes",)

    @pytest.mark.parametrize("key", ["polygon", "Segmentation", "rle"])
    def test_masks_under_another_key(self, tmp_path, key):
        dataset = opened(tmp_path, every_annotation(lambda entry: entry.update({key: entry.pop("segmentation")})))
        assert kinds(dataset) == ["masks-wrong-key"] and dataset.split("train").num_objects == 8
        assert dataset.findings[0].facts["keys"] == (key,)

    def test_annotations_as_an_object(self, tmp_path):
        dataset = opened(tmp_path, lambda data: data.update(annotations={"0": data["annotations"]}))
        assert (dataset.findings[0].kind, dataset.findings[0].variant) == ("annotations-wrong-key", "no-list")

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.update(annotations=[]),
            lambda data: data.pop("annotations"),
            lambda data: data.update(annotations=None),
            lambda data: data.update(annotations="none"),
        ],
    )
    def test_no_objects(self, tmp_path, change):
        dataset = opened(tmp_path, change)
        assert kinds(dataset) == ["no-objects"]
        assert dataset.findings[0].severity == "error"
        assert len(dataset.split("train").images) == 5

    @pytest.mark.parametrize("with_masks", [True, False])
    def test_boxes_in_fractions_of_the_image(self, tmp_path, with_masks):
        def change(entry):
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
            if not with_masks:
                del entry["segmentation"]

        dataset = opened(tmp_path, every_annotation(change))
        assert kinds(dataset) == ["boxes-normalized"]
        finding = dataset.findings[0]
        assert (finding.count, finding.facts["boxes"], finding.severity) == (8, 8, "error")
        assert finding.message.startswith("8 of 8 annotations have a box between 0 and 1")
        assert dataset.split("train").num_objects == (8 if with_masks else 0)

    def test_boxes_of_another_image_size(self, tmp_path):
        def change(entry):
            entry["bbox"] = [20 * value for value in entry["bbox"]]

        dataset = opened(tmp_path, every_annotation(change), kinds=("box",))
        finding = next(finding for finding in dataset.findings if finding.kind == "boxes-outside-image")
        assert finding.severity == "error"
        for record in dataset.split("train").images:
            for item in record.annotations:
                x, y, w, h = item.bbox_xywh
                assert 0 <= x < x + w <= record.width and 0 <= y < y + h <= record.height


def test_corners_instead_of_sizes_are_recognised(tmp_path):
    def change(entry):
        x, y, w, _ = entry["bbox"]
        entry["bbox"] = [x + 0.4 * (WIDTH - w), y, WIDTH, HEIGHT]

    dataset = opened(tmp_path, every_annotation(change), kinds=("box",))
    assert (dataset.findings[0].kind, dataset.findings[0].variant) == ("boxes-outside-image", "corners")
    assert "[left, top, right, bottom]" in dataset.findings[0].fix


def test_a_box_in_another_place_than_its_mask_is_kept_but_a_lost_one_comes_from_the_mask(tmp_path):
    polygon = [[10.0, 12.0, 30.0, 12.0, 30.0, 40.0, 10.0, 40.0]]
    for bbox in (None, [math.nan, 0, 1, 1], [500, 500, 10, 10], [0.1, 0.1, 0.2, 0.2]):
        dataset = opened(tmp_path, first(bbox=bbox, segmentation=polygon))
        assert dataset.split("train").images[0].annotations[0].bbox_xywh == (10, 12, 20, 28)


def test_box_from_run_lengths(tmp_path):
    def change(data):
        for entry in data["annotations"]:
            del entry["bbox"]

    wanted = {entry["id"]: entry["bbox"] for entry in coco()["annotations"]}
    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["box-from-mask"]
    for item in (item for record in dataset.split("train").images for item in record.annotations):
        assert item.bbox_xywh == pytest.approx(wanted[item.id], abs=1)


def test_overhang_of_rounding_is_cut_off_without_a_word(tmp_path):
    dataset = opened(tmp_path, first(bbox=[-1.5, 3, 20, HEIGHT - 2], segmentation=None))
    assert dataset.findings == ()
    assert dataset.split("train").images[0].annotations[0].bbox_xywh == (0, 3, 18.5, HEIGHT - 3)


def test_one_overhang_among_many_boxes_is_only_a_warning(tmp_path):
    dataset = opened(tmp_path, first(bbox=[-5, 3, 20, 10]), images=15)
    assert [(finding.kind, finding.severity) for finding in dataset.findings] == [("boxes-outside-image", "warning")]


def test_images_that_share_an_id_are_left_out_with_their_annotations(tmp_path):
    dataset = opened(tmp_path, lambda data: data["images"][-1].update(id=0))
    assert [record.id for record in dataset.split("train").images] == [1, 2, 3]
    assert dataset.split("train").num_objects == 6


def test_categories_that_share_an_id_make_their_annotations_unusable(tmp_path):
    dataset = opened(tmp_path, append("categories", {"id": 1, "name": "dent"}))
    assert kinds(dataset) == ["duplicate-category-id"]
    assert dataset.categories == ("crack", "pothole", "joint", "dent")
    assert dataset.split("train").images[0].unusable_categories == {"crack", "dent"}
    assert dataset.split("train").objects_per_category()["crack"] == 0


def test_the_same_category_twice_is_no_fault(tmp_path):
    assert opened(tmp_path, again("categories")).findings == ()


def test_no_usable_image(tmp_path):
    dataset = opened(tmp_path, lambda data: data.update(images=[], annotations=[]))
    assert kinds(dataset) == ["no-images"]


def test_unreadable_image_among_those_looked_into(tmp_path):
    data = coco()
    folder = write_split(tmp_path / "train", data)
    (folder / data["images"][1]["file_name"]).write_bytes(b"no image")
    finding = open_dataset(tmp_path).findings[0]
    assert finding.kind == "image-unreadable" and finding.locations[0].image == data["images"][1]["file_name"]


def test_size_is_taken_from_the_picture_where_the_file_gives_none(tmp_path):
    record = opened(tmp_path, image(width=None, height="tall")).split("train").images[0]
    assert (record.height, record.width) == SIZE_HW and len(record.annotations) == 2


@pytest.mark.parametrize("name", ["0_000.PNG", "0_000.jpg", "IMAGES/0_000.png", "a%20b.png"])
def test_a_missing_image_names_one_that_is_nearly_called_so(tmp_path, name):
    data = coco(images=1, empty_images=0)
    folder = write_split(tmp_path / "train", data)
    if name == "a%20b.png":
        (folder / "0_000.png").rename(folder / "a b.png")
    changed = copy.deepcopy(data)
    changed["images"][0]["file_name"] = name
    (folder / "_annotations.coco.json").write_text(json.dumps(changed))
    finding = open_dataset(tmp_path).findings[0]
    there = "a b.png" if name == "a%20b.png" else "0_000.png"
    assert finding.kind == "image-missing" and f"{name}: but '{there}' is there" in finding.message


def test_missing_images_stay_and_are_marked(tmp_path):
    data = coco()
    folder = write_split(tmp_path / "train", data)
    (folder / data["images"][0]["file_name"]).unlink()
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["image-missing"]
    assert [record.missing for record in dataset.split("train").images] == [True, False, False, False, False]


def test_crowds_are_shown_but_not_counted(tmp_path):
    dataset = opened(tmp_path, first(iscrowd=1))
    assert dataset.findings == ()
    assert dataset.split("train").num_objects == 7
    assert dataset.split("train").images[0].annotations[0].iscrowd


def test_errors_come_first_and_whole_file_faults_before_single_ones(tmp_path):
    def change(data):
        data["annotations"][0]["bbox"] = [1, 2, 0, 0]
        data["annotations"][1]["bbox"] = [0.1, 0.1, 0.1, 0.1]
        data["annotations"][2]["segmentation"] = "x"
        data["annotations"][3].pop("id")

    assert kinds(opened(tmp_path, change)) == [
        "boxes-normalized",
        "bad-bbox",
        "bad-segmentation",
        "annotation-without-id",
    ]


def test_at_most_fifty_places_are_kept(tmp_path):
    dataset = opened(tmp_path, every_annotation(lambda entry: entry.update(image_id=99)), images=40)
    finding = next(finding for finding in dataset.findings if finding.kind == "unknown-image")
    assert finding.count == 80 and len(finding.locations) == MAX_LOCATIONS


def test_wild_text_in_a_file_is_harmless(tmp_path):
    data = coco()
    write_split(tmp_path / "train", data)
    data["categories"][0]["name"] = "crack \ud800"
    data["images"][0]["file_name"] = "\udfff\0.png"
    data["annotations"][0]["id"] = "\ud800{braces}"
    data["annotations"][0]["bbox"] = "\ud800" * 1000
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = open_dataset(tmp_path)
    assert set(kinds(dataset)) == {"image-missing", "bad-bbox"}
    for finding in dataset.findings:
        (finding.message + finding.fix + "".join(map(str, finding.locations))).encode("utf-8")
        assert len(finding.message) < 600
    "".join(dataset.categories).encode("utf-8")


def test_image_of_one_pixel_is_fine(tmp_path):
    data = coco(images=0, empty_images=1)
    data["images"][0] |= {"width": 1, "height": 1}
    folder = write_split(tmp_path / "train", data)
    assert Image.open(folder / data["images"][0]["file_name"]).size == (1, 1)
    assert set(kinds(open_dataset(tmp_path))) == {"no-objects"}


def test_objects_of_one_box_whose_masks_cannot_be_used_are_no_copies(tmp_path):
    def change(data):
        entry = data["annotations"][0]
        entry["segmentation"] = [[1, 2]]
        data["annotations"].append(entry | {"id": 1000, "segmentation": [[3, 4]]})

    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["bad-segmentation"] and dataset.findings[0].count == 2
    assert dataset.split("train").num_objects == 9


def test_no_objects_is_told_by_what_was_dropped(tmp_path):
    dataset = opened(tmp_path / "crowds", every_annotation(lambda entry: entry.update(iscrowd=1)))
    assert kinds(dataset) == ["no-objects"] and dataset.findings[0].variant == "crowds"
    for number, bbox in enumerate(([10, 10, 0, 10], [0.1, 0.1, 0.2, 0.2])):
        dataset = opened(
            tmp_path / str(number), every_annotation(lambda entry, b=bbox: entry.update(bbox=b)), kinds=("box",)
        )
        assert len(dataset.findings) == 1 and dataset.findings[0].kind in ("bad-bbox", "boxes-normalized")


def test_absolute_names_of_images_that_are_there_are_to_be_cut(tmp_path):
    def change(data):
        for entry in data["images"]:
            entry["file_name"] = "/home/u/ds/images/" + entry["file_name"]

    dataset = opened(tmp_path, change)
    assert kinds(dataset) == ["path-outside-dataset"]
    assert (dataset.findings[0].variant, dataset.findings[0].facts) == ("misnamed", {"there": ("0_000.png",)})


def test_one_box_in_fractions_among_many_is_a_stray(tmp_path):
    finding = opened(tmp_path, first(bbox=[0, 0, 1, 1]), images=15).findings[0]
    assert (finding.kind, finding.variant, finding.severity) == ("boxes-normalized", "stray", "warning")


def test_of_an_entry_that_is_there_twice_nothing_is_missing(tmp_path):
    assert opened(tmp_path / "a", again("images")).findings[0].variant == "same-id"
    assert opened(tmp_path / "b", again("images", id=50)).findings[0].variant == ""


def test_a_number_as_a_category_is_its_name_and_faults_are_told_in_plain_words(tmp_path):
    dataset = opened(tmp_path / "a", lambda data: data["categories"][0].update(name=5))
    assert dataset.findings == () and dataset.categories[0] == "5" and dataset.split("train").num_objects == 8
    message = opened(tmp_path / "b", first(segmentation=[3])).findings[0].message
    assert "a number in the list of polygons" in message
