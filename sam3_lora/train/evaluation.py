"""One evaluation while training: the validation split's loss and its boxes' F1, the same for all processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam3_lora.data.samples import Batch
from sam3_lora.evaluate.validation_loss import MeanLoss, mean_loss
from sam3_lora.loss import LossReport
from sam3_lora.train.setup import Setup
from sam3_lora.train.validation import BoxF1


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    loss: MeanLoss
    box_f1_50: float

    def columns(self) -> dict[str, Any]:
        """What a row of metrics.jsonl holds of it."""
        return {
            "total": self.loss.total,
            "terms": self.loss.weighted,
            "raw": self.loss.raw,
            "box_f1_50": self.box_f1_50,
        }


def evaluate(setup: Setup) -> Evaluation | None:
    """Measures in the main process and tells the others; leaves the model in eval mode. None without a split."""
    if setup.valid_loader is None:
        return None
    found = [_measure(setup) if setup.accelerator.is_main_process else None]
    if setup.accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(found)
    return found[0]


def _measure(setup: Setup) -> Evaluation:
    setup.detector.eval()
    setup.loss.eval()
    hits = BoxF1()

    def forward(batch: Batch) -> LossReport:
        batch = batch.to(setup.accelerator.device)
        with setup.accelerator.autocast():
            detections = setup.detector(batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
        hits.add(detections, batch.targets)
        return setup.loss(detections, batch.targets)

    loss = mean_loss(setup.valid_loader, forward)
    return Evaluation(loss, hits.value())
