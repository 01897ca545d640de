"""The loss of SAM 3: matching of queries with objects, its terms, and their weighted sum."""

from sam3_lora.loss.wrapper import LossReport, LossTerm, Sam3LossWrapper

__all__ = ["LossReport", "LossTerm", "Sam3LossWrapper"]
