"""Prompts a model for one image or a folder, post-processes its predictions and exports them.

``from sam3_lora.predict import Predictor`` is the entry point for scripts.
"""

from typing import TYPE_CHECKING, Any

from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig

if TYPE_CHECKING:
    from sam3_lora.predict.predictor import Exemplars, Predictor

__all__ = ["Exemplars", "PhraseResult", "PostprocessConfig", "Predictor"]


def __getattr__(name: str) -> Any:
    """Imports the predictor when it is first used: post-processing alone needs no model."""
    if name in ("Exemplars", "Predictor"):
        from sam3_lora.predict import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
