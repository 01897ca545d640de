"""SAM 3's training loss: matching of queries with objects, its terms, and their weighted sum."""

from sam3_lora.loss.wrapper import LossReport, LossTerm, Sam3LossWrapper

__all__ = ["LossReport", "LossTerm", "Sam3LossWrapper"]
