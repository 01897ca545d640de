"""Measures a model on a split: COCO AP, F1, cgF1, prompt leak, and whether an adapter was worth it."""

from sam3_lora.evaluate.average_precision import coco_map
from sam3_lora.evaluate.cgf1 import IOU_THRESHOLDS, concept_f1
from sam3_lora.evaluate.evaluation import Cancelled, EvaluationRequest, evaluate
from sam3_lora.evaluate.predictions import MAX_DETECTIONS, SCORE_THRESHOLD, PromptResult, phrases_of, predict_image
from sam3_lora.evaluate.report import Report, Summary
from sam3_lora.evaluate.store import read_report, read_summary

__all__ = [
    "IOU_THRESHOLDS",
    "MAX_DETECTIONS",
    "SCORE_THRESHOLD",
    "Cancelled",
    "EvaluationRequest",
    "PromptResult",
    "Report",
    "Summary",
    "coco_map",
    "concept_f1",
    "evaluate",
    "phrases_of",
    "predict_image",
    "read_report",
    "read_summary",
]
