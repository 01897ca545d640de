"""What a model finds in a split, measured: COCO mAP, cgF1, prompt leak, and whether an adapter was worth it."""

from sam3_lora.evaluate.average_precision import coco_map
from sam3_lora.evaluate.cgf1 import IOU_THRESHOLDS, concept_f1
from sam3_lora.evaluate.predictions import MAX_DETECTIONS, SCORE_THRESHOLD, PromptResult, ask, phrases_of
from sam3_lora.evaluate.report import Report, Summary, read_report, read_summary
from sam3_lora.evaluate.side_by_side import Cancelled, evaluate, measure

__all__ = [
    "IOU_THRESHOLDS",
    "MAX_DETECTIONS",
    "SCORE_THRESHOLD",
    "Cancelled",
    "PromptResult",
    "Report",
    "Summary",
    "ask",
    "coco_map",
    "concept_f1",
    "evaluate",
    "measure",
    "phrases_of",
    "read_report",
    "read_summary",
]
