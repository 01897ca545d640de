"""The boxes' F1 of validation, by hand."""

import pytest
import torch

from sam3_lora.structures import Detections, Targets
from sam3_lora.train.validation import BoxF1

OBJECT = (0.3, 0.3, 0.2, 0.2)
ELSEWHERE = (0.7, 0.7, 0.2, 0.2)


def detections(boxes: list, logits: list) -> Detections:
    """One layer; a mask is positive in the cells of a 10 x 10 grid that its box covers."""
    boxes = torch.tensor(boxes)[None]  # (1, P, Q, 4)
    center = (torch.arange(10) + 0.5) / 10
    low, high = boxes[0, ..., :2] - boxes[0, ..., 2:] / 2, boxes[0, ..., :2] + boxes[0, ..., 2:] / 2
    inside = (center >= low[..., None]) & (center <= high[..., None])  # (P, Q, 2, 10)
    masks = inside[..., 1, :, None] & inside[..., 0, None, :]
    return Detections(
        logits=torch.tensor(logits)[None],
        boxes=boxes,
        presence=torch.full((1, boxes.shape[1]), 10.0),
        masks=masks.float() * 20 - 10,
        semantic=None,
        one_to_many=None,
    )


def targets(boxes: list, counts: list[int]) -> Targets:
    return Targets(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        counts=torch.tensor(counts),
        masks=None,
        mask_valid=torch.zeros(len(boxes), dtype=torch.bool),
        exhaustive=torch.ones(len(counts), dtype=torch.bool),
    )


def value(boxes: list, logits: list, truths: list, counts: list[int]) -> float:
    hits = BoxF1()
    hits.add(detections(boxes, logits), targets(truths, counts))
    return hits.value()


def test_a_copy_of_an_answer_is_left_out_as_in_evaluation():
    assert value([[OBJECT, OBJECT]], [[3.0, 2.0]], [OBJECT], [1]) == 1


def test_an_answer_elsewhere_and_one_to_an_absent_phrase_are_wrong():
    # Right 1, found 3, objects 1.
    boxes = [[OBJECT, ELSEWHERE], [OBJECT, ELSEWHERE]]
    assert value(boxes, [[3.0, 2.0], [2.0, -3.0]], [OBJECT], [1, 0]) == pytest.approx(2 / 4)


def test_nothing_found_and_nothing_there_is_no_division_by_zero():
    assert value([[OBJECT]], [[-3.0]], [], [0]) == 0
