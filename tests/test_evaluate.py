"""Metrics against cases small enough to compute by hand."""

import numpy as np
import pytest

from sam3_lora.evaluate import Pair, coco_map, concept_f1
from sam3_lora.masks import encode_rle

SIZE = (32, 32)


def square(x, y, side=8):
    mask = np.zeros(SIZE, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return [float(x), float(y), float(side), float(side)], encode_rle(mask)


def pair(image_id=1, truths=(), answers=(), scores=(), phrase="crack", crowd=False):
    truth_boxes, truth_masks = zip(*truths, strict=True) if truths else ((), ())
    answer_boxes, answer_masks = zip(*answers, strict=True) if answers else ((), ())
    return Pair(
        image_id=image_id,
        phrase=phrase,
        size_hw=SIZE,
        truth_boxes=list(truth_boxes),
        truth_masks=list(truth_masks),
        truth_crowd=[crowd] * len(truths),
        answer_boxes=list(answer_boxes),
        answer_masks=list(answer_masks),
        answer_scores=list(scores),
    )


def test_perfect_answers_score_one():
    pairs = [pair(1, [square(2, 2)], [square(2, 2)], [0.9]), pair(2)]
    assert coco_map(pairs) == pytest.approx({"map_bbox": 1.0, "map_segm": 1.0})
    metrics = concept_f1(pairs)
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["il_mcc"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["cgf1"] == pytest.approx(1.0, abs=1e-3)


def test_no_answers_score_zero():
    pairs = [pair(1, [square(2, 2)]), pair(2)]
    assert coco_map(pairs) == pytest.approx({"map_bbox": 0.0, "map_segm": 0.0})
    assert concept_f1(pairs)["f1_50"] == 0.0


def test_a_shifted_square_counts_up_to_its_iou():
    # 8 x 8 moved by one pixel: 56 / 72 = 0.78, so it is found at 6 of the 10 thresholds.
    pairs = [pair(1, [square(2, 2)], [square(3, 2)], [0.9]), pair(2)]
    assert coco_map(pairs)["map_segm"] == pytest.approx(0.6)
    metrics = concept_f1(pairs)
    assert metrics["positive_f1"] == pytest.approx(0.6, abs=1e-3)
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_half_of_two_found_and_one_answer_too_many():
    pairs = [pair(1, [square(2, 2), square(20, 20)], [square(2, 2)], [0.9]), pair(2, [], [square(0, 0)], [0.8])]
    # One true, one false, one missed: precision and recall are both one half.
    assert concept_f1(pairs)["f1_50"] == pytest.approx(0.5, abs=1e-3)


def test_answers_below_the_threshold_are_none():
    pairs = [pair(1, [square(2, 2)], [square(2, 2), square(20, 20)], [0.9, 0.4]), pair(2, [], [square(0, 0)], [0.4])]
    assert concept_f1(pairs)["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_without_negative_pairs_the_correlation_is_not_defined():
    metrics = concept_f1([pair(1, [square(2, 2)], [square(2, 2)], [0.9])])
    assert metrics["il_mcc"] is None and metrics["cgf1"] is None
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_a_crowd_is_no_object_and_takes_no_blame_in_map():
    pairs = [
        pair(1, [square(2, 2)], [square(2, 2)], [0.9]),
        pair(2, [square(8, 8, side=16)], [square(10, 10)], [0.95], crowd=True),
    ]
    assert coco_map(pairs)["map_segm"] == pytest.approx(1.0)
