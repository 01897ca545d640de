"""Datasets open in every layout; only where there is nothing to open is there an error, in one sentence."""

import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import load_image, open_dataset
from sam3_lora.errors import DataError
from tests.factories import CATEGORIES, SIZE_HW, coco, write_dataset, write_split


@pytest.mark.parametrize("images_in", [".", "images"])
def test_roboflow_layout_with_images_beside_or_in_a_folder(tmp_path, images_in):
    write_dataset(tmp_path, splits=("test", "valid-mini", "train", "valid"), images_in=images_in)
    dataset = open_dataset(tmp_path)
    assert dataset.findings == ()
    assert list(dataset.splits) == ["train", "valid", "test", "valid-mini"]
    assert dataset.categories == CATEGORIES
    for split in dataset.splits.values():
        assert len(split.images) == 5 and split.num_objects == 8
        assert all(load_image(image).shape == (*SIZE_HW, 3) for image in split.images)


def test_every_annotation_arrives_as_written(tmp_path):
    data = coco()
    write_split(tmp_path / "train", data)
    found = {a.id: a for image in open_dataset(tmp_path).split("train").images for a in image.annotations}
    assert len(found) == len(data["annotations"])
    for entry in data["annotations"]:
        assert list(found[entry["id"]].bbox_xywh) == entry["bbox"]
        assert found[entry["id"]].segmentation == entry["segmentation"]
        assert found[entry["id"]].category == CATEGORIES[entry["category_id"] - 1]


@pytest.mark.parametrize("name", ["_annotations.coco.json", "instances.json"])
def test_folder_that_holds_the_file_itself_is_the_split_train(tmp_path, name):
    write_split(tmp_path, coco())
    (tmp_path / "_annotations.coco.json").rename(tmp_path / name)
    dataset = open_dataset(str(tmp_path))
    assert list(dataset.splits) == ["train"] and dataset.split("train").num_objects == 8
    assert dataset.findings == ()


def test_demo_dataset_is_sound_and_has_every_kind_of_segmentation():
    dataset = open_dataset("demo")
    assert dataset.findings == ()
    kinds = set()
    for split in dataset.splits.values():
        assert min(split.objects_per_category().values()) > 0
        assert any(not image.annotations for image in split.images)
        for annotation in (a for image in split.images for a in image.annotations):
            segmentation = annotation.segmentation
            kinds.add(type(segmentation["counts"]) if isinstance(segmentation, dict) else list[list])
    assert kinds == {str, list, list[list]}


def test_images_without_annotations_stay(tmp_path):
    write_dataset(tmp_path, splits=("train",), images=2, empty_images=3)
    assert [len(image.annotations) for image in open_dataset(tmp_path).split("train").images] == [2, 2, 0, 0, 0]


def test_unknown_split_lists_those_there_are(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path))
    with pytest.raises(DataError, match="train, valid"):
        dataset.split("test")


def test_text_ids_and_names_in_other_unicode_spelling(tmp_path):
    data = coco(images=1, objects=3, empty_images=0)
    composed, decomposed = (unicodedata.normalize(form, "schläge.png") for form in ("NFC", "NFD"))
    data["images"][0] |= {"id": "a", "file_name": decomposed}
    for entry in data["annotations"]:
        entry["image_id"] = "a"
    write_split(tmp_path / "train", data)
    data["images"][0]["file_name"] = composed
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data), encoding="utf-8-sig")
    dataset = open_dataset(tmp_path)
    assert dataset.findings == ()
    assert load_image(dataset.split("train").images[0]).shape == (*SIZE_HW, 3)


def test_file_names_with_folders_are_found_inside_the_dataset(tmp_path):
    data = coco(images=3, empty_images=0)
    write_split(tmp_path / "train", data)
    for folder, entry in zip(("a", "images/b", "../shared"), data["images"], strict=True):
        (tmp_path / "train" / folder).mkdir(parents=True)
        (tmp_path / "train" / entry["file_name"]).rename(tmp_path / "train" / folder / entry["file_name"])
    data["images"][0]["file_name"] = "a\\" + data["images"][0]["file_name"]
    data["images"][1]["file_name"] = "b/" + data["images"][1]["file_name"]
    data["images"][2]["file_name"] = "../shared/" + data["images"][2]["file_name"]
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = open_dataset(tmp_path)
    assert dataset.findings == ()
    assert all(load_image(image).shape == (*SIZE_HW, 3) for image in dataset.split("train").images)


def _nothing(folder):
    return folder / "no such folder"


def _file(folder):
    (folder / "file.txt").write_text("x")
    return folder / "file.txt"


def _empty_folder(folder):
    return folder


def _content(content):
    def write(folder):
        (folder / "train").mkdir()
        (folder / "train" / "_annotations.coco.json").write_bytes(content)
        return folder

    return write


def _several_files(folder):
    for name in ("a.json", "b.json"):
        (folder / name).write_text("{}")
    return folder


def _files(contents):
    def write(folder):
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return write


def _archive(folder):
    (folder / "export.zip").write_bytes(b"PK")
    return folder / "export.zip"


def _deeper(folder):
    write_dataset(folder / "export")
    (folder / "export" / "counts.csv").write_text("image,objects")
    return folder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_nothing, "There is no folder"),
        (_file, "is a file"),
        (_empty_folder, "no annotation file"),
        (_several_files, "2 other JSON files"),
        (_deeper, "1 folder deeper"),
        (_archive, "is an archive"),
        (_files({"a.jpg": b"", "a.xml": b"<annotation/>"}), "Pascal VOC"),
        (_files({"a.json": b'{"shapes": [], "imagePath": "a.jpg"}', "b.json": b"{}"}), "LabelMe"),
        (_files({"a.json": b'{"shapes": [], "imagePath": "a.jpg"}'}), "LabelMe"),
        (_files({"via.json": b'{"a.jpg9": {"regions": []}}', "b.json": b"{}"}), "VGG Image Annotator"),
        (_files({"train/a.json": b'{"shapes": [], "imagePath": "a.jpg"}', "train/b.json": b"{}"}), "LabelMe"),
        (_files({"VOCdevkit/VOC2012/Annotations/a.xml": b"<annotation/>"}), "Pascal VOC"),
        (_files({"gtFine/train/bern/a.json": b'{"imgHeight": 9, "imgWidth": 9, "objects": []}'}), "Cityscapes"),
        (_files({"train/a.json": b'[{"image": "a.jpg", "annotations": []}]', "train/b.json": b"[]"}), "CreateML"),
        (_files({"data.jsonl": b"{}"}), "JSON lines"),
        (_files({"meta.json": b'{"classes": [], "tags": []}', "ds/ann/a.json": b"{}"}), "Supervisely"),
        (_files({"annotations.json": b'[{"id": 1, "data": {}, "annotations": []}]'}), "Label Studio"),
        (_files({"via_region_data.json": b'{"a.jpg9": {"filename": "a.jpg", "regions": {}}}'}), "VGG Image Annotator"),
        (_files({"annotations/train.json": b'{"info": {}, "categories": {}, "items": []}'}), "Datumaro"),
        (_files({"annotations/captions_a.json": b"{}", "annotations/person_keypoints_a.json": b"{}"}), "2 other JSON"),
        (_files({"images/a.jpg": b"", "masks/a.png": b""}), "convert-masks .*images .*masks"),
        (_files({"train/a_mask.png": b"", "train/a.jpg": b"", "train/_classes.csv": b""}), "masks as image files"),
        (
            _content(
                b'{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]}'
            ),
            "are captions",
        ),
        (
            _content(
                b'{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segments_info": []}]}'
            ),
            "panoptic",
        ),
        (_content(b""), "is empty"),
        (_content(b" \n"), "is empty"),
        (_content(b'{"images": [{"id": 1, '), "cut off or not JSON"),
        (_content(b"\xff\xfe\x00garbage"), "not JSON"),
        (_content(b"[" * 100_000), "not JSON"),
        (_content(b'{"images": [' + b"9" * 5000 + b"]}"), "not JSON"),
        (_content(b"[]"), "got a list"),
        (_content(b"3"), "got a number"),
        (_content(b'{"annotations": []}'), "list 'images'"),
        (_content(b'{"images": {"a": 1}}'), "list 'images'"),
        (lambda folder: "", "empty path"),
        (lambda folder: "a\0b", "cannot be read"),
        (lambda folder: folder / ("x" * 5000), "cannot be read"),
    ],
)
def test_nothing_to_open_is_told_in_one_sentence_with_a_fix(tmp_path, make, says):
    with pytest.raises(DataError, match=says) as caught:
        open_dataset(make(tmp_path))
    assert caught.value.fix and "\n" not in str(caught.value)


def test_one_broken_split_is_a_finding_and_the_others_open(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "valid" / "_annotations.coco.json").write_text('{"images": [')
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["train"]
    assert [(finding.kind, finding.severity, finding.split) for finding in dataset.findings] == [
        ("split-unreadable", "error", "valid")
    ]


def test_missing_and_broken_images_name_the_file(tmp_path):
    write_dataset(tmp_path, splits=("train",))
    broken, missing, cut, *_ = open_dataset(tmp_path).split("train").images
    broken.path.write_bytes(b"no image")
    missing.path.unlink()
    cut.path.write_bytes(cut.path.read_bytes()[:200])
    for image in (broken, missing, cut):
        with pytest.raises(DataError, match=image.file_name):
            load_image(image)


@pytest.mark.parametrize(("width", "height", "turned"), [(40, 30, False), (30, 40, True)])
def test_exif_turns_a_picture_only_if_the_file_gives_the_turned_size(tmp_path, width, height, turned):
    data = coco(images=0, empty_images=1)
    data["images"][0] |= {"width": width, "height": height, "file_name": "a.jpg"}
    write_split(tmp_path / "train", data)
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "train" / "a.jpg", exif=exif)
    dataset = open_dataset(tmp_path)
    image = load_image(dataset.split("train").images[0])
    assert image.shape == (height, width, 3)
    bright = image[: height // 2, : width // 2].mean() > 200, image[: height // 2, width // 2 :].mean() > 200
    assert bright == ((True, True) if turned else (True, False))
    assert not any(finding.kind == "size-mismatch" for finding in dataset.findings)


def test_the_size_of_a_png_is_read_without_decoding_it(tmp_path, monkeypatch):
    write_split(tmp_path / "train", coco())
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    assert open_dataset(tmp_path).findings == ()


def test_a_large_image_is_measured_without_a_word_on_the_terminal(tmp_path):
    Image.new("1", (13000, 13000)).save(tmp_path / "a.png")
    code = "import sys; from sam3_lora.data.images import size_on_disk; print(size_on_disk(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("ImageHeader(size=(13000, 13000), orientation=1)", "")


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path):
    write_split(tmp_path / "train", coco())
    image = open_dataset(tmp_path).split("train").images[0]
    assert load_image(image, max_pixels=SIZE_HW[0] * SIZE_HW[1]).shape == (*SIZE_HW, 3)
    with pytest.raises(DataError, match=r"64 x 48\. Cut the image"):
        load_image(image, max_pixels=SIZE_HW[0] * SIZE_HW[1] - 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nobody_waits_for_a_pipe_named_like_an_image(tmp_path):
    write_split(tmp_path / "train", coco())
    image = open_dataset(tmp_path).split("train").images[0]
    image.path.unlink()
    os.mkfifo(image.path)
    with pytest.raises(DataError, match="it is no regular file"):
        load_image(image)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16"])
def test_pictures_of_any_mode_become_rgb(tmp_path, mode):
    data = coco(images=0, empty_images=1)
    write_split(tmp_path / "train", data)
    bright = np.full(SIZE_HW, 200, np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(bright.astype(np.uint16) * 256)
    else:
        picture = Image.fromarray(bright).convert("RGB").convert(mode)
    image = data["images"][0]
    picture.save(tmp_path / "train" / image["file_name"], format="TIFF" if mode == "CMYK" else "PNG")
    pixels = load_image(open_dataset(tmp_path).split("train").images[0])
    assert pixels.shape == (*SIZE_HW, 3) and pixels.dtype == np.uint8
    assert abs(float(pixels.mean()) - (255 if mode == "1" else 200)) < 60


@pytest.mark.parametrize(
    "names",
    [("Training", "Validation", "Testing"), ("train2017", "val2017"), ("TRAIN", "dev"), ("train", "val", "other")],
)
def test_splits_are_in_the_usual_order_however_they_are_spelled(tmp_path, names):
    write_dataset(tmp_path, splits=names)
    assert list(open_dataset(tmp_path).splits) == list(names)


def test_splits_in_capitals_are_in_the_usual_order_and_named_where_another_spelling_is_asked_for(tmp_path):
    write_dataset(tmp_path, splits=("Train", "Val", "Test"))
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["Train", "Val", "Test"]
    with pytest.raises(DataError, match="Set data.train_split to 'Train'"):
        dataset.split("train", "data.train_split")
    with pytest.raises(DataError, match="Give 'Val'"):
        dataset.split("valid")
    with pytest.raises(DataError, match="Choose one of these"):
        dataset.split("other")


def test_an_image_of_lvis_is_called_as_its_address_ends(tmp_path):
    data = coco()
    write_split(tmp_path / "train", data)
    for entry in data["images"]:
        entry["coco_url"] = "http://images.cocodataset.org/train2017/" + entry.pop("file_name")
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    dataset = open_dataset(tmp_path)
    assert dataset.findings == () and not any(image.missing for image in dataset.split("train").images)
