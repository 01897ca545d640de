"""The loss of replay: nothing where both models agree, and gradients towards the base model where they do not."""

from __future__ import annotations

import pytest
import torch

from sam3_lora.loss import replay_loss
from sam3_lora.loss.distillation import WEIGHTS
from sam3_lora.structures import Detections, SoftTargets

LAYERS, PHRASES, QUERIES, SIDE = 3, 2, 5, 8


def predictions(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "logits": torch.randn(LAYERS, PHRASES, QUERIES),
        "boxes": torch.rand(LAYERS, PHRASES, QUERIES, 4) * 0.4 + 0.2,
        "presence": torch.randn(LAYERS, PHRASES),
        "masks": torch.randn(PHRASES, QUERIES, SIDE, SIDE),
    }


def detections(values: dict[str, torch.Tensor]) -> Detections:
    masks = values["masks"]
    return Detections(
        values["logits"],
        values["boxes"],
        values["presence"],
        None,
        None,
        mask_head=lambda phrase_index, query_index: masks[phrase_index, query_index],
    )


def soft(values: dict[str, torch.Tensor], *pairs: tuple[int, int]) -> SoftTargets:
    phrase_index, query_index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    masks = values["masks"][phrase_index, query_index]
    return SoftTargets(values["logits"], values["boxes"], values["presence"], masks, phrase_index, query_index)


@pytest.mark.parametrize("pairs", [(), ((0, 1), (1, 4))])
def test_it_is_zero_where_both_models_agree_but_for_masks_that_are_not_certain(pairs) -> None:
    values = predictions()
    values["masks"] = values["masks"] * 100  # certain: else soft dice is not zero
    report = replay_loss(detections(values), soft(values, *pairs), 2.0)
    assert set(report.terms) == set(WEIGHTS)
    assert all(abs(float(term.raw)) < 1e-4 for term in report.terms.values())
    assert float(report.total) == pytest.approx(sum(float(term.weighted) for term in report.terms.values()), abs=1e-6)


def test_each_term_rises_with_its_own_difference_alone() -> None:
    base = predictions()
    target = soft(base, (0, 1), (1, 4))
    same = replay_loss(detections(base), target, 1.0)
    for name, touched in (
        ("logits", {"replay_logits"}),
        ("boxes", {"replay_bbox", "replay_giou"}),
        ("presence", {"replay_presence"}),
        ("masks", {"replay_mask"}),
    ):
        other = base | {name: predictions(1)[name]}
        report = replay_loss(detections(other), target, 1.0)
        risen = {term for term in WEIGHTS if float(report.terms[term].raw) > float(same.terms[term].raw) + 1e-3}
        assert risen == touched


def test_gradients_lead_to_the_base_model() -> None:
    base, values = predictions(), predictions(1)
    target = soft(base, (0, 1), (1, 4))
    for value in values.values():
        value.requires_grad_(True)
    optimizer = torch.optim.Adam(values.values(), lr=0.05)
    losses = []
    for _ in range(400):
        optimizer.zero_grad()
        total = replay_loss(detections(values), target, 1.0).total
        total.backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in values.values())
        optimizer.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert torch.allclose(values["presence"], base["presence"], atol=0.05)


def test_no_phrase_and_no_mask_give_zero() -> None:
    values = {name: value[:, :0] if name != "masks" else value[:0] for name, value in predictions().items()}
    report = replay_loss(detections(values), soft(values), 1.0)
    assert float(report.total) == 0.0


def test_half_precision_targets_are_compared_in_float32() -> None:
    values = predictions()
    target = soft(values, (0, 1))
    half = SoftTargets(
        target.logits.half(),
        target.boxes.half(),
        target.presence.half(),
        target.masks.half(),
        *(target.phrase_index, target.query_index),
    )
    report = replay_loss(detections(values), half, 1.0)
    assert report.total.dtype == torch.float32
    assert float(report.total) == pytest.approx(float(replay_loss(detections(values), target, 1.0).total), abs=0.1)
