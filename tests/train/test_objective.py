"""Masks of matched queries alone: the same loss and gradients as with all masks, in one process and in several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from sam3_lora.config import AdapterConfig, LossConfig, Negatives
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.samples import Batch, Collator, SampleDataset
from sam3_lora.loss import LossReport, Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Targets
from sam3_lora.train.setup import Objective
from tests.factories import write_dataset

IN_MASK_DECODER = "base.mask_decoder."


def make_objective(base: Path) -> Objective:
    """An adapter that changes all components, and no dropout."""
    torch.manual_seed(0)
    model = load_base(str(base)).model
    peft = lora.attach(model, AdapterConfig(rank=2, dropout=0.0))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return Objective(Sam3Detector(model), Sam3LossWrapper.from_config(LossConfig())).train()


def gradients(objective: nn.Module) -> dict[str, Tensor]:
    """Of all trainable parameters of the detector; zeros where none has arrived. Clears them."""
    named = {name: parameter for name, parameter in objective.detector.named_parameters() if parameter.requires_grad}
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named.items()}
    objective.zero_grad()
    return found


@pytest.fixture(scope="module")
def batches(tiny_base, tmp_path_factory) -> Callable[..., Batch]:
    """Makes a batch of images with 3, 3, 3 and 0 objects by their indices; each is asked for absent objects, too."""
    split = open_dataset(write_dataset(tmp_path_factory.mktemp("data"), images=3, objects=3, empty_images=1)).split(
        "train"
    )
    processor = load_base(str(tiny_base)).processor
    samples = SampleDataset(split.images, processor, split.prompt_categories, Negatives(2), seed=0)
    return lambda *images: Collator(processor)([samples[image] for image in images])


@pytest.fixture
def in_double(monkeypatch):
    """The loss computes in float32, whatever it is given; here in float64, so that nothing is rounding."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def objective(tiny_base) -> Objective:
    return make_objective(tiny_base).double()


def without_objects(targets: Targets) -> Targets:
    return replace(
        targets,
        boxes=targets.boxes[:0],
        counts=torch.zeros_like(targets.counts),
        masks=None,
        mask_valid=targets.mask_valid[:0],
    )


ZERO = (
    1e-12  # gradients that are zero but for rounding, as of attention to a single token: how large depends on the CPU
)
CASES: dict[str, Callable[[Targets], Targets]] = {
    "all masks valid": lambda targets: targets,
    "some masks valid": lambda targets: replace(targets, mask_valid=torch.arange(len(targets.boxes)) % 3 == 0),
    "no mask valid": lambda targets: replace(targets, mask_valid=torch.zeros_like(targets.mask_valid)),
    "no masks": lambda targets: replace(targets, masks=None),
    "no objects": without_objects,
}


def with_all_masks(objective: Objective, batch: Batch) -> LossReport:
    detections = objective.detector(*batch.inputs)
    assert detections.masks is not None and detections.mask_head is None
    return objective.loss(detections, batch.targets)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("case", "images"), [*((case, (0, 3, 1)) for case in CASES), ("all masks valid", (2,))])
def test_loss_and_gradients_are_those_of_all_masks(objective, batches, in_double, case, images, checkpointing) -> None:
    batch = batches(*images)
    targets = CASES[case](replace(batch.targets, boxes=batch.targets.boxes.double()))
    batch = replace(batch, pixel_values=batch.pixel_values.double(), targets=targets)
    objective.detector.gradient_checkpointing(False)
    expected = with_all_masks(objective, batch)
    expected.total.backward()
    of_all_masks = gradients(objective)

    objective.detector.gradient_checkpointing(checkpointing)
    _, report = objective(batch)
    report.total.backward()
    assert report.total.item() == pytest.approx(expected.total.item(), rel=1e-12)
    assert report.terms.keys() == expected.terms.keys()
    for name, term in expected.terms.items():
        assert report.terms[name].weight == term.weight
        torch.testing.assert_close(report.terms[name].raw, term.raw, rtol=1e-12, atol=1e-14)
    largest = {name: float(gradient.abs().max()) for name, gradient in of_all_masks.items()}
    has_masks = case in ("all masks valid", "some masks valid")
    assert any(largest[name] > 0 for name in largest if IN_MASK_DECODER in name) == has_masks
    for name, gradient in gradients(objective).items():
        if largest[name] < ZERO:
            assert float(gradient.abs().max()) < ZERO, name
            continue
        worst = float((gradient - of_all_masks[name]).abs().max())
        assert worst <= 1e-10 * largest[name] + 1e-16, name


def test_the_mask_decoder_runs_once_for_each_phrase_with_a_mask(tiny_base, batches) -> None:
    objective = make_objective(tiny_base)
    batch = batches(0, 3, 1)
    runs = []
    objective.detector.base.mask_decoder.prompt_cross_attn.register_forward_hook(lambda *_: runs.append(1))
    with mock.patch.object(Sam3Detector, "detect", autospec=True, side_effect=Sam3Detector.detect) as asked:
        objective(batch)
    assert asked.call_args.kwargs["masks"] is False
    assert 0 < len(runs) == int((batch.targets.counts > 0).sum()) < len(batch.targets.counts)
    objective(replace(batch, targets=without_objects(batch.targets)))
    assert len(runs) == int((batch.targets.counts > 0).sum())


def _average(rank: int, base: Path, batches: list[Batch], store: str, out: Path) -> None:
    """In each of two processes: a forward and backward pass of its batch; the first saves its gradients."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file:///{store.lstrip('/')}", rank=rank, world_size=2)
    try:
        objective = make_objective(base)
        wrapped = nn.parallel.DistributedDataParallel(objective, find_unused_parameters=True)
        _, report = wrapped(batches[rank])
        report.total.backward()
        torch.save(gradients(objective), out / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_average_the_gradients_of_the_mask_decoder(tiny_base, batches, tmp_path: Path) -> None:
    """Also where one of them has no mask, so that it does not run there."""
    each = [batches(0), batches(3)]
    assert each[1].targets.counts.sum() == 0
    objective = make_objective(tiny_base)
    alone = []
    for batch in each:
        objective(batch)[1].total.backward()
        alone.append(gradients(objective))
    torch.multiprocessing.spawn(_average, (tiny_base, each, (tmp_path / "store").as_posix(), tmp_path), nprocs=2)
    together = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    in_decoder = [name for name in alone[0] if IN_MASK_DECODER in name]
    assert in_decoder and all(alone[0][name].abs().max() > 0 and not alone[1][name].any() for name in in_decoder)
    for name, gradient in alone[0].items():
        expected = (gradient + alone[1][name]) / 2
        for of_process in together:
            torch.testing.assert_close(of_process[name], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
