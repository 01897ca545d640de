"""SAM 3's training loss: matching of queries with objects, its terms, and their weighted sum; and that of replay."""

from sam3_lora.loss.distillation import replay_loss
from sam3_lora.loss.wrapper import LossReport, LossTerm, Sam3LossWrapper

__all__ = ["LossReport", "LossTerm", "Sam3LossWrapper", "replay_loss"]
