"""Share of an epoch that validation takes on the demo: the loss, F1 and cgF1 as Evaluate measures them.

    python bench/validation.py [--epochs 8] [--set lora.rank=8 ...]

The demo's default run is trained for some epochs. At the end of each, the CPU time of its validation, and of the former
one (loss, and F1 of boxes from the same forward pass, without masks at the images' size), is divided by the CPU time of
the epoch's steps with their loading. Prints both shares of each epoch and their medians over the second half, in which
the adapter finds something; exits with 1 if the median of validation is above its goal.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
import yaml
from scipy.optimize import linear_sum_assignment

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_iou
from sam3_lora.config import RunConfig
from sam3_lora.evaluate.validation_loss import mean_loss
from sam3_lora.predict.postprocess import PostprocessConfig, phrase_results, postprocess
from sam3_lora.runs.run import Run
from sam3_lora.train import loop

GOAL = 0.15


class Epochs:
    """Replaces the loop's step and validation by the same ones, and measures them."""

    def __init__(self) -> None:
        self._step, self._validate = loop.take_step, loop.validate
        self._began: float | None = None  # CPU seconds at the epoch's first step
        self.shares: list[tuple[float, float]] = []  # of each epoch: validation, the former one

    def step(self, setup, group, **options):
        if self._began is None:
            self._began = time.process_time()
        return self._step(setup, group, **options)

    def validate(self, setup):
        ended = time.process_time()
        assert self._began is not None, "an epoch has steps"
        epoch, self._began = ended - self._began, None
        metrics = self._validate(setup)
        assert metrics is not None, "the demo has images to validate on"
        now = time.process_time() - ended
        former = former_validation(setup)
        self.shares.append((now / epoch, former / epoch))
        print(
            f"epoch {len(self.shares)}: steps {epoch:.1f} s, validation {now:.2f} s ({now / epoch:.1%}), "
            f"former {former:.2f} s ({former / epoch:.1%}); F1 {metrics.f1_50:.2f}, cgF1 {metrics.cgf1:.2f}",
            flush=True,
        )
        return metrics


def former_validation(setup) -> float:
    """CPU seconds of the loss and the F1 of boxes."""
    began = time.process_time()
    setup.train_mode(False)

    def forward(batch):
        detections, loss = setup.forward(setup.objective, batch)
        box_hits(detections, batch.targets)
        return loss

    mean_loss(setup.data.valid_loader, forward)
    return time.process_time() - began


def box_hits(detections, targets) -> int:
    """The true positives of a batch by their boxes, without duplicates."""
    gt_boxes = cxcywh_to_xyxy(targets.boxes.float().cpu()).split(targets.counts.tolist())
    names, hits = [str(phrase) for phrase in range(len(gt_boxes))], 0
    results = phrase_results(names, detections, size_hw=(1, 1), threshold=0.5)
    for result, gt_xyxy in zip(results.values(), gt_boxes, strict=True):
        pred_xyxy = torch.from_numpy(postprocess(result, PostprocessConfig(0.5)).boxes_xyxy)
        if len(pred_xyxy) and len(gt_xyxy):
            ious = pairwise_iou(pred_xyxy, gt_xyxy)
            hits += int((ious[linear_sum_assignment(-ious.numpy())] >= 0.5).sum())
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--set", nargs="*", default=[], help="settings other than the default, as lora.rank=8")
    arguments = parser.parse_args()
    own = {name: yaml.safe_load(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    epochs = Epochs()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(loop, "take_step", epochs.step),
        mock.patch.object(loop, "validate", epochs.validate),
    ):
        os.environ["SAM3_LORA_CACHE"] = folder
        settings = {"training.epochs": arguments.epochs, "output.runs": str(Path(folder) / "runs")}
        loop.fit(Run.create(RunConfig().with_settings(settings | own)))
    late = epochs.shares[len(epochs.shares) // 2 :]
    now, former = (statistics.median(shares) for shares in zip(*late, strict=True))
    print(f"share of an epoch's CPU time: {now:.3f} (goal: at most {GOAL}); the former validation: {former:.3f}")
    sys.exit(now > GOAL)


if __name__ == "__main__":
    main()
