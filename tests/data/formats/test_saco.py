"""SA-Co: pairs of image and phrase become images with several phrases, some of them negative."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from PIL import Image

from sam3_lora.config import Negatives
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.prompts import phrases_for
from sam3_lora.masks import decode_segmentation, encode_rle
from tests.factories import SIZE_HW, ellipse, kinds

HEIGHT, WIDTH = SIZE_HW
BOX, OTHER = (8, 6, 20, 12), (32, 24, 16, 18)


def pair(number, picture, phrase, **values):
    return {"id": number, "file_name": picture, "width": WIDTH, "height": HEIGHT, "text_input": phrase, **values}


def annotated(number, pair_id, box=BOX, *, fractions=False, **values):
    mask = ellipse(SIZE_HW, (box[0] + box[2] / 2, box[1] + box[3] / 2), (box[2] / 2, box[3] / 2))
    written = [value / side for value, side in zip(box, (WIDTH, HEIGHT) * 2, strict=True)] if fractions else list(box)
    values = {"category_id": 1, "segmentation": encode_rle(mask), "iscrowd": 0, "area": 0.1} | values
    return {"id": number, "image_id": pair_id, "bbox": written, **values}


def opened(folder, images, annotations, categories=({"id": 1, "name": "object"},), file="train.json"):
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    for name in {entry["file_name"] for entry in images}:
        Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(path.parent / name)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": list(categories)}))
    return open_dataset(folder)


def asked(dataset, split="train"):
    """File name -> positive phrase -> (boxes, whether it is exhaustive); and file name -> possible negatives."""
    positive, negative = {}, {}
    for image in dataset.split(split).images:
        positives, negatives = phrases_for(image, dataset.prompt_categories, Negatives(99), random.Random(0))
        positive[image.file_name] = {
            one.phrase: ([item.bbox_xywh for item in one.annotations], one.exhaustive) for one in positives
        }
        negative[image.file_name] = set(negatives)
    return positive, negative


PAIRS = [
    pair(10, "a.png", "pothole"),
    pair(11, "a.png", "manhole cover"),
    pair(12, "a.png", "a yellow taxi"),
    pair(13, "b.png", "manhole cover"),
    pair(14, "b.png", "pothole"),
]


@pytest.mark.parametrize("fractions", [False, True])
def test_entries_of_one_picture_are_one_image(tmp_path, fractions):
    objects = [annotated(1, 10, fractions=fractions), annotated(2, 11, OTHER, fractions=fractions)]
    objects.append(annotated(3, 13, OTHER, fractions=fractions))
    dataset = opened(tmp_path, PAIRS, objects)
    positive, negative = asked(dataset)
    assert positive == {
        "a.png": {"pothole": ([BOX], True), "manhole cover": ([OTHER], True)},
        "b.png": {"manhole cover": ([OTHER], True)},
    }
    assert negative == {"a.png": {"a yellow taxi"}, "b.png": {"pothole"}}
    assert "SA-Co" in dataset.format and kinds(dataset) == ["phrases-from-text-input", "negatives-listed"]
    finding = dataset.findings[0]
    assert finding.facts == {"pairs": 5, "pictures": 2, "phrases": 3}
    assert finding.variant == ("fractions" if fractions else "")


def test_masks_are_read(tmp_path):
    dataset = opened(tmp_path, PAIRS, [annotated(1, 10, fractions=True)])
    (item,) = dataset.split("train").images[0].annotations
    mask = decode_segmentation(item.segmentation, SIZE_HW)
    assert np.argwhere(mask).min(0).tolist() == [BOX[1], BOX[0]]


def test_the_layout_of_training(tmp_path):
    for split in ("train", "valid"):
        objects = [annotated(1, 10, category_id=0)]
        opened(tmp_path, PAIRS, objects, [{"id": 0, "name": "visual"}], f"{split}/_annotations.coco.json")
    dataset = open_dataset(tmp_path)
    assert list(dataset.splits) == ["train", "valid"] and "SA-Co" in dataset.format
    assert asked(dataset, "valid")[1]["a.png"] == {"manhole cover", "a yellow taxi"}
    assert dataset.categories == ("pothole", "manhole cover", "a yellow taxi")


def test_the_other_name_of_the_phrase(tmp_path):
    images = [{**entry, "noun_phrase": entry["text_input"], "text_input": None} for entry in PAIRS]
    assert asked(opened(tmp_path, images, [annotated(1, 10)]))[1]["a.png"] == {"manhole cover", "a yellow taxi"}


def test_annotations_without_a_category(tmp_path):
    objects = [annotated(1, 10), annotated(2, 11, OTHER)]
    for entry in objects:
        del entry["category_id"]
    positive, _ = asked(opened(tmp_path, PAIRS, objects, ()))
    assert positive["a.png"] == {"pothole": ([BOX], True), "manhole cover": ([OTHER], True)}


@pytest.mark.parametrize("flag", [0, False, "0"])
def test_a_pair_that_is_not_exhaustive(tmp_path, flag):
    """With objects it is positive, without it is unknown."""
    images = [{**entry, "is_instance_exhaustive": flag} for entry in PAIRS[:2]] + PAIRS[2:]
    dataset = opened(tmp_path, images, [annotated(1, 10)])
    positive, negative = asked(dataset)
    assert positive["a.png"] == {"pothole": ([BOX], False)}
    assert negative["a.png"] == {"a yellow taxi"}
    assert [finding.count for finding in dataset.findings if finding.kind == "not-exhaustive"] == [1]


def test_a_picture_of_which_nothing_is_known_is_left_out(tmp_path):
    images = [pair(1, "a.png", "pothole", is_instance_exhaustive=0), pair(2, "b.png", "pothole")]
    dataset = opened(tmp_path, images, [annotated(1, 2)])
    assert [image.file_name for image in dataset.split("train").present().images] == ["b.png"]
    assert "image-unknown" in kinds(dataset)


def test_the_same_phrase_in_other_letters(tmp_path):
    images = [pair(1, "a.png", "Pothole"), pair(2, "b.png", " pothole  ")]
    dataset = opened(tmp_path, images, [annotated(1, 1)])
    assert dataset.categories == ("Pothole",)
    assert asked(dataset)[1] == {"a.png": set(), "b.png": {"pothole"}}


def test_a_pair_twice_has_the_objects_of_both(tmp_path):
    images = [pair(1, "a.png", "pothole"), pair(2, "a.png", "pothole"), pair(3, "a.png", "taxi")]
    dataset = opened(tmp_path, images, [annotated(1, 1), annotated(2, 2, OTHER)])
    assert asked(dataset) == ({"a.png": {"pothole": ([BOX, OTHER], True)}}, {"a.png": {"taxi"}})
    assert "pair-repeated" in kinds(dataset)


@pytest.mark.parametrize("second", ["a.png", "b.png"])
def test_an_id_of_two_pairs_leaves_their_pictures_out(tmp_path, second):
    images = [pair(1, "a.png", "pothole"), pair(1, second, "taxi"), pair(3, "c.png", "pothole")]
    dataset = opened(tmp_path, images, [annotated(1, 1), annotated(2, 3)])
    assert [image.file_name for image in dataset.split("train").images] == ["c.png"]
    assert kinds(dataset)[0] == "duplicate-image-id"


def test_an_image_without_a_phrase_has_its_categories(tmp_path):
    unphrased = pair(20, "c.png", None)
    dataset = opened(tmp_path, [*PAIRS, unphrased], [annotated(1, 20), annotated(2, 10)], [{"id": 1, "name": "crack"}])
    positive, _ = asked(dataset)
    assert positive["c.png"] == {"crack": ([BOX], True)} and positive["a.png"] == {"pothole": ([BOX], True)}
    assert [finding.image_names for finding in dataset.findings if finding.kind == "text-input-missing"] == [("c.png",)]


def test_phrases_that_could_mean_the_same_are_told_apart_by_the_file(tmp_path):
    images = [pair(1, "a.png", "taxi"), pair(2, "a.png", "a yellow taxi"), pair(3, "a.png", "taxis")]
    assert asked(opened(tmp_path, images, [annotated(1, 1)]))[1] == {"a.png": {"a yellow taxi", "taxis"}}


def test_boxes_are_judged_for_the_whole_file(tmp_path):
    stray = annotated(3, 13, bbox=[0.2, 0.2, 0.5, 0.5])
    del stray["segmentation"]
    dataset = opened(tmp_path, PAIRS, [annotated(1, 10), annotated(2, 11), stray])
    assert asked(dataset)[0]["b.png"] == {} and "boxes-normalized" in kinds(dataset)


def test_a_fraction_that_rounds_beyond_the_image_is_no_fault(tmp_path):
    box = (0, 0, WIDTH, HEIGHT)
    objects = [annotated(1, 10, box, bbox=[0.0, 0.0, 1.0000002, 1.0]), annotated(2, 11, fractions=True)]
    dataset = opened(tmp_path, PAIRS, objects)
    assert asked(dataset)[0]["a.png"]["pothole"] == ([(0, 0, WIDTH, HEIGHT)], True)
    assert {finding.severity for finding in dataset.findings} == {"info"}


def test_faulty_entries_are_found_as_elsewhere(tmp_path):
    path = tmp_path / "train.json"
    opened(tmp_path, PAIRS, [annotated(1, 10)])
    data = json.loads(path.read_text())
    data["images"] += ["a.png", {"id": 30, "text_input": "taxi"}]
    data["annotations"] += [annotated(2, 99), None, annotated(3, [1])]
    path.write_text(json.dumps(data))
    dataset = open_dataset(tmp_path)
    assert {"bad-image", "unknown-image", "bad-annotation"} < set(kinds(dataset))
    assert asked(dataset)[0]["a.png"] == {"pothole": ([BOX], True)}
