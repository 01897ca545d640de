"""COCO average precision (AP, mAP): over all, by phrase and by object size, also of resampled images."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from sam3_lora.evaluate.predictions import MAX_DETECTIONS, PromptResult
from sam3_lora.masks import encode_rle

SIZES = ("small", "medium", "large")  # COCO's: up to 32 x 32 pixels, up to 96 x 96, above


class AveragePrecision:
    """COCO's interpolated precision, of boxes ("bbox") or masks ("segm"); phrases are the categories.

    Images are numbered in the order in which the results first name them.

    Attributes:
        phrases: P names, sorted.
        images: how many there are.
        values: (10 IoUs 0.5 to 0.95, 101 recalls 0 to 1, P, 4 sizes: all, small, medium, large) precision; nan
            where there is no object.
        scores: the lowest score that reaches each recall, shaped as `values`.
    """

    def __init__(self, results: list[PromptResult], kind: str) -> None:
        from faster_coco_eval import COCO, COCOeval_faster

        gt, preds = coco_dicts(results)
        self.phrases = tuple(category["name"] for category in gt["categories"])
        self.images = len(gt["images"])
        with contextlib.redirect_stdout(io.StringIO()):
            coco_gt = COCO(gt)
            coco_preds = coco_gt.loadRes([dict(pred) for pred in preds])
            self._evaluation = COCOeval_faster(coco_gt, coco_preds, iouType=kind, separate_eval=True)
            self._evaluation.params.maxDets = [MAX_DETECTIONS]  # COCO's other limits, 1 and 10, are for recall
            self._evaluation.evaluate()
        self._cells = list(self._evaluation._evalImgs_cpp)  # one per phrase, size and image, in this order
        self.values, self.scores = self._accumulate()

    def resampled(self, image_indices: np.ndarray) -> np.ndarray:
        """`values` as if the split had exactly these images, repetitions included; image_indices: (I,) int."""
        rows = len(self._cells) // self.images
        cells = [self._cells[row * self.images + image] for row in range(rows) for image in image_indices.tolist()]
        self._evaluation._evalImgs_cpp = cells
        try:
            return self._accumulate()[0]
        finally:
            self._evaluation._evalImgs_cpp = self._cells

    def _accumulate(self) -> tuple[np.ndarray, np.ndarray]:
        self._evaluation.accumulate()
        accumulated = self._evaluation.eval
        precision = np.asarray(accumulated["precision"])[..., -1]
        scores = np.asarray(accumulated["scores"])[..., -1]
        return np.where(precision < 0, np.nan, precision), np.where(precision < 0, np.nan, scores)


def mean_defined(values: np.ndarray) -> float:
    """The mean of the values that are not nan; nan if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def mean_ap(values: np.ndarray) -> float:
    """mAP over all objects of :attr:`AveragePrecision.values`."""
    return mean_defined(values[..., 0])


def ap_by_phrase(values: np.ndarray) -> list[float]:
    """AP of each phrase."""
    return [mean_defined(values[:, :, number, 0]) for number in range(values.shape[2])]


def ap_by_size(values: np.ndarray) -> list[float]:
    """mAP of small, medium and large objects."""
    return [mean_defined(values[..., 1 + number]) for number in range(len(SIZES))]


def coco_dicts(results: list[PromptResult]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results in COCO's own formats: the ground-truth dataset, and the list of predictions."""
    from pycocotools import mask as rle_ops

    category_ids = {phrase: number for number, phrase in enumerate(sorted({one.phrase for one in results}), 1)}
    sizes = {one.image_id: one.size_hw for one in results}
    image_ids = {image_id: number for number, image_id in enumerate(sizes, 1)}
    annotations: list[dict[str, Any]] = []
    preds: list[dict[str, Any]] = []
    for result in results:
        ids = {"image_id": image_ids[result.image_id], "category_id": category_ids[result.phrase]}
        for box, mask, crowd in zip(result.gt_boxes, result.gt_masks, result.gt_crowd, strict=True):
            area = float(rle_ops.area(mask))
            annotation = {"bbox": box, "segmentation": mask, "iscrowd": int(crowd), "area": area}
            annotations.append({**ids, **annotation, "id": len(annotations) + 1})
        if not result.exhaustive:
            annotations.append({**ids, **_whole_image(result.size_hw), "id": len(annotations) + 1})
        for box, mask, score in zip(result.pred_boxes, result.pred_masks, result.pred_scores, strict=True):
            preds.append({**ids, "bbox": box, "segmentation": mask, "score": score})
    gt = {
        "info": {},
        "images": [
            {"id": number, "height": size[0], "width": size[1]} for number, size in enumerate(sizes.values(), 1)
        ],
        "categories": [{"id": number, "name": phrase} for phrase, number in category_ids.items()],
        "annotations": annotations,
    }
    return gt, preds


def _whole_image(size_hw: tuple[int, int]) -> dict[str, Any]:
    """A crowd region that covers the image, so that predictions without an object do not count."""
    height, width = size_hw
    mask = encode_rle(np.ones(size_hw, dtype=bool))
    return {"bbox": [0, 0, width, height], "segmentation": mask, "iscrowd": 1, "area": float(height * width)}
