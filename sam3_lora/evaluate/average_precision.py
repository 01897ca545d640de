"""COCO's average precision: over all, by phrase and by object size; again and again for resampled images."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from sam3_lora.evaluate.predictions import MAX_DETECTIONS, PromptResult

SIZES = ("small", "medium", "large")  # COCO's: up to 32 x 32 pixels, up to 96 x 96, above


class Precision:
    """COCO precision of the answers, of boxes ("bbox") or masks ("segm"); phrases are the categories.

    Images are numbered in the order in which the pairs first name them.

    Attributes:
        phrases: P names, sorted.
        images: how many there are.
        values: (10 IoUs 0.5 to 0.95, 101 recalls 0 to 1, P, 4 sizes: all, small, medium, large); nan where
            no object is.
        scores: the least score that reaches each recall, shaped as `values`.
    """

    def __init__(self, pairs: list[PromptResult], kind: str) -> None:
        from faster_coco_eval import COCO, COCOeval_faster

        truth, answers = coco_dicts(pairs)
        self.phrases = tuple(category["name"] for category in truth["categories"])
        self.images = len(truth["images"])
        with contextlib.redirect_stdout(io.StringIO()):
            ground = COCO(truth)
            found = ground.loadRes([dict(answer) for answer in answers])
            self._evaluation = COCOeval_faster(ground, found, iouType=kind, separate_eval=True)
            self._evaluation.params.maxDets = [MAX_DETECTIONS]  # COCO's other limits, 1 and 10, are for recall
            self._evaluation.evaluate()
        self._cells = list(self._evaluation._evalImgs_cpp)  # one per phrase, size and image, in this order
        self.values, self.scores = self._accumulate()

    def resampled(self, chosen: np.ndarray) -> np.ndarray:
        """`values` as if the split had these images, given by their numbers, repetitions included."""
        rows = len(self._cells) // self.images
        cells = [self._cells[row * self.images + image] for row in range(rows) for image in chosen.tolist()]
        self._evaluation._evalImgs_cpp = cells
        try:
            return self._accumulate()[0]
        finally:
            self._evaluation._evalImgs_cpp = self._cells

    def _accumulate(self) -> tuple[np.ndarray, np.ndarray]:
        self._evaluation.accumulate()
        found = self._evaluation.eval
        precision = np.asarray(found["precision"])[..., -1]
        scores = np.asarray(found["scores"])[..., -1]
        return np.where(precision < 0, np.nan, precision), np.where(precision < 0, np.nan, scores)


def average(values: np.ndarray) -> float:
    """The mean of what is defined; nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def over_all(values: np.ndarray) -> float:
    """mAP of :attr:`Precision.values`."""
    return average(values[..., 0])


def by_phrase(values: np.ndarray) -> list[float]:
    """Average precision of each phrase."""
    return [average(values[:, :, number, 0]) for number in range(values.shape[2])]


def by_size(values: np.ndarray) -> list[float]:
    """mAP of small, medium and large objects."""
    return [average(values[..., 1 + number]) for number in range(len(SIZES))]


def coco_map(pairs: list[PromptResult]) -> dict[str, float]:
    """COCO average precision over IoU 0.5:0.95, of boxes and of masks; 0 where there is no object."""
    return {f"map_{kind}": float(np.nan_to_num(over_all(Precision(pairs, kind).values))) for kind in ("bbox", "segm")}


def coco_dicts(pairs: list[PromptResult]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The pairs in COCO's own format: ground truth, and results."""
    from pycocotools import mask as rle_ops

    category_ids = {phrase: number for number, phrase in enumerate(sorted({pair.phrase for pair in pairs}), 1)}
    sizes = {pair.image_id: pair.size_hw for pair in pairs}
    image_ids = {image_id: number for number, image_id in enumerate(sizes, 1)}
    annotations, answers = [], []
    for pair in pairs:
        where = {"image_id": image_ids[pair.image_id], "category_id": category_ids[pair.phrase]}
        for box, mask, crowd in zip(pair.gt_boxes, pair.gt_masks, pair.gt_crowd, strict=True):
            area = float(rle_ops.area(mask))
            annotation = {"bbox": box, "segmentation": mask, "iscrowd": int(crowd), "area": area}
            annotations.append({**where, **annotation, "id": len(annotations) + 1})
        for box, mask, score in zip(pair.pred_boxes, pair.pred_masks, pair.pred_scores, strict=True):
            answers.append({**where, "bbox": box, "segmentation": mask, "score": score})
    truth = {
        "info": {},
        "images": [
            {"id": number, "height": size[0], "width": size[1]} for number, size in enumerate(sizes.values(), 1)
        ],
        "categories": [{"id": number, "name": phrase} for phrase, number in category_ids.items()],
        "annotations": annotations,
    }
    return truth, answers
