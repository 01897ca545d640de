"""Each loss term against numbers computed by hand, and the mask terms' promises about memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sam3_lora.loss.matching import Matches
from sam3_lora.loss.terms import box_terms, classification_terms, mask_terms, with_mask
from sam3_lora.structures import Targets
from tests.loss.batches import random_targets

ONE = torch.tensor(1.0)
POS_WEIGHT = 10.0


def _matches(*triples: tuple[int, int, int]) -> Matches:
    pairs = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    return Matches.of(pairs, torch.device("cpu"))


def _box_targets(*boxes: list[float], counts: list[int] | None = None) -> Targets:
    targets = random_targets(counts or [len(boxes)])
    return replace(targets, boxes=torch.tensor(boxes).reshape(-1, 4))


def _mask_targets(masks: Tensor) -> Targets:
    return replace(random_targets([len(masks)]), masks=masks)


def _bce(probability: float, wanted: float) -> float:
    return -wanted * math.log(probability) - (1 - wanted) * math.log(1 - probability)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


class TestBoxes:
    def test_a_box_inside_another(self) -> None:
        targets = _box_targets([0.5, 0.5, 0.2, 0.2])
        terms = box_terms(torch.tensor([[[0.5, 0.5, 0.4, 0.4]]]), targets, _matches((0, 0, 0)), ONE)
        assert terms["loss_bbox"].item() == pytest.approx(0.2 + 0.2)
        assert terms["loss_giou"].item() == pytest.approx(1 - 0.04 / 0.16)

    def test_two_boxes_apart(self) -> None:
        targets = _box_targets([0.2, 0.5, 0.2, 0.2])
        terms = box_terms(torch.tensor([[[0.8, 0.5, 0.2, 0.2]]]), targets, _matches((0, 0, 0)), ONE)
        hull, union = 0.8 * 0.2, 2 * 0.04
        assert terms["loss_bbox"].item() == pytest.approx(0.6)
        assert terms["loss_giou"].item() == pytest.approx(1 + (hull - union) / hull)

    def test_matches_are_summed_and_divided_by_the_number_of_objects(self) -> None:
        targets = _box_targets([0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2], counts=[1, 1])
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.3]] * 2, [[0.3, 0.5, 0.2, 0.2]] * 2])
        matches = _matches((0, 1, 0), (1, 0, 1))
        assert box_terms(boxes, targets, matches, torch.tensor(4.0))["loss_bbox"].item() == pytest.approx(0.3 / 4)


class TestClassification:
    def test_a_matched_query_and_another(self) -> None:
        targets = _box_targets([0.5, 0.5, 0.4, 0.4])
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]]])  # IoU of the first: 0.5
        logits = torch.tensor([[_logit(0.6), _logit(0.3)]])
        terms = classification_terms(logits, boxes, None, targets, _matches((0, 0, 0)), POS_WEIGHT)
        wanted = 0.6**0.25 * 0.5**0.75
        expected = (POS_WEIGHT * _bce(0.6, wanted) + 0.3**2 * _bce(0.3, 0.0)) / 200
        assert terms.keys() == {"loss_ce"}
        assert terms["loss_ce"].item() == pytest.approx(expected, rel=1e-5)

    def test_the_mean_is_over_all_queries_where_there_are_more_than_200(self) -> None:
        targets = _box_targets([0.5, 0.5, 0.4, 0.4])
        boxes, logits = torch.full((1, 300, 4), 0.2), torch.full((1, 300), _logit(0.3))
        terms = classification_terms(logits, boxes, None, targets, _matches(), POS_WEIGHT)
        assert terms["loss_ce"].item() == pytest.approx(0.3**2 * _bce(0.3, 0.0), rel=1e-5)

    def test_a_useless_match_should_still_score_a_little(self) -> None:
        targets = _box_targets([0.9, 0.9, 0.1, 0.1])
        boxes, logits = torch.tensor([[[0.1, 0.1, 0.1, 0.1]]]), torch.tensor([[_logit(0.6)]])
        terms = classification_terms(logits, boxes, None, targets, _matches((0, 0, 0)), POS_WEIGHT)
        assert terms["loss_ce"].item() == pytest.approx(POS_WEIGHT * _bce(0.6, 0.01) / 200, rel=1e-5)

    def test_the_target_of_a_query_with_two_objects_is_that_of_the_last(self) -> None:
        targets = _box_targets([0.9, 0.9, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4])
        boxes, logits = torch.tensor([[[0.5, 0.5, 0.4, 0.4]]]), torch.tensor([[_logit(0.6)]])
        matches = _matches((0, 0, 0), (0, 0, 1))
        terms = classification_terms(logits, boxes, None, targets, matches, POS_WEIGHT)
        assert terms["loss_ce"].item() == pytest.approx(POS_WEIGHT * _bce(0.6, 0.6**0.25) / 200, rel=1e-5)

    def test_the_wanted_score_is_no_way_to_a_smaller_loss(self) -> None:
        targets = _box_targets([0.5, 0.5, 0.4, 0.4])
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]], requires_grad=True)
        logits = torch.zeros(1, 1, requires_grad=True)
        classification_terms(logits, boxes, None, targets, _matches((0, 0, 0)), POS_WEIGHT)["loss_ce"].backward()
        assert boxes.grad is None
        wanted = 0.5**0.25 * 0.5**0.75
        assert logits.grad.item() == pytest.approx(POS_WEIGHT * (0.5 - wanted) / 200, rel=1e-5, abs=1e-8)

    def test_a_phrase_without_objects_teaches_presence_only(self) -> None:
        targets = random_targets([0])
        logits, presence = torch.randn(1, 5, requires_grad=True), torch.tensor([_logit(0.8)], requires_grad=True)
        terms = classification_terms(logits, torch.rand(1, 5, 4), presence, targets, _matches(), POS_WEIGHT)
        sum(terms.values()).backward()
        assert terms["loss_ce"].item() == 0 and not logits.grad.any()
        assert terms["presence_loss"].item() == pytest.approx(0.5 * _bce(0.8, 0.0), rel=1e-5)

    def test_unmatched_queries_of_a_phrase_with_incomplete_objects_teach_nothing(self) -> None:
        targets = replace(random_targets([1, 1]), exhaustive=torch.tensor([False, True]))
        logits = torch.full((2, 3), _logit(0.6), requires_grad=True)
        presence = torch.tensor([_logit(0.8), _logit(0.8)], requires_grad=True)
        matches = _matches((0, 1, 0), (1, 1, 1))
        terms = classification_terms(logits, torch.rand(2, 3, 4), presence, targets, matches, POS_WEIGHT)
        sum(terms.values()).backward()
        assert logits.grad.ne(0).tolist() == [[False, True, False], [True, True, True]]
        assert presence.grad[0] == presence.grad[1] != 0

    def test_presence_is_a_mean_over_phrases(self) -> None:
        targets = random_targets([2, 0])
        presence = torch.tensor([_logit(0.7), _logit(0.1)])
        terms = classification_terms(
            torch.zeros(2, 5), torch.rand(2, 5, 4), presence, targets, _matches((0, 1, 0), (0, 2, 1)), POS_WEIGHT
        )
        expected = 0.5 * (_bce(0.7, 1.0) + _bce(0.1, 0.0)) / 2
        assert terms["presence_loss"].item() == pytest.approx(expected, rel=1e-5)


def _plain_mask_terms(mask_logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Focal and dice loss (M,) as the papers write them, from logits and masks of one size."""
    prob, is_object = mask_logits.sigmoid().flatten(1), masks.flatten(1).float()
    cross_entropy = F.binary_cross_entropy_with_logits(mask_logits.flatten(1), is_object, reduction="none")
    prob_of_truth = prob * is_object + (1 - prob) * (1 - is_object)
    alpha = 0.25 * is_object + 0.75 * (1 - is_object)
    focal = (alpha * (1 - prob_of_truth) ** 2 * cross_entropy).mean(1)
    dice = 1 - (2 * (prob * is_object).sum(1) + 1) / (prob.sum(1) + is_object.sum(1) + 1)
    return focal, dice


def _random_masks(matches: int, size_hw: tuple[int, int], mask_hw: tuple[int, int], scale: float = 4.0):
    torch.manual_seed(0)
    targets = random_targets([3], size_hw)
    mask_logits = scale * torch.randn(1, 6, *mask_hw)
    pairs = [(0, index % 6, (index * 2) % 3) for index in range(matches)]
    return mask_logits.requires_grad_(), targets, _matches(*pairs)


def _mask_terms(mask_logits: Tensor, targets: Targets, matches: Matches, num_objects: Tensor, **options):
    """Of mask logits (P, Q, h, w)."""
    matches = with_mask(matches, targets)
    matched = mask_logits[matches.phrase_index, matches.query_index]
    return mask_terms(matched, targets, matches.target_index, num_objects, **options)


class TestMasks:
    def test_undecided_pixels(self) -> None:
        masks = torch.zeros(1, 4, 5, dtype=torch.bool)
        masks[0, :, :2] = True  # 8 pixels of the object, 12 of the background
        terms = _mask_terms(torch.zeros(1, 1, 4, 5), _mask_targets(masks), _matches((0, 0, 0)), ONE)
        focal = (8 * 0.25 + 12 * 0.75) / 20 * 0.5**2 * math.log(2)
        assert terms["loss_mask"].item() == pytest.approx(focal, rel=1e-5)
        assert terms["loss_dice"].item() == pytest.approx(1 - (2 * 4 + 1) / (10 + 8 + 1), rel=1e-5)

    def test_predictions_are_upsampled_between_pixel_centers(self) -> None:
        masks = torch.tensor([[[False, False, True, True]]])
        targets, matches = _mask_targets(masks), _matches((0, 0, 0))
        coarse = _mask_terms(torch.tensor([[[[-2.0, 2.0]]]]), targets, matches, ONE)
        fine = _mask_terms(torch.tensor([[[[-2.0, -1.0, 1.0, 2.0]]]]), targets, matches, ONE)
        torch.testing.assert_close(coarse, fine)

    def test_a_perfect_mask_costs_nothing_and_a_wrong_one_does(self) -> None:
        targets = random_targets([1])
        sure = torch.where(targets.masks, 50.0, -50.0)[None]
        perfect = _mask_terms(sure, targets, _matches((0, 0, 0)), ONE)
        assert perfect["loss_mask"].item() < 1e-6 and perfect["loss_dice"].item() < 1e-6
        wrong = _mask_terms(-sure, targets, _matches((0, 0, 0)), ONE)
        assert wrong["loss_mask"].item() > 10 and wrong["loss_dice"].item() > 0.99

    @pytest.mark.parametrize("scale", [0.1, 4.0, 60.0])
    @pytest.mark.parametrize("mask_hw", [(9, 11), (20, 24), (33, 30)])
    def test_values_and_gradients_are_those_of_the_plain_formula(self, scale: float, mask_hw: tuple[int, int]) -> None:
        mask_logits, targets, matches = _random_masks(7, (20, 24), mask_hw, scale)
        terms = _mask_terms(mask_logits, targets, matches, torch.tensor(3.0))
        upsampled = F.interpolate(mask_logits, (20, 24), mode="bilinear")[0, matches.query_index]
        focal, dice = _plain_mask_terms(upsampled, targets.masks[matches.target_index])
        expected = {"loss_mask": focal.sum() / 3, "loss_dice": dice.sum() / 3}
        for name, value in expected.items():
            torch.testing.assert_close(terms[name], value)
            (gradient,) = torch.autograd.grad(value, mask_logits, retain_graph=True)
            (ours,) = torch.autograd.grad(terms[name], mask_logits, retain_graph=True)
            torch.testing.assert_close(ours, gradient, rtol=1e-5, atol=1e-6 * gradient.abs().max().item())

    def test_the_number_of_pixels_at_once_changes_nothing(self) -> None:
        mask_logits, targets, matches = _random_masks(7, (20, 24), (9, 11))
        results = []
        for pixels in (1, 20 * 24, 3 * 20 * 24, 10**9):
            terms = _mask_terms(mask_logits, targets, matches, ONE, pixels_at_once=pixels)
            (gradient,) = torch.autograd.grad(200 * terms["loss_mask"] + 10 * terms["loss_dice"], mask_logits)
            results.append((*terms.values(), gradient))
        for other in results[1:]:
            torch.testing.assert_close(other, results[0], rtol=1e-6, atol=1e-7)

    def test_no_tensor_outgrows_the_pixels_at_once(self) -> None:
        class LargestTensor(TorchDispatchMode):
            size = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                result = func(*args, **(kwargs or {}))
                made = result if isinstance(result, (tuple, list)) else (result,)
                self.size = max(self.size, *(item.numel() for item in made if isinstance(item, Tensor)), 0)
                return result

        mask_logits, targets, matches = _random_masks(60, (80, 80), (4, 4))
        pixels = 2 * 80 * 80
        assert targets.masks.numel() > pixels and len(matches) * 80 * 80 > 20 * pixels
        with LargestTensor() as largest:
            terms = _mask_terms(mask_logits, targets, matches, ONE, pixels_at_once=pixels)
            (terms["loss_mask"] + terms["loss_dice"]).backward()
        assert largest.size == pixels

    def test_half_precision_is_computed_in_single(self) -> None:
        mask_logits, targets, matches = _random_masks(5, (20, 24), (9, 11))
        halved = mask_logits.detach().bfloat16().requires_grad_()
        single = halved.detach().float().requires_grad_()
        terms = _mask_terms(halved, targets, matches, ONE)
        expected = _mask_terms(single, targets, matches, ONE)
        assert terms == expected
        (terms["loss_mask"] + terms["loss_dice"]).backward()
        (expected["loss_mask"] + expected["loss_dice"]).backward()
        assert halved.grad.dtype == torch.bfloat16
        torch.testing.assert_close(halved.grad.float(), single.grad, rtol=0.02, atol=1e-4)

    def test_objects_without_a_mask_are_left_out_but_counted(self) -> None:
        mask_logits, targets, _ = _random_masks(0, (20, 24), (9, 11))
        both = _matches((0, 1, 0), (0, 2, 1))
        without = replace(targets, mask_valid=torch.tensor([True, False, True]))
        terms = _mask_terms(mask_logits, without, both, torch.tensor(2.0))
        one = _mask_terms(mask_logits, targets, _matches((0, 1, 0)), ONE)
        torch.testing.assert_close(terms, {name: value / 2 for name, value in one.items()})

    def test_no_masks_at_all(self) -> None:
        mask_logits, targets, matches = _random_masks(3, (20, 24), (9, 11))
        terms = _mask_terms(mask_logits, replace(targets, masks=None), matches, ONE)
        assert terms == {"loss_mask": 0, "loss_dice": 0}
        sum(terms.values()).backward()
        assert not mask_logits.grad.any()
