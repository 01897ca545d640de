"""Evaluation where files say that not every object is annotated, or what is known to be absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam3_lora.data.prompts import ImagePhrases
from sam3_lora.evaluate import EvaluationRequest, evaluate
from sam3_lora.evaluate.precision_recall_f1 import FP, IGNORED, LOW_IOU, TP, classify, sweep
from sam3_lora.evaluate.predictions import phrases_of
from sam3_lora.evaluate.prompt_leak import PhraseGroups, false_firing, leak, phrase_groups
from tests.data.findings.helpers import opened
from tests.evaluate.fake_predictor import FakePredictor, predicted
from tests.evaluate.helpers import coco_map, concept_f1, image_predictions, prompt_result, random_results, square

JOINT, CRACK = 3, 1
FIRES = {"crack": (1.0, 1.0), "pothole": (1.0, 1.0), "joint": (1.0, 1.0)}


def test_predictions_without_an_object_are_neither_true_nor_false():
    gt, preds = [square(0, 0, 20)], [square(0, 0, 20), square(60, 60), square(4, 4, 12)]
    result = replace(prompt_result(1, gt, preds, [0.9, 0.8, 0.7]), exhaustive=False)
    assert classify(result).predictions == [TP, IGNORED, IGNORED]
    assert sweep([result]).at(0.5)[:3] == (1, 1, 1)
    absent = prompt_result(2)
    alone = prompt_result(1, gt, preds[:1], [0.9])
    assert coco_map([result, absent]) == coco_map([alone, absent]) == {"map_bbox": 1.0, "map_segm": 1.0}
    assert concept_f1([result, absent]) == pytest.approx(concept_f1([alone, absent]))


def test_a_missed_object_and_a_bad_outline_still_count():
    missed = replace(prompt_result(1, [square(0, 0, 20)], [square(60, 60)], [0.9]), exhaustive=False)
    assert classify(missed).is_fn.tolist() == [True] and sweep([missed]).at(0.5).recall == 0
    assert coco_map([missed])["map_segm"] == 0 and concept_f1([missed, prompt_result(2)])["f1_50"] == 0
    poor = replace(prompt_result(1, [square(0, 0, 20)], [square(0, 0, 12)], [0.9]), exhaustive=False)
    assert classify(poor).predictions == [LOW_IOU]


def test_no_metric_falls_where_fewer_predictions_are_false():
    results = random_results(3)
    partly = [replace(one, exhaustive=number % 2 == 0) for number, one in enumerate(results)]
    for measure in (coco_map, concept_f1):
        before, after = measure(results), measure(partly)
        assert all(after[name] > before[name] for name in before if name not in ("il_mcc", "cgf1"))
    assert concept_f1(partly)["il_mcc"] == concept_f1(results)["il_mcc"]


def listed(data):
    """Image 0 has a crack and a pothole, joint is known to be absent; of image 1 the cracks are incomplete."""
    for entry in data["images"]:
        entry["neg_category_ids"] = []
    data["images"][0]["neg_category_ids"] = [JOINT]
    data["images"][1]["not_exhaustive_category_ids"] = [CRACK]


def test_only_what_is_known_is_measured(tmp_path):
    split = opened(tmp_path, listed).split("train").present()
    predictor = FakePredictor(split, FIRES)
    found = [
        predicted(predictor, image, ("crack", "joint", "pothole"), categories=split.categories)
        for image in split.images
    ]
    assert [{one.phrase: one.exhaustive for one in image.results} for image in found] == [
        {"crack": True, "joint": True, "pothole": True},
        {"crack": False, "joint": True},
        {"joint": True, "pothole": True},
        {"crack": True, "pothole": True},
    ]
    groups = phrase_groups(split, ("crack", "joint", "pothole"), None, "demo")
    assert false_firing(found, groups).tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]


def test_a_parent_beside_its_child_is_not_measured_by_what_it_fires_on(tmp_path):
    def change(data):  # image 0: crack and pothole, 1: joint and crack, 2: pothole and joint, 3: crack and pothole
        data["categories"][0]["supercategory"] = "pothole"

    split = opened(tmp_path, change).split("train")
    predictor = FakePredictor(split, FIRES)
    found = [predicted(predictor, image, ("crack", "joint", "pothole")) for image in split.images]
    assert [{one.phrase: one.exhaustive for one in image.results} for image in found[:3]] == [
        {"crack": True, "joint": True, "pothole": False},
        {"crack": True, "joint": True},
        {"joint": True, "pothole": True},
    ]
    groups = phrase_groups(split, ("crack", "joint", "pothole"), None, "demo")
    table = leak(found, groups).on_objects
    assert table[0][2] is None and table[2][0] is None and table[2][1] is not None


def test_listed_negatives_are_measured_although_the_split_has_no_object_of_them(tmp_path):
    def change(data):
        data["categories"].append({"id": 4, "name": "deep crack"})
        data["images"][0]["neg_category_ids"] = [4]

    split = opened(tmp_path, change).split("train")
    assert phrases_of(split) == ("crack", "deep crack", "joint", "pothole")
    predictor = FakePredictor(split, FIRES | {"deep crack": (0.0, 1.0)})
    image = predicted(predictor, split.images[0], phrases_of(split), categories=split.categories)
    assert [one.phrase for one in image.results] == ["crack", "deep crack", "pothole"]
    assert predictor.prompts[0][2] == ("crack", "deep crack", "pothole")  # nothing is known of joints
    assert classify(image.results[1]).predictions == [FP]
    assert concept_f1(image.results)["il_mcc"] is not None


def test_a_listed_negative_that_fires_is_a_false_one():
    known = ImagePhrases({}, frozenset(["taxi"]), frozenset(), frozenset(), frozenset(["a yellow taxi"]))
    fired = [prompt_result(1, (), [square(0, 0)], [0.9], phrase) for phrase in ("a yellow taxi", "walrus")]
    image = replace(image_predictions([], fired), known=known)
    groups = PhraseGroups(("taxi",), ("a yellow taxi",), ("walrus",), ())
    assert false_firing([image], groups).tolist() == [[1, 1]]


@pytest.mark.usefixtures("no_loss")
def test_the_report_says_how_many_prompts_are_incomplete(tmp_path):
    def change(data):
        data["images"][0]["not_exhaustive_category_ids"] = [CRACK]

    split = opened(tmp_path, change).split("train")
    report = evaluate(FakePredictor(split, FIRES), EvaluationRequest(split, dataset="made up", base_name="demo"))
    assert sum("not every object is annotated" in note for note in report.notes) == 1
    assert np.isfinite(report.base.metrics["map_segm"])
