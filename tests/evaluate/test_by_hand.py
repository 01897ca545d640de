"""Metrics, outcomes, thresholds and leak against cases small enough to compute by hand."""

from __future__ import annotations

import pytest

from sam3_lora.data.prompts import EVERYDAY_WORDS
from sam3_lora.evaluate import coco_map, concept_f1
from sam3_lora.evaluate.cgf1 import NO_NEGATIVES, why_not_defined
from sam3_lora.evaluate.outcomes import IGNORED, POOR, RIGHT, WRONG, outcome, sweep
from sam3_lora.evaluate.prompt_leak import FOREIGN_WORDS, Words, false_firing, kept, leak
from sam3_lora.evaluate.worst_images import worst_images
from tests.evaluate.made_predictions import asked, pair, square


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
    pairs = [pair(1, [square(2, 2)], [square(2, 2)], [0.9])]
    metrics = concept_f1(pairs)
    assert why_not_defined(pairs) == NO_NEGATIVES
    assert why_not_defined([*pairs, pair(2)]) is None
    assert metrics["il_mcc"] is None and metrics["cgf1"] is None
    assert metrics["f1_50"] == pytest.approx(1.0, abs=1e-3)


def test_a_crowd_is_no_object_and_takes_no_blame_in_map():
    pairs = [
        pair(1, [square(2, 2)], [square(2, 2)], [0.9]),
        pair(2, [square(8, 8, side=16)], [square(10, 10)], [0.95], crowd=True),
    ]
    assert coco_map(pairs)["map_segm"] == pytest.approx(1.0)


def test_each_answer_has_one_outcome():
    truths = [square(0, 0, 20), square(40, 0, 20), square(80, 0, 60), square(0, 80, 20)]
    answers = [
        square(0, 0, 20),  # the first object
        square(1, 0, 20),  # the first object again: it has been found
        square(40, 0, 12),  # 144 of 400 pixels of the second
        square(90, 10, 20),  # in the crowd
        square(120, 120, 20),  # nothing there
    ]
    found = outcome(pair(1, truths, answers, [0.9, 0.8, 0.7, 0.6, 0.55], crowd=[False, False, True, False]))
    assert found.answers == [RIGHT, WRONG, POOR, IGNORED, WRONG]
    assert found.missed.tolist() == [False, True, False, True]
    assert found.ious[:3] == pytest.approx([1, 0, 0.36])


def test_answers_below_the_score_have_no_outcome():
    found = outcome(pair(1, [square(0, 0)], [square(0, 0), square(50, 50)], [0.45, 0.4]))
    assert found.answers == [] and found.missed.tolist() == [True]


def test_the_advised_threshold_parts_right_from_wrong():
    pairs = [
        pair(1, [square(0, 0)], [square(0, 0), square(50, 50)], [0.4, 0.2]),
        pair(2, [square(0, 0)], [square(0, 0)], [0.38]),
        pair(3, [], [square(0, 0)], [0.25]),
    ]
    swept = sweep(pairs)
    best = swept.best_threshold()
    assert 0.25 < best <= 0.38
    assert swept.at(best) == (1, 1, 1)
    assert swept.at(0.5) == (0, 0, 0)
    assert swept.at(0.05) == pytest.approx((2 * 2 / 6, 0.5, 1))


def test_no_threshold_is_advised_where_nothing_is_right():
    assert sweep([pair(1, [square(0, 0)], [square(50, 50)], [0.9])]).best_threshold() is None
    assert sweep([]).best_threshold() is None


def test_what_lies_in_a_crowd_does_not_move_the_threshold():
    crowded = pair(
        1, [square(0, 0), square(40, 40, 60)], [square(0, 0), square(50, 50)], [0.3, 0.9], crowd=[False, True]
    )
    assert sweep([crowded]).at(0.3) == (1, 1, 1)


WORDS = Words(("crack", "pothole"), (), ("walrus",), ("car",))


def leaky_image(adapter: bool):
    """A crack and a pothole; "pothole" marks both, "walrus" the pothole; "car" is really there, twice."""
    crack, pothole, cars = square(0, 0, 20), square(40, 0, 20), [square(80, 80, 20), square(120, 80, 20)]
    return asked(
        [
            pair(1, [crack], [crack], [0.9]),
            pair(1, [pothole], [pothole, crack], [0.9, 0.8], "pothole"),
        ],
        [
            pair(1, (), [pothole], [0.7], "walrus"),
            pair(1, (), cars[:1] if adapter else [*cars, pothole], [0.8, 0.7, 0.6][: 1 if adapter else 3], "car"),
        ],
    )


def empty_image():
    """Nothing is there; "pothole" and "walrus" find something, one of them too faintly."""
    fired = pair(2, (), [square(3, 3)], [0.6], "pothole")
    return asked([pair(2), fired], [pair(2, phrase="walrus"), pair(2, phrase="car")])


def test_leak_says_what_a_phrase_marks_that_it_does_not_mean():
    found = leak([leaky_image(False), empty_image()], WORDS)
    assert found.rows == ["crack", "pothole", "walrus", "car"]
    assert found.kinds == ["category", "category", "foreign", "common"]
    assert found.on_objects == [[None, 0], [1, None], [0, 1], [0, 1]]
    # "car" may be in any picture; the others were not in the second, "walrus" was in neither.
    assert found.anywhere == [0, 1, 0.5, None]
    assert found.worst()[2] == 1


def test_false_firing_counts_the_questions_whose_answer_is_no():
    assert false_firing([leaky_image(False), empty_image()], WORDS).tolist() == [[1, 1], [3, 1]]


def test_a_phrase_is_not_blamed_where_it_may_be_meant():
    image = asked([pair(1, (), [square(0, 0)], [0.9], "pothole")], [], present=("road pothole",))
    assert false_firing([image], WORDS).tolist() == [[0, 0]]


def test_kept_is_what_both_find_beside_the_objects_of_the_dataset():
    counts, by_word = kept([leaky_image(False)], [leaky_image(True)], WORDS)
    assert counts.tolist() == [[2, 1]], "the pothole that is no car does not count"
    assert by_word == {"car": [2, 1]}


def test_no_training_asks_the_words_that_the_leak_is_measured_by():
    assert not set(FOREIGN_WORDS) & set(EVERYDAY_WORDS)


def test_the_worst_image_comes_first_and_images_without_errors_do_not():
    good = asked([pair(1, [square(0, 0)], [square(0, 0)], [0.9])])
    bad = asked([pair(2, [square(0, 0)], [square(50, 50), square(90, 90)], [0.9, 0.8])])
    poor = asked([pair(3, [square(0, 0, 20)], [square(0, 0, 12)], [0.9])])
    base = [bad, good, good]
    worst = worst_images(base, [good, bad, poor])
    assert [(one.false, one.missed, one.poor) for one in worst] == [(2, 1, 0), (0, 0, 1)]
    first = worst[0]
    assert [shape.outcome for shape in first.truths] == ["missed"]
    assert [shape.outcome for shape in first.adapter] == [WRONG, WRONG]
    assert [shape.outcome for shape in first.base] == [RIGHT]
    assert [(one.false, one.missed) for one in worst_images(base, None)] == [(2, 1)]
