"""Matching: hand-made cases, invariants, and what happens to numbers that cannot be matched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam3_lora.errors import TrainingError
from sam3_lora.loss.matching import Matches, match_one_to_many, match_one_to_one
from tests.loss.batches import random_batch, random_targets


def _triples(matches: Matches) -> list[tuple[int, int, int]]:
    columns = (matches.phrase_index, matches.query_index, matches.target_index)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_each_object_gets_the_query_that_lies_on_it() -> None:
    targets = random_targets([2])
    boxes = torch.stack((targets.boxes[1], torch.tensor([0.9, 0.9, 0.1, 0.1]), targets.boxes[0]))
    matches = match_one_to_one(torch.zeros(1, 1, 3), boxes[None, None], targets)[0]
    assert _triples(matches) == [(0, 0, 1), (0, 2, 0)]


def test_of_two_equal_boxes_the_surer_query_wins() -> None:
    targets = random_targets([1])
    boxes = targets.boxes.expand(1, 1, 2, 4)
    for logits, winner in (([0.0, 1.0], 1), ([1.0, 0.0], 0)):
        matches = match_one_to_one(torch.tensor([[logits]]), boxes, targets)[0]
        assert _triples(matches) == [(0, winner, 0)]


@pytest.mark.parametrize("counts", [[3, 0, 2], [1], [7, 4]])
def test_one_to_one_uses_queries_and_objects_once(counts: list[int]) -> None:
    queries = 5
    detections, targets = random_batch(counts, queries=queries)
    phrase_of_target = torch.repeat_interleave(targets.counts).tolist()
    for matches in match_one_to_one(detections.logits, detections.boxes, targets):
        triples = _triples(matches)
        assert triples == sorted(triples)
        assert len(triples) == sum(min(count, queries) for count in counts)
        assert len({(phrase, query) for phrase, query, _ in triples}) == len(triples)
        assert len({target for *_, target in triples}) == len(triples)
        assert all(phrase_of_target[target] == phrase for phrase, _, target in triples)


def test_layers_are_matched_as_if_alone() -> None:
    detections, targets = random_batch([2, 0, 3], layers=4)
    together = match_one_to_one(detections.logits, detections.boxes, targets)
    for layer, matches in enumerate(together):
        alone = match_one_to_one(detections.logits[layer, None], detections.boxes[layer, None], targets)[0]
        assert _triples(matches) == _triples(alone)


@pytest.mark.parametrize("counts", [[0, 0], []])
def test_nothing_to_match(counts: list[int]) -> None:
    detections, targets = random_batch(counts)
    assert [len(matches) for matches in match_one_to_one(detections.logits, detections.boxes, targets)] == [0, 0, 0]
    assert len(match_one_to_many(detections.logits[-1], detections.boxes[-1], targets)) == 0


def test_no_layers_give_no_matches() -> None:
    detections, targets = random_batch([2])
    assert match_one_to_one(detections.logits[:0], detections.boxes[:0], targets) == []


def test_one_to_many_takes_good_queries_and_at_most_four() -> None:
    targets = random_targets([1])
    far = torch.tensor([0.01, 0.01, 0.01, 0.01])
    for good in range(8):
        boxes = torch.stack([targets.boxes[0]] * good + [far] * (20 - good))
        logits = torch.linspace(2, -2, 20)  # earlier queries are better: quality of a good one 0.7 + 0.3 * prob
        matches = match_one_to_many(logits[None], boxes[None], targets)
        assert _triples(matches) == [(0, query, 0) for query in range(min(good, 4))]


def test_one_to_many_leaves_poor_queries_out() -> None:
    targets = replace(random_targets([1]), boxes=torch.tensor([[0.5, 0.5, 0.4, 0.4]]))
    # Half as wide: IoU 0.5, so the quality is 0.3 * prob + 0.35, above 0.4 from a prob of 1/6 on.
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.4]).expand(1, 10, 4)
    just_above, just_below = torch.logit(torch.tensor([1 / 6 + 0.01, 1 / 6 - 0.01]))
    logits = torch.full((1, 10), -9.0)
    logits[0, 3], logits[0, 4] = just_above, just_below
    assert _triples(match_one_to_many(logits, boxes, targets)) == [(0, 3, 0)]


def test_one_to_many_works_with_very_few_queries() -> None:
    detections, targets = random_batch([1], queries=2)
    boxes = targets.boxes.expand(1, 2, 4)
    assert len(match_one_to_many(detections.logits[-1], boxes, targets)) <= 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["logits", "boxes"])
def test_predictions_that_are_not_finite_raise(which: str, value: float) -> None:
    detections, targets = random_batch([0, 2])
    tensors = {"logits": detections.logits.detach().clone(), "boxes": detections.boxes.detach().clone()}
    tensors[which][-1, 1, 3] = value
    named = {"logits": "class scores", "boxes": "boxes"}[which]
    if which == "logits" and value == float("inf"):
        # An infinite logit is a sure score: it costs, but only one-to-one.
        match_one_to_many(tensors["logits"][-1], tensors["boxes"][-1], targets)
    else:
        with pytest.raises(TrainingError, match=f"finite {named}.*learning_rate"):
            match_one_to_many(tensors["logits"][-1], tensors["boxes"][-1], targets)
    with pytest.raises(TrainingError, match=f"finite {named}.*learning_rate"):
        match_one_to_one(tensors["logits"], tensors["boxes"], targets)


def test_phrases_without_objects_need_no_finite_predictions() -> None:
    detections, targets = random_batch([0, 2])
    logits = detections.logits.detach().clone()
    logits[:, 0] = float("nan")
    assert len(match_one_to_one(logits, detections.boxes, targets)[0]) == 2
    match_one_to_many(logits[-1], detections.boxes[-1], targets)


def test_empty_boxes() -> None:
    detections, targets = random_batch([1], queries=4)
    empty = torch.zeros(3, 1, 4, 4)
    assert len(match_one_to_one(detections.logits, empty, targets)[0]) == 1
    both_empty = replace(targets, boxes=torch.zeros(1, 4))
    with pytest.raises(TrainingError, match="area.*inspect"):
        match_one_to_one(detections.logits, empty, both_empty)
    with pytest.raises(TrainingError, match="area.*inspect"):
        match_one_to_many(detections.logits[-1], empty[-1], both_empty)


def test_objects_that_are_not_finite_raise() -> None:
    detections, targets = random_batch([1])
    broken = replace(targets, boxes=torch.full((1, 4), float("nan")))
    with pytest.raises(TrainingError, match="boxes of objects.*inspect"):
        match_one_to_one(detections.logits, detections.boxes, broken)
