"""Metrics, outcomes, thresholds and leak on cases small enough to compute by hand."""

from __future__ import annotations

import pytest

from sam3_lora.evaluate.cgf1 import NO_NEGATIVES, why_not_defined
from sam3_lora.evaluate.precision_recall_f1 import BELOW, FN, FP, IGNORED, LOW_IOU, TP, classify, sweep
from sam3_lora.evaluate.prompt_leak import UNRELATED_PHRASES, PhraseGroups, false_firing, leak, retained
from sam3_lora.evaluate.worst_images import worst_images
from sam3_lora.words import foreign_words
from tests.evaluate.helpers import coco_map, concept_f1, image_predictions, prompt_result, square


def test_perfect_predictions_score_one():
    results = [prompt_result(1, [square(2, 2)], [square(2, 2)], [0.9]), prompt_result(2)]
    assert coco_map(results) == pytest.approx({"map_bbox": 1.0, "map_segm": 1.0})
    metrics = concept_f1(results)
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["il_mcc"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["cgf1"] == pytest.approx(1.0, abs=1e-3)


def test_no_predictions_score_zero():
    results = [prompt_result(1, [square(2, 2)]), prompt_result(2)]
    assert coco_map(results) == pytest.approx({"map_bbox": 0.0, "map_segm": 0.0})
    assert concept_f1(results)["f1_50"] == 0.0


def test_a_shifted_square_counts_up_to_its_iou():
    # 8 x 8 moved by one pixel: 56 / 72 = 0.78, so it is found at 6 of the 10 thresholds.
    results = [prompt_result(1, [square(2, 2)], [square(3, 2)], [0.9]), prompt_result(2)]
    assert coco_map(results)["map_segm"] == pytest.approx(0.6)
    metrics = concept_f1(results)
    assert metrics["positive_f1"] == pytest.approx(0.6, abs=1e-3)
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_one_true_positive_one_false_positive_and_one_false_negative():
    results = [
        prompt_result(1, [square(2, 2), square(20, 20)], [square(2, 2)], [0.9]),
        prompt_result(2, [], [square(0, 0)], [0.8]),
    ]
    # One true positive, one false positive, one false negative: precision and recall are both one half.
    assert concept_f1(results)["f1_50"] == pytest.approx(0.5, abs=1e-3)


def test_predictions_below_the_threshold_do_not_count():
    results = [
        prompt_result(1, [square(2, 2)], [square(2, 2), square(20, 20)], [0.9, 0.4]),
        prompt_result(2, [], [square(0, 0)], [0.4]),
    ]
    assert concept_f1(results)["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_without_negative_results_the_correlation_is_not_defined():
    results = [prompt_result(1, [square(2, 2)], [square(2, 2)], [0.9])]
    metrics = concept_f1(results)
    assert why_not_defined(results) == NO_NEGATIVES
    assert why_not_defined([*results, prompt_result(2)]) is None
    assert metrics["il_mcc"] is None and metrics["cgf1"] is None
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_a_prediction_in_a_crowd_region_does_not_lower_map():
    results = [
        prompt_result(1, [square(2, 2)], [square(2, 2)], [0.9]),
        prompt_result(2, [square(8, 8, side=16)], [square(10, 10)], [0.95], crowd=True),
    ]
    assert coco_map(results)["map_segm"] == pytest.approx(1.0)


def test_each_prediction_has_one_outcome():
    gt = [square(0, 0, 20), square(40, 0, 20), square(80, 0, 60), square(0, 80, 20)]
    preds = [
        square(0, 0, 20),  # the first object
        square(1, 0, 20),  # the first object again: it has been found
        square(40, 0, 12),  # 144 of 400 pixels of the second
        square(90, 10, 20),  # in the crowd
        square(120, 120, 20),  # nothing there
    ]
    found = classify(prompt_result(1, gt, preds, [0.9, 0.8, 0.7, 0.6, 0.55], crowd=[False, False, True, False]))
    assert found.predictions == [TP, FP, LOW_IOU, IGNORED, FP]
    assert found.is_fn.tolist() == [False, True, False, True]


def test_predictions_below_the_threshold_have_no_outcome():
    found = classify(prompt_result(1, [square(0, 0)], [square(0, 0), square(50, 50)], [0.45, 0.4]))
    assert found.predictions == [] and found.is_fn.tolist() == [True]


def test_the_best_threshold_separates_true_from_false_positives():
    results = [
        prompt_result(1, [square(0, 0)], [square(0, 0), square(50, 50)], [0.4, 0.2]),
        prompt_result(2, [square(0, 0)], [square(0, 0)], [0.38]),
        prompt_result(3, [], [square(0, 0)], [0.25]),
    ]
    swept = sweep(results)
    best = swept.best_threshold()
    assert 0.25 < best <= 0.38
    assert swept.at(best)[:3] == (1, 1, 1)
    assert swept.at(0.5)[:3] == (0, 0, 0)
    assert swept.at(0.05)[:3] == pytest.approx((0.5, 1, 2 * 2 / 6))


def test_no_best_threshold_without_a_true_positive():
    assert sweep([prompt_result(1, [square(0, 0)], [square(50, 50)], [0.9])]).best_threshold() is None
    assert sweep([]).best_threshold() is None


def test_predictions_in_a_crowd_region_do_not_move_the_threshold():
    crowded = prompt_result(
        1, [square(0, 0), square(40, 40, 60)], [square(0, 0), square(50, 50)], [0.3, 0.9], crowd=[False, True]
    )
    assert sweep([crowded]).at(0.3)[:3] == (1, 1, 1)


GROUPS = PhraseGroups(("crack", "pothole"), (), ("walrus",), ("car",))


def leaky_image(adapter: bool):
    """A crack and a pothole; "pothole" marks both, "walrus" the pothole; "car" is really there, twice."""
    crack, pothole, cars = square(0, 0, 20), square(40, 0, 20), [square(80, 80, 20), square(120, 80, 20)]
    return image_predictions(
        [
            prompt_result(1, [crack], [crack], [0.9]),
            prompt_result(1, [pothole], [pothole, crack], [0.9, 0.8], "pothole"),
        ],
        [
            prompt_result(1, (), [pothole], [0.7], "walrus"),
            prompt_result(
                1, (), cars[:1] if adapter else [*cars, pothole], [0.8, 0.7, 0.6][: 1 if adapter else 3], "car"
            ),
        ],
    )


def empty_image():
    """Nothing is there; "pothole" and "walrus" find something, one of them too faintly."""
    fired = prompt_result(2, (), [square(3, 3)], [0.6], "pothole")
    return image_predictions(
        [prompt_result(2), fired], [prompt_result(2, phrase="walrus"), prompt_result(2, phrase="car")]
    )


def test_leak_is_the_share_of_other_phrases_objects_that_a_phrase_marks():
    found = leak([leaky_image(False), empty_image()], GROUPS)
    assert found.rows == ["crack", "pothole", "walrus", "car"]
    assert found.kinds == ["category", "category", "foreign", "common"]
    assert found.on_objects == [[None, 0], [1, None], [0, 1], [0, 1]]
    # "car" may be in any picture; the others were not in the second, "walrus" was in neither.
    assert found.anywhere == [0, 1, 0.5, None]
    assert found.by_share()[0][2] == 1


def test_false_firing_counts_prompts_for_absent_phrases():
    assert false_firing([leaky_image(False), empty_image()], GROUPS).tolist() == [[1, 1], [3, 1]]


def test_a_phrase_that_may_mean_an_object_does_not_fire_falsely():
    image = image_predictions([prompt_result(1, (), [square(0, 0)], [0.9], "pothole")], [], present=("road pothole",))
    assert false_firing([image], GROUPS).tolist() == [[0, 0]]


def test_retained_is_what_both_find_beside_the_objects_of_the_dataset():
    counts, by_word = retained([leaky_image(False)], [leaky_image(True)], GROUPS)
    assert counts.tolist() == [[2, 1]], "the pothole that is no car does not count"
    assert by_word == {"car": [2, 1]}


def test_phrases_that_measure_leak_are_never_training_negatives():
    assert not set(UNRELATED_PHRASES) & set(foreign_words())


def test_the_worst_image_comes_first_and_images_without_errors_do_not():
    good = image_predictions([prompt_result(1, [square(0, 0)], [square(0, 0)], [0.9])])
    bad = image_predictions([prompt_result(2, [square(0, 0)], [square(50, 50), square(90, 90)], [0.9, 0.8])])
    poor = image_predictions([prompt_result(3, [square(0, 0, 20)], [square(0, 0, 12)], [0.9])])
    base = [bad, good, good]
    worst = worst_images(base, [good, bad, poor])
    assert [(one.fp, one.fn, one.low_iou) for one in worst] == [(2, 1, 0), (0, 0, 1)]
    first = worst[0]
    assert [shape.outcome for shape in first.gt] == [FN]
    assert [shape.outcome for shape in first.adapter] == [FP, FP]
    assert [shape.outcome for shape in first.base] == [TP]
    assert [(one.fp, one.fn) for one in worst_images(base, None)] == [(2, 1)]


def test_what_nearly_finds_a_missed_object_is_kept():
    """Of the predictions below the threshold the best that overlaps: one that fits, however low its score."""
    gt = [square(0, 0, 20), square(50, 50, 20), square(100, 0, 20), square(0, 100, 20)]
    fits, overlaps = square(0, 0, 18), square(0, 0, 12)
    hopeless, elsewhere = square(50, 50, 18), square(120, 120)
    poor, poor_too = square(100, 0, 12), square(100, 0, 18)  # an object outlined badly is not missed
    found = square(0, 100, 20)
    preds = [poor, found, overlaps, poor_too, elsewhere, fits, hopeless]
    scores = [0.9, 0.8, 0.45, 0.44, 0.43, 0.42, 0.01]
    (image,) = worst_images([image_predictions([prompt_result(1, gt, preds, scores)])], None)
    assert (image.fp, image.fn, image.low_iou) == (0, 2, 1)
    assert [shape.outcome for shape in image.gt] == [FN, FN, LOW_IOU, TP]
    assert {shape.score: shape.outcome for shape in image.judged} == {0.9: LOW_IOU, 0.8: TP, 0.42: BELOW}
