"""The whole loss: its names, weights and sums, and the batches that are out of the ordinary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from sam3_lora.config import LossConfig
from sam3_lora.errors import TrainingError
from sam3_lora.loss import LossReport, Sam3LossWrapper
from sam3_lora.structures import Detections, Targets
from tests.loss.batches import gradients, leaves, random_batch, random_targets

MAIN = {"loss_bbox", "loss_giou", "loss_ce", "presence_loss", "loss_mask", "loss_dice"}


def _loss(detections: Detections, targets: Targets, **settings) -> LossReport:
    return Sam3LossWrapper.from_config(LossConfig(**settings))(detections, targets)


def test_names_say_where_a_term_comes_from() -> None:
    detections, targets = random_batch([2, 1], layers=3)
    auxiliary = MAIN - {"loss_mask", "loss_dice"}
    main_half = MAIN | {f"{name}_aux_{layer}" for name in auxiliary for layer in (0, 1)}
    other_half = {f"{name}_o2m" for name in main_half if not name.startswith("presence_loss")}
    assert _loss(detections, targets).terms.keys() == main_half | other_half
    assert _loss(replace(detections, one_to_many=None), targets).terms.keys() == main_half
    assert _loss(detections, targets, o2m_weight=0).terms.keys() == main_half


def test_the_suffix_names_the_right_layer() -> None:
    detections, targets = random_batch([2], layers=3)
    boxes = detections.boxes.detach().clone()
    boxes[1] = 0.01
    before, after = _loss(detections, targets).terms, _loss(replace(detections, boxes=boxes), targets).terms
    changed = {name for name in before if before[name].raw != after[name].raw}
    assert "loss_bbox_aux_1" in changed
    assert changed <= {"loss_bbox_aux_1", "loss_giou_aux_1", "loss_ce_aux_1"}


@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 0], [1]])
def test_weighted_terms_add_up_to_the_total(counts: list[int]) -> None:
    report = _loss(*random_batch(counts))
    assert sum(term.weighted for term in report.terms.values()) == report.total.detach()
    for term in report.terms.values():
        assert term.raw.shape == () and not term.raw.requires_grad
        assert term.weighted == term.raw * term.weight


def test_the_defaults_are_sam3s() -> None:
    weights = {name: term.weight for name, term in _loss(*random_batch([1])).terms.items()}
    sam3 = {"loss_bbox": 5, "loss_giou": 2, "loss_ce": 20, "presence_loss": 20, "loss_mask": 200, "loss_dice": 10}
    for name, weight in weights.items():
        base = next(term for term in sam3 if name.startswith(term))
        assert weight == sam3[base] * (2 if name.endswith("_o2m") else 1)


@pytest.mark.parametrize("setting", sorted(MAIN))
def test_each_weight_acts_on_its_terms_only(setting: str) -> None:
    batch = random_batch([2, 0, 3])
    before, after = _loss(*batch), _loss(*batch, **{setting: 3.5})
    for name, term in after.terms.items():
        assert term.raw == before.terms[name].raw
        if name.startswith(setting):
            assert term.weight == 3.5 * (2 if name.endswith("_o2m") else 1)
        else:
            assert term.weight == before.terms[name].weight
    assert after.total != before.total


def test_the_weight_of_the_one_to_many_half_acts_on_it_only() -> None:
    batch = random_batch([2, 3])
    before, after = _loss(*batch), _loss(*batch, o2m_weight=0.5)
    for name, term in after.terms.items():
        factor = 0.25 if name.endswith("_o2m") else 1
        torch.testing.assert_close(term.weighted, before.terms[name].weighted * factor)


def test_the_weight_of_matched_queries_acts_on_classification_only() -> None:
    batch = random_batch([2, 3])
    before, after = _loss(*batch), _loss(*batch, pos_weight=1.0)
    for name, term in after.terms.items():
        assert (
            (term.raw < before.terms[name].raw) if name.startswith("loss_ce") else (term.raw == before.terms[name].raw)
        )


def test_perfect_detections_cost_next_to_nothing() -> None:
    targets = random_targets([2])
    boxes = torch.full((2, 1, 8, 4), 0.1)
    boxes[:, 0, :2] = targets.boxes
    logits = torch.full((2, 1, 8), -20.0)
    logits[:, 0, :2] = 20.0
    masks = torch.full((1, 8, *targets.masks.shape[1:]), -50.0)
    masks[0, :2] = torch.where(targets.masks, 50.0, -50.0)
    detections = Detections(logits, boxes, torch.full((2, 1), 20.0), masks, None)
    assert _loss(detections, targets).total.item() < 1e-4


def test_the_order_of_phrases_does_not_matter() -> None:
    detections, targets = random_batch([2, 0, 3, 1])
    order = torch.tensor([3, 1, 0, 2])
    packed = torch.cat([torch.arange(6).split(targets.counts.tolist())[phrase] for phrase in order])

    def reordered(half: Detections) -> Detections:
        presence = None if half.presence is None else half.presence[:, order]
        return replace(
            half, logits=half.logits[:, order], boxes=half.boxes[:, order], presence=presence, masks=half.masks[order]
        )

    shuffled = replace(reordered(detections), one_to_many=reordered(detections.one_to_many))
    moved = replace(
        targets,
        boxes=targets.boxes[packed],
        counts=targets.counts[order],
        masks=targets.masks[packed],
    )
    before, after = _loss(detections, targets), _loss(shuffled, moved)
    for name, term in after.terms.items():
        torch.testing.assert_close(term.raw, before.terms[name].raw)
    # Gradients come back through the reordering, so both are in the detections' order.
    ours, theirs = gradients(after.total, detections), gradients(before.total, detections)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("counts", [[0, 0], []])
def test_a_batch_without_objects_reaches_every_tensor(counts: list[int]) -> None:
    detections, targets = random_batch(counts)
    report = _loss(detections, targets)
    report.total.backward()
    for name, tensor in leaves(detections).items():
        assert tensor.grad is not None and tensor.grad.isfinite().all()
        assert bool(tensor.grad.any()) == (name == "presence" and len(counts) > 0)
    if not counts:
        assert report.total == 0


def test_autocast_and_half_precision_change_nothing_but_the_inputs() -> None:
    detections, targets = random_batch([2, 0, 3])
    expected = _loss(detections, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = _loss(detections, targets)
    assert report.total == expected.total
    halved = {name: tensor.detach().bfloat16() for name, tensor in leaves(detections).items()}
    one_to_many = Detections(*(halved.get(f"{name} (one-to-many)") for name in _FIELDS), semantic=None)
    detections = Detections(*(halved[name] for name in _FIELDS), semantic=None, one_to_many=one_to_many)
    report = _loss(detections, targets)
    assert report.total.dtype == torch.float32
    assert all(term.raw.dtype == torch.float32 for term in report.terms.values())
    torch.testing.assert_close(report.total, expected.total.detach(), rtol=0.05, atol=0)


_FIELDS = ("logits", "boxes", "presence", "masks")


def test_predictions_that_are_not_finite_raise_a_sentence() -> None:
    detections, targets = random_batch([2])
    broken = replace(detections, logits=detections.logits * float("nan"))
    with pytest.raises(TrainingError, match="finite class scores.*learning_rate"):
        _loss(broken, targets)


def test_no_gradients_without_need() -> None:
    with torch.no_grad():
        report = _loss(*random_batch([2]))
    assert not report.total.requires_grad


def _global_loss(rank: int, world_size: int, counts: list[list[int]], store: str) -> None:
    """In each of several processes: the loss must divide by their average number of objects."""
    torch.set_num_threads(1)
    init = f"file:///{store.lstrip('/')}"
    torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=world_size)
    try:
        batch = random_batch(counts[rank], seed=rank)
        local, shared = _loss(*batch), _loss(*batch, normalization="global")
    finally:
        torch.distributed.destroy_process_group()
    mine, average = max(sum(counts[rank]), 1), sum(map(sum, counts)) / world_size
    for name in MAIN:
        factor = 1 if name in ("loss_ce", "presence_loss") else mine / average
        torch.testing.assert_close(shared.terms[name].raw, local.terms[name].raw * factor)


def test_global_normalization_alone(tmp_path: Path) -> None:
    batch = random_batch([2, 3])
    assert _loss(*batch, normalization="global").total == _loss(*batch).total
    _global_loss(0, 1, [[2, 3]], (tmp_path / "store").as_posix())


def test_global_normalization_over_two_processes(tmp_path: Path) -> None:
    arguments = (2, [[2, 3], [0, 1]], (tmp_path / "store").as_posix())
    torch.multiprocessing.spawn(_global_loss, arguments, nprocs=2)
