"""The validation loss of a predictor, as training measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from sam3_lora.config import LossConfig
from sam3_lora.data.coco import Split
from sam3_lora.predict import Predictor


def validation_loss(
    predictor: Predictor,
    split: Split,
    num_negatives: int,
    batch_size: int,
    phrases: Mapping[str, str] | None,
    turn: Callable[[], AbstractContextManager] = nullcontext,
) -> float:
    """The weighted total of the default loss over a split. turn: entered for each use of the predictor."""
    from sam3_lora.loss import Sam3LossWrapper
    from sam3_lora.train.validate import mean_loss, validation_loader

    loss = Sam3LossWrapper.from_config(LossConfig())
    loader = validation_loader(split, predictor.processor, split.categories, num_negatives, batch_size, phrases=phrases)

    def forward(batch):
        batch = batch.to(predictor.device)
        inputs = (batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
        with turn():
            return loss(predictor.detector(*inputs), batch.targets)

    return mean_loss(loader, forward).total
