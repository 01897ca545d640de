"""mAP and cgF1 against the tools they come from: pycocotools, and SAM 3's own evaluator."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam3_lora.evaluate.average_precision import AveragePrecision, ap_by_phrase, ap_by_size, mean_ap
from sam3_lora.evaluate.predictions import PromptResult
from tests.evaluate.helpers import SIZE, concept_f1, random_results


def without_predictions(results: list[PromptResult], phrase: str) -> list[PromptResult]:
    nothing = {"pred_boxes": [], "pred_masks": [], "pred_scores": []}
    return [replace(one, **nothing) if one.phrase == phrase else one for one in results]


def as_coco(results: list[PromptResult], unit) -> tuple[dict, list[dict]]:
    """The results as COCO's files; unit: the image id of a result."""
    from pycocotools import mask as rle_ops

    numbers = {name: number for number, name in enumerate(dict.fromkeys(map(unit, results)), 1)}
    phrases = sorted({one.phrase for one in results})
    gt, preds = [], []
    for one in results:
        where = {"image_id": numbers[unit(one)], "category_id": 1 + phrases.index(one.phrase)}
        for box, mask, crowd in zip(one.gt_boxes, one.gt_masks, one.gt_crowd, strict=True):
            what = {"bbox": box, "segmentation": mask, "area": float(rle_ops.area(mask)), "iscrowd": int(crowd)}
            gt.append({"id": len(gt) + 1, **where, **what})
        for box, mask, score in zip(one.pred_boxes, one.pred_masks, one.pred_scores, strict=True):
            preds.append({**where, "bbox": box, "segmentation": mask, "score": score})
    images = [
        {"id": number, "height": SIZE[0], "width": SIZE[1], "is_instance_exhaustive": True}
        for number in numbers.values()
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(phrases, 1)]
    return {"info": {}, "images": images, "annotations": gt, "categories": categories}, preds


def precision_by_pycocotools(results: list[PromptResult], kind: str) -> np.ndarray:
    gt, preds = as_coco(results, lambda one: one.image_id)
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = gt
        ground.createIndex()
        evaluation = COCOeval(ground, ground.loadRes(preds), kind)
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval["precision"][..., -1]
    return np.where(values < 0, np.nan, values)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_pycocotools(seed: int, kind: str) -> None:
    results = without_predictions(random_results(seed), "joint")
    expected = precision_by_pycocotools(results, kind)
    found = AveragePrecision(results, kind)
    assert found.phrases == ("crack", "joint", "pothole")
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    assert mean_ap(found.values) == pytest.approx(np.nanmean(expected[..., 0]), abs=1e-9)
    assert ap_by_phrase(found.values) == pytest.approx(np.nanmean(expected[..., 0], axis=(0, 1)), abs=1e-9)
    assert ap_by_phrase(found.values)[1] == 0, "a phrase without predictions"
    assert ap_by_size(found.values) == pytest.approx(
        [np.nanmean(expected[..., size]) for size in (1, 2, 3)], abs=1e-9, nan_ok=True
    )
    assert 0.05 < mean_ap(found.values) < 0.95, "the case says something"


def test_a_resampled_split_is_measured_like_one_that_has_its_images_twice() -> None:
    results = random_results(5, images=6)
    chosen = np.array([1, 1, 4, 5, 2, 4])
    names = list(dict.fromkeys(one.image_id for one in results))
    # Scores are set apart: equal ones are ranked by the order of images, which differs here.
    results = [replace(one, pred_scores=[s - 1e-4 * one.image_id for s in one.pred_scores]) for one in results]
    again = [
        replace(one, image_id=f"copy {number}")
        for number, image in enumerate(chosen.tolist())
        for one in results
        if one.image_id == names[image]
    ]
    measured = AveragePrecision(results, "segm")
    np.testing.assert_allclose(measured.resampled(chosen), AveragePrecision(again, "segm").values, atol=1e-9)
    np.testing.assert_allclose(measured.resampled(np.arange(6)), measured.values)


@functools.cache
def reference_evaluator():
    """SAM 3's cgf1_eval.py, without the rest of its package, which takes long to import."""
    package = importlib.util.find_spec("sam3")
    if package is None:
        pytest.skip("the reference is not installed")
    path = Path(package.submodule_search_locations[0]) / "eval" / "cgf1_eval.py"
    spec = importlib.util.spec_from_file_location("cgf1_eval", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cgf1_of_the_reference(results: list[PromptResult], folder) -> dict[str, float]:
    evaluator = reference_evaluator()
    gt, preds = as_coco(results, lambda one: (one.image_id, one.phrase))
    (folder / "gt.json").write_text(json.dumps(gt))
    (folder / "preds.json").write_text(json.dumps(preds))
    with contextlib.redirect_stdout(io.StringIO()):
        measured = evaluator.CGF1Evaluator(str(folder / "gt.json")).evaluate(str(folder / "preds.json"))
    names = {"f1_50": "F1@0.5", "positive_f1": "positive_micro_F1", "il_mcc": "IL_MCC", "cgf1": "cgF1"}
    return {ours: measured[f"cgF1_eval_segm_{theirs}"] for ours, theirs in names.items()}


@pytest.mark.parametrize("seed", range(4))
def test_cgf1_is_that_of_the_reference(seed: int, tmp_path) -> None:
    results = without_predictions(random_results(10 + seed), "joint")
    expected = cgf1_of_the_reference(results, tmp_path)
    assert concept_f1(results) == pytest.approx(expected, abs=1e-6)
    assert 0.05 < expected["positive_f1"] < 0.95 and expected["il_mcc"] != 0, "the case says something"


def test_cgf1_without_negatives_is_the_references_but_for_the_zero(tmp_path) -> None:
    results = [one for one in random_results(3) if not one.crowd.all()]
    expected = cgf1_of_the_reference(results, tmp_path)
    assert expected["il_mcc"] == expected["cgf1"] == 0
    assert concept_f1(results) == pytest.approx(expected | {"il_mcc": None, "cgf1": None}, abs=1e-6)
