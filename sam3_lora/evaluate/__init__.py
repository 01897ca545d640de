"""Measures a model on a split: COCO AP, F1, cgF1, prompt leak, and whether an adapter was worth it."""

from sam3_lora.evaluate.average_precision import coco_map
from sam3_lora.evaluate.cgf1 import concept_f1
from sam3_lora.evaluate.evaluation import Cancelled, EvaluationRequest, evaluate
from sam3_lora.evaluate.predictions import SCORE_THRESHOLD, PromptResult, phrases_of, predict_image
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import read_report

__all__ = [
    "SCORE_THRESHOLD",
    "Cancelled",
    "EvaluationRequest",
    "PromptResult",
    "Report",
    "coco_map",
    "concept_f1",
    "evaluate",
    "phrases_of",
    "predict_image",
    "read_report",
]
