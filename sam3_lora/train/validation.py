"""Validation: the very loss of training, averaged over a split without dropout and gradients, and the boxes' F1."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment

from sam3_lora.boxes import cxcywh_to_xyxy, pairwise_iou
from sam3_lora.predict.postprocess import PostprocessConfig, phrase_result, postprocess
from sam3_lora.structures import Detections, Targets

SCORE_THRESHOLD = IOU_THRESHOLD = 0.5


class BoxF1:
    """F1 of boxes at IoU 0.5 and score 0.5, gathered over batches from what the loss needs anyway.

    Answers are thinned out as everywhere else; cheaper than evaluation (no masks at full size) and another number.
    """

    def __init__(self) -> None:
        self._right = self._found = self._objects = 0

    def add(self, detections: Detections, targets: Targets) -> None:
        """Counts a batch: in each phrase an answer may meet one object and an object one answer."""
        truths = cxcywh_to_xyxy(targets.boxes.float().cpu()).split(targets.counts.tolist())
        for phrase, of_phrase in enumerate(truths):
            found = phrase_result("", detections, phrase, size_hw=(1, 1), threshold=SCORE_THRESHOLD)
            answers = torch.from_numpy(postprocess(found, PostprocessConfig(SCORE_THRESHOLD)).boxes_xyxy)
            self._found += len(answers)
            self._objects += len(of_phrase)
            if len(answers) and len(of_phrase):
                ious = pairwise_iou(answers, of_phrase)
                pairs = linear_sum_assignment(-ious.nan_to_num().numpy())  # boxes without an area have none
                self._right += int((ious[pairs] >= IOU_THRESHOLD).sum())

    def value(self) -> float:
        """In [0, 1]; 0 where nothing is right."""
        return 2 * self._right / max(self._found + self._objects, 1)
