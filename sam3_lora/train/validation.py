"""Validation while training: the loss of the validation split and its boxes' F1, the same for all processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch.utils.data import DataLoader

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_iou
from sam3_lora.data.samples import Batch, LeftOut
from sam3_lora.evaluate.validation_loss import MeanLoss, mean_loss
from sam3_lora.loss import LossReport
from sam3_lora.predict.postprocess import PostprocessConfig, phrase_results, postprocess
from sam3_lora.structures import Detections, Targets
from sam3_lora.train.accelerator import from_main
from sam3_lora.train.setup import Setup

SCORE_THRESHOLD = IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class ValidationMetrics:
    """One validation's metrics."""

    loss: MeanLoss
    box_f1_50: float  # see BoxF1
    left_out: tuple[LeftOut, ...] = ()  # images that could not be loaded, without which it was measured

    def columns(self) -> dict[str, Any]:
        """Its columns in a row of metrics.jsonl."""
        return asdict(self.loss) | {"box_f1_50": self.box_f1_50}


def validate(setup: Setup) -> ValidationMetrics | None:
    """Measures in the main process, for all of them; leaves the model in eval mode. None without a validation split."""
    loader = setup.data.valid_loader
    if loader is None:
        return None
    return from_main(setup.accelerator, lambda: _measure(setup, loader))


def _measure(setup: Setup, loader: DataLoader) -> ValidationMetrics:
    setup.train_mode(False)
    f1 = BoxF1()

    def forward(batch: Batch) -> LossReport:
        detections, loss = setup.forward(setup.objective, batch)
        f1.add(detections, batch.targets)
        return loss

    left_out: list[LeftOut] = []
    loss = mean_loss(loader, forward, left_out.append)
    return ValidationMetrics(loss, f1.value(), tuple(left_out))


class BoxF1:
    """F1 of boxes at IoU 0.5 and score 0.5, summed over batches from the forward passes of the validation loss.

    Predictions are postprocessed as everywhere else. Cheaper than evaluation (no masks at full size), and another
    number: matched per phrase by :func:`scipy.optimize.linear_sum_assignment` instead of by descending score.
    """

    def __init__(self) -> None:
        self._tp = self._predictions = self._gt = 0

    def add(self, detections: Detections, targets: Targets) -> None:
        """Counts a batch: in each phrase a prediction matches at most one object, and an object one prediction."""
        gt_boxes = cxcywh_to_xyxy(targets.boxes.float().cpu()).split(targets.counts.tolist())
        names = [str(phrase) for phrase in range(len(gt_boxes))]
        results = phrase_results(names, detections, size_hw=(1, 1), threshold=SCORE_THRESHOLD)
        for result, gt_xyxy in zip(results.values(), gt_boxes, strict=True):
            pred_xyxy = torch.from_numpy(postprocess(result, PostprocessConfig(SCORE_THRESHOLD)).boxes_xyxy)
            self._predictions += len(pred_xyxy)
            self._gt += len(gt_xyxy)
            if len(pred_xyxy) and len(gt_xyxy):
                ious = pairwise_iou(pred_xyxy, gt_xyxy)
                pairs = linear_sum_assignment(-ious.nan_to_num().numpy())  # boxes without an area have none
                self._tp += int((ious[pairs] >= IOU_THRESHOLD).sum())

    def value(self) -> float:
        """In [0, 1]; 0 without a true positive."""
        return 2 * self._tp / max(self._predictions + self._gt, 1)
