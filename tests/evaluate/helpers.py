"""Made-up ground truth and predictions, for tests of the metrics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sam3_lora.data.prompts import ImagePhrases
from sam3_lora.evaluate import cgf1
from sam3_lora.evaluate.average_precision import AveragePrecision, mean_ap
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult
from sam3_lora.masks import encode_rle

SIZE = (160, 160)


def square(x: int, y: int, side: int = 8, size: tuple[int, int] = SIZE):
    """(box xywh, RLE) of a filled square."""
    mask = np.zeros(size, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return [float(x), float(y), float(side), float(side)], encode_rle(mask)


def prompt_result(image_id=1, gt=(), preds=(), scores=(), phrase="crack", crowd=False, size=SIZE) -> PromptResult:
    """gt, preds: (box, RLE) as :func:`square` gives; crowd: one flag for all, or a list."""
    gt_boxes, gt_masks = zip(*gt, strict=True) if gt else ((), ())
    pred_boxes, pred_masks = zip(*preds, strict=True) if preds else ((), ())
    return PromptResult(
        image_id=image_id,
        phrase=phrase,
        size_hw=size,
        gt_boxes=list(gt_boxes),
        gt_masks=list(gt_masks),
        gt_crowd=[crowd] * len(gt) if isinstance(crowd, bool) else list(crowd),
        pred_boxes=list(pred_boxes),
        pred_masks=list(pred_masks),
        pred_scores=list(scores),
    )


def image_predictions(
    results: list[PromptResult], extra: list[PromptResult] = (), present: tuple[str, ...] | None = None
) -> ImagePredictions:
    """One image's results; present: the phrases with objects, unless given."""
    there = {one.phrase for one in results if one.gt_masks} if present is None else present
    record = SimpleNamespace(file_name="a.png", path="a.png", height=SIZE[0], width=SIZE[1], orientation="")
    known = ImagePhrases({}, frozenset(there), related=frozenset(), incomplete=frozenset(), absent=None)
    return ImagePredictions(record, results, list(extra), known)


def random_results(
    seed: int, images: int = 8, phrases: tuple[str, ...] = ("crack", "joint", "pothole")
) -> list[PromptResult]:
    """Objects of all three sizes and predictions near them, elsewhere, or none; crowds; scores that repeat."""
    rng = np.random.default_rng(seed)
    results = []
    for image in range(images):
        for phrase in phrases:
            gt = [_place(rng) for _ in range(rng.integers(0, 4) if image else 0)]  # the first image has none
            near = [_moved(rng, *one) for one in gt if rng.random() < 0.7]
            spread = [_place(rng) for _ in range(rng.integers(0, 3))]
            preds = [] if rng.random() < 0.2 else [*near, *spread, *near[:1]]
            scores = np.sort(rng.integers(1, 20, len(preds)) / 20)[::-1].tolist()
            rng.shuffle(preds)
            crowd = (rng.random(len(gt)) < 0.2).tolist()
            results.append(
                prompt_result(image, [square(*t) for t in gt], [square(*p) for p in preds], scores, phrase, crowd)
            )
    return results


def _place(rng: np.random.Generator) -> tuple[int, int, int]:
    side = int(rng.choice((10, 20, 40, 60, 100)))
    x, y = rng.integers(0, SIZE[0] - side, 2).tolist()
    return x, y, side


def _moved(rng: np.random.Generator, x: int, y: int, side: int) -> tuple[int, int, int]:
    dx, dy = rng.integers(-side // 5, side // 5 + 1, 2).tolist()
    return max(x + dx, 0), max(y + dy, 0), side


def coco_map(results: list[PromptResult]) -> dict[str, float]:
    """COCO mAP over IoU 0.5:0.95, of boxes (map_bbox) and masks (map_segm); 0 where there is no object."""
    values = {kind: AveragePrecision(results, kind).values for kind in ("bbox", "segm")}
    return {f"map_{kind}": float(np.nan_to_num(mean_ap(precision))) for kind, precision in values.items()}


def concept_f1(results: list[PromptResult]) -> dict[str, float | None]:
    """F1 at IoU 0.5 and score 0.5, and cgF1 with its parts; None where not defined."""
    counts = cgf1.count(results)
    values = cgf1.scores(counts.weighted(np.ones(len(counts.fp_absent))))
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}
