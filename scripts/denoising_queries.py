"""Denoising queries for the decoder of the demo's model: boxes near objects, and the target of each.

An untrained decoder predicts the same boxes for every image, and matching them to objects teaches it little. Here
half of the queries start from boxes with a known target: a noisy object box becomes the object's box, any other box is
no object. After "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising" (Li et al., 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam3_lora.boxes import cxcywh_to_xyxy, matched_giou, matched_iou, pairwise_iou
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.structures import Detections

NEAR = 0.25  # IoU with an object from which on the object is a box's target


@dataclass(frozen=True)
class Practice:
    """Initial boxes of the queries and their targets."""

    start: Tensor  # (P, Q, 4) cxcywh in [0, 1]
    goal: Tensor  # (P, Q, 4) cxcywh in [0, 1], where is_object
    is_object: Tensor  # (P, Q) bool

    def to(self, device: torch.device) -> Practice:
        return Practice(self.start.to(device), self.goal.to(device), self.is_object.to(device))


class PractisingDetector(Sam3Detector):
    """The detector whose second half of queries starts from given boxes."""

    practice: Practice

    def _first_boxes(self, phrases: int, halves: int) -> Tensor:
        learned = super()._first_boxes(phrases, halves)[:, : self.base.detr_decoder.config.num_queries]
        return torch.cat((learned, self.practice.start), dim=1)


def make_practice(rng: np.random.Generator, drawn: list[Tensor], named: list[Tensor], queries: int) -> Practice:
    """Half of the boxes are noisy objects of the scene, the named ones first; the others are random.

    Args:
        rng: of the noise.
        drawn: per phrase, the boxes (F, 4) cxcywh of all figures in its scene.
        named: per phrase, the boxes (K, 4) of the figures it names.
        queries: how many boxes per phrase.
    """
    start = np.empty((len(drawn), queries, 4), np.float32)
    start[..., :2] = rng.uniform(0.02, 0.98, start[..., :2].shape)
    start[..., 2:] = 0.05 + 0.6 * rng.random(start[..., 2:].shape) ** 2
    goal = torch.full(start.shape, 0.5)
    is_object = torch.zeros(start.shape[:2], dtype=torch.bool)
    for row, (all_boxes, boxes) in enumerate(zip(drawn, named, strict=True)):
        for column in range(queries // 2):
            source = boxes if len(boxes) and column < queries // 4 else all_boxes
            if len(source):
                start[row, column] = _noisy(rng, source[int(rng.integers(len(source)))].numpy())
        if len(boxes):
            iou = pairwise_iou(cxcywh_to_xyxy(torch.from_numpy(start[row])), cxcywh_to_xyxy(boxes))
            best, index = iou.max(1)
            goal[row], is_object[row] = boxes[index], best >= NEAR
    return Practice(torch.from_numpy(start), goal, is_object)


def _noisy(rng: np.random.Generator, box_cxcywh: np.ndarray) -> np.ndarray:
    center = box_cxcywh[:2] + rng.uniform(-0.35, 0.35, 2) * box_cxcywh[2:]
    return np.clip(np.concatenate((center, box_cxcywh[2:] * np.exp(rng.uniform(-0.6, 0.6, 2)))), 0.01, 0.99)


def practice_terms(detections: Detections, practice: Practice) -> dict[str, Tensor]:
    """Loss of boxes and scores of the denoising half, a mean over the decoder's layers."""
    half = detections.one_to_many
    layers = len(half.logits)
    chosen = practice.is_object.expand(layers, -1, -1)
    goal = practice.goal.expand(layers, -1, -1, -1)[chosen]
    boxes = half.boxes[chosen]
    corners, goal_corners = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(goal)
    fit = torch.zeros_like(half.logits)
    fit[chosen] = matched_iou(corners, goal_corners).detach()
    count = max(len(boxes), 1)
    errors = F.binary_cross_entropy_with_logits(half.logits, fit, reduction="none")
    is_sure = (half.logits.sigmoid() - fit).abs().detach()  # small errors weigh less
    return {
        "practice_boxes": (5 * (boxes - goal).abs().sum() + 2 * (1 - matched_giou(corners, goal_corners)).sum())
        / count,
        "practice_scores": 8 * (is_sure * errors).mean(),
    }
