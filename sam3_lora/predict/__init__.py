"""Prompts a model for one image or a folder, post-processes its predictions and exports them.

``from sam3_lora.predict import Predictor`` is the entry point for scripts.
"""

from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.routing import Routing

__all__ = ["Exemplars", "PhraseResult", "PostprocessConfig", "Predictor", "Routing"]
