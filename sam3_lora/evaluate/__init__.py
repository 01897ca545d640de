"""Measures a model on a split: COCO AP, F1, cgF1, prompt leak, and whether an adapter was worth it."""

from sam3_lora.evaluate.evaluation import EvaluationRequest, evaluate
from sam3_lora.evaluate.report import Report
from sam3_lora.evaluate.store import read_report

__all__ = ["EvaluationRequest", "Report", "evaluate", "read_report"]
