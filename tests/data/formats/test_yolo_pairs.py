"""Images and YOLO's label files are paired by path, then by similar names; what stays apart is told, no negative."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from sam3_lora.data.dataset import Dataset, open_dataset
from sam3_lora.errors import DataError
from tests.data.formats.helpers import picture, sizes
from tests.factories import kinds

BOX, OTHER = "0 0.5 0.5 0.25 0.25\n", "0 0.25 0.25 0.25 0.25\n"
NFC, NFD = (unicodedata.normalize(form, "straße_é") for form in ("NFC", "NFD"))


def files(
    root: Path, images: list[str], labels: dict[str, str], yaml: str = "train: images\nnames: [crack]\n"
) -> Dataset:
    """Opens a dataset of these images and label files, whose paths count from `root`."""
    for name in images:
        picture(root / name)
    for name, text in labels.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "data.yaml").write_text(yaml)
    return open_dataset(root)


def boxes(dataset: Dataset, split: str = "train") -> dict[str, list[str]]:
    """The lines of each image, as far as they are BOX or OTHER."""
    lines = {24.0: BOX, 8.0: OTHER}
    images = dataset.split(split).images
    return {image.file_name: [lines[item.bbox_xywh[0]] for item in image.annotations] for image in images}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a b.png", "labels/a%20b.txt"),
        ("images/a b.png", "labels/a%2520b.txt"),
        ("images/a%20b.png", "labels/a b.txt"),
        (f"images/{NFC}.png", f"labels/{NFD}.txt"),
        (f"images/{NFD}.png", f"labels/{NFC}.txt"),
        ("images/IMG_1.PNG", "labels/img_1.txt"),
        ("images/c.png", "labels/C.TXT"),
        ("images/x/c.png", "labels/X/c.txt"),
        ("images/x/c.png", "labels/c.txt"),
        ("images/c.png", "labels/x/c.txt"),
        ("images/x/c.png", "labels/y/c.txt"),
        ("images/C.png", "images/c.txt"),
        ("images/c.png", "labels/1a2b3c4d-c.txt"),
        ("images/1a2b3c4d-c.png", "labels/c.txt"),
        ("images/c d (1).png", "labels/1a2b3c4d-c_d_1.txt"),
        ("images/c.png", "labels/C.PNG.txt"),
    ],
)
def test_a_label_file_with_a_similar_name_is_used_and_told(tmp_path, image, label):
    dataset = files(tmp_path, ["images/other.png", image], {"labels/other.txt": BOX, label: OTHER})
    assert kinds(dataset) == ["labels-by-similar-name"]
    (finding,) = dataset.findings
    name = image.removeprefix("images/")
    assert finding.count == 1 and finding.image_names == (name,) and finding.severity == "warning"
    assert boxes(dataset) == {"other.png": [BOX], name: [OTHER]}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["images/a.png", "images/b.png"], {"labels/a.txt": BOX, "labels/b.txt": OTHER}),
        (["images/a.png", "images/b.png"], {"images/a.txt": BOX, "labels/b.txt": OTHER}),
        (["images/a.png", "images/b.png"], {"labels/a.png.txt": BOX, "labels/b.txt": OTHER}),
        (["images/a.png", "images/b.png"], {"labels/a.txt": BOX, "images/b.txt": OTHER, "images/a.txt": BOX}),
        (["images/x/a.png", "images/y/a.png"], {"labels/x/a.txt": BOX, "labels/y/a.txt": OTHER}),
        (["images/a.png", "images/A.png"], {"labels/a.txt": BOX, "labels/A.txt": OTHER}),
        (["images/a.png", "images/a.jpg"], {"labels/a.png.txt": BOX, "labels/a.jpg.txt": OTHER}),
        (["images/a.png", "images/a.jpg"], {"labels/a.png.txt": BOX, "labels/a.txt": OTHER}),
    ],
)
def test_an_exact_pair_comes_first(tmp_path, images, labels):
    dataset = files(tmp_path, images, labels)
    assert kinds(dataset) == []
    assert list(boxes(dataset).values()) in ([[BOX], [OTHER]], [[OTHER], [BOX]])
    names = [image.removeprefix("images/") for image in images]
    assert boxes(dataset)[names[0]] == [BOX] and boxes(dataset)[names[1]] == [OTHER]


@pytest.mark.parametrize(
    ("images", "labels", "left_out"),
    [
        (["x/0.png", "y/0.png"], ["0"], {"x/0.png", "y/0.png"}),
        (["x/0.png", "y/0.png"], ["x/0", "z/0"], {"y/0.png"}),
        (["a.png", "b.png"], ["A", "%61", "b"], {"a.png"}),
        (["img.png", "IMG.jpg"], ["Img"], {"img.png", "IMG.jpg"}),
        (["frame_0001.png", "frame_0002.png"], ["frame_1", "frame_0002"], {"frame_0001.png"}),
        (["road.png", "b.png"], ["road_label", "b"], {"road.png"}),
        (["road.png", "b.png"], ["roads", "b"], {"road.png"}),
        (["a.png", "b.png"], ["a_png.rf.0123456789abcdef", "b"], {"a.png"}),
        (["photo.png", "view.png"], ["0", "1"], {"photo.png", "view.png"}),
    ],
)
def test_an_image_near_a_label_file_without_image_is_left_out_and_both_are_named(tmp_path, images, labels, left_out):
    dataset = files(tmp_path, [f"images/{name}" for name in images], {f"labels/{name}.txt": BOX for name in labels})
    (finding,) = [finding for finding in dataset.findings if finding.kind == "labels-not-paired"]
    assert finding.severity == "error" and set(finding.image_names) == left_out
    assert "labels/" in finding.locations[0].detail
    assert set(boxes(dataset)) == set(images) - left_out


def test_without_names_that_are_near_both_sides_are_told(tmp_path):
    dataset = files(tmp_path, ["images/1.png", "images/2.png"], {"labels/1.txt": BOX, "labels/77.txt": BOX})
    found = {finding.kind: finding.severity for finding in dataset.findings}
    assert found == {"label-without-image": "warning", "image-without-label-file": "warning"}


def test_images_that_share_a_label_file_are_told(tmp_path):
    dataset = files(tmp_path, ["images/a.png", "images/a.jpg", "images/b.png"], {"labels/a.txt": BOX})
    assert kinds(dataset) == ["labels-shared", "image-without-label-file"]
    assert dataset.findings[0].image_names == ("a.jpg", "a.png")


@pytest.mark.parametrize("label", ["images/a.txt", "labels/A.txt", "labels/a%20.txt"])
def test_a_second_label_file_with_other_content_is_told(tmp_path, label):
    dataset = files(tmp_path, ["images/a.png"], {"labels/a.txt": BOX, label: OTHER})
    assert kinds(dataset) == ["labels-not-read" if label != "labels/a%20.txt" else "label-without-image"]
    assert boxes(dataset) == {"a.png": [BOX]}


def test_images_beside_folders_of_images_are_read_too(tmp_path):
    labels = {"labels/a.txt": BOX, "labels/x/b.txt": OTHER}
    dataset = files(tmp_path, ["images/a.png", "images/x/b.png"], labels, "names: [crack]\n")
    assert kinds(dataset) == [] and boxes(dataset) == {"a.png": [BOX], "x/b.png": [OTHER]}


@pytest.mark.parametrize("yaml", ["", "train: images/train\nval: images/val\n"])
def test_splits_of_images_with_one_folder_of_labels_do_not_mix(tmp_path, yaml):
    labels = {"labels/a.txt": BOX, "labels/b.txt": OTHER, "labels/gone.txt": BOX}
    dataset = files(tmp_path, ["images/train/a.png", "images/val/b.png"], labels, yaml + "names: [crack]\n")
    assert boxes(dataset) == {"a.png": [BOX]} and boxes(dataset, "val") == {"b.png": [OTHER]}
    assert sorted(kinds(dataset)) == ["label-without-image", "labels-by-similar-name", "labels-by-similar-name"]


def test_splits_of_labels_with_one_folder_of_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"images/train, images/val"):
        files(tmp_path, ["images/a.png", "images/b.png"], {"labels/train/a.txt": BOX, "labels/val/b.txt": OTHER})


@pytest.mark.parametrize("folder", ["{}", "train/{}", "{}/train"])
@pytest.mark.parametrize(("images", "labels"), [("Images", "Labels"), ("images", "LABELS")])
@pytest.mark.parametrize("yaml", ["", "train: {}\n"])
def test_folders_of_images_and_labels_in_other_letter_case(tmp_path, folder, images, labels, yaml):
    text = yaml.format(folder.format(images)) + "names: [crack]\n"
    names = [f"{folder.format(images)}/a.png"]
    dataset = files(tmp_path, names, {f"{folder.format(labels)}/a.txt": BOX}, text)
    assert kinds(dataset) == [] and boxes(dataset) == {"a.png": [BOX]}


def test_label_files_behind_links_out_of_the_folder_are_not_used(tmp_path):
    root, outside = tmp_path / "set", tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text(BOX)
    (root / "labels").mkdir(parents=True)
    for name in ("a%20.txt", "b.txt"):
        (root / "labels" / name).symlink_to(outside / "a.txt")
    dataset = files(root, ["images/a .png", "images/b.png", "images/c.png"], {"labels/c.txt": BOX})
    assert kinds(dataset) == ["bad-label-file", "image-without-label-file"]
    assert boxes(dataset) == {"a .png": [], "c.png": [BOX]}


@pytest.mark.parametrize("folder", ["train/images", "images/train", "train"])
def test_labels_beside_the_images_that_data_yaml_names(tmp_path, folder):
    yaml = f"train: {folder}\nnames: [crack]\n"
    dataset = files(tmp_path, [f"{folder}/a.png"], {f"{folder}/a.txt": BOX, f"{folder}/notes.txt": "in May"}, yaml)
    assert kinds(dataset) == [] and boxes(dataset) == {"a.png": [BOX]}


def test_lists_pair_by_similar_names_among_all_images(tmp_path):
    picture(tmp_path / "images" / "val" / "c.png")
    (tmp_path / "train.txt").write_text("images/all/A.png\nimages/all/b.png\nimages/all/c.png\n")
    labels = {"labels/all/a.txt": BOX, "labels/all/b.txt": OTHER, "labels/val/c.txt": BOX}
    images = [f"images/all/{name}.png" for name in "Abc"]
    dataset = files(tmp_path, images, labels, "train: train.txt\nnames: [crack]\n")
    assert kinds(dataset) == ["labels-by-similar-name", "image-without-label-file"]
    assert boxes(dataset) == {"images/all/A.png": [BOX], "images/all/b.png": [OTHER], "images/all/c.png": []}


@pytest.mark.parametrize("litter", ["._a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png", "__MACOSX/images/a.png"])
def test_litter_is_no_image_and_no_label_file(tmp_path, litter):
    labels = {"labels/a.txt": BOX, f"labels/{litter.replace('png', 'txt')}": OTHER}
    dataset = files(tmp_path, ["images/a.png", f"images/{litter}"], labels)
    assert kinds(dataset) == [] and sizes(dataset) == {"train": (1, 1)}


def test_captions_beside_images_are_no_labels(tmp_path):
    dataset = files(tmp_path, ["images/a.png", "images/b.png"], {"labels/a.txt": BOX, "images/b.txt": "a road"})
    assert kinds(dataset) == ["image-without-label-file"] and boxes(dataset) == {"a.png": [BOX], "b.png": []}


VOC = "<annotation><object><name>crack</name></object></annotation>"
LABELME = '{"shapes": [{"label": "crack", "points": [[1, 1], [9, 9]]}], "imagePath": "b.png"}'


@pytest.mark.parametrize(
    ("name", "text", "is_told"),
    [
        ("images/b.xml", VOC, True),
        ("labels/b.xml", VOC, True),
        ("images/b.json", LABELME, True),
        ("labels/b.json", LABELME, True),
        ("images/b.xml", "<annotation><filename>b.png</filename></annotation>", False),
        ("images/b.json", '{"exposure": 0.1}', False),
    ],
)
def test_an_image_whose_annotations_are_in_another_format_is_left_out(tmp_path, name, text, is_told):
    dataset = files(tmp_path, ["images/a.png", "images/b.png"], {"labels/a.txt": BOX, name: text})
    assert ("labels-in-other-format" in kinds(dataset)) == is_told
    assert boxes(dataset) == {"a.png": [BOX]} | ({} if is_told else {"b.png": []})


@pytest.mark.parametrize(("images", "labels"), [("{}/images", "{}/labels"), ("images/{}", "labels/{}"), ("{}", "{}")])
def test_a_label_file_in_the_folder_of_another_split_is_told(tmp_path, images, labels):
    train, valid = (images.format(split) for split in ("train", "valid"))
    own, other = (labels.format(split) for split in ("valid", "train"))
    texts = {f"{other}/a.txt": BOX, f"{other}/c.txt": BOX, f"{own}/b.txt": BOX}
    images = [f"{train}/a.png", f"{valid}/b.png", f"{valid}/c.png"]
    dataset = files(tmp_path, images, texts, yaml="names: [crack]\n")
    (finding,) = [finding for finding in dataset.findings if finding.kind == "labels-not-paired"]
    assert finding.image_names == ("c.png",) and "c.txt" in finding.locations[0].detail
    assert {image.file_name for image in dataset.splits["valid"].images} == {"b.png"}
