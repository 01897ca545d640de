"""Questions with made-up objects and answers, for tests of the measures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from sam3_lora.evaluate import PromptResult
from sam3_lora.evaluate.predictions import ImagePredictions
from sam3_lora.masks import encode_rle

SIZE = (160, 160)


def square(x: int, y: int, side: int = 8, size: tuple[int, int] = SIZE):
    """(box xywh, RLE) of a filled square."""
    mask = np.zeros(size, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return [float(x), float(y), float(side), float(side)], encode_rle(mask)


def pair(image_id=1, truths=(), answers=(), scores=(), phrase="crack", crowd=False, size=SIZE) -> PromptResult:
    """truths, answers: (box, RLE) as :func:`square` gives; crowd: one flag for all, or a list."""
    gt_boxes, gt_masks = zip(*truths, strict=True) if truths else ((), ())
    pred_boxes, pred_masks = zip(*answers, strict=True) if answers else ((), ())
    return PromptResult(
        image_id=image_id,
        phrase=phrase,
        size_hw=size,
        gt_boxes=list(gt_boxes),
        gt_masks=list(gt_masks),
        gt_crowd=[crowd] * len(truths) if isinstance(crowd, bool) else list(crowd),
        pred_boxes=list(pred_boxes),
        pred_masks=list(pred_masks),
        pred_scores=list(scores),
    )


def asked(
    pairs: list[PromptResult], others: list[PromptResult] = (), present: tuple[str, ...] | None = None
) -> ImagePredictions:
    """One image's questions; unless told, what has objects is present."""
    there = {one.phrase for one in pairs if one.gt_masks} if present is None else present
    record = SimpleNamespace(file_name="a.png", path="a.png", height=SIZE[0], width=SIZE[1])
    return ImagePredictions(record, pairs, list(others), frozenset(there))


def random_pairs(
    seed: int, images: int = 8, phrases: tuple[str, ...] = ("crack", "joint", "pothole")
) -> list[PromptResult]:
    """Objects of all three sizes and answers near them, elsewhere, or none at all; crowds; scores that repeat."""
    rng = np.random.default_rng(seed)
    pairs = []
    for image in range(images):
        for phrase in phrases:
            truths = [_place(rng) for _ in range(rng.integers(0, 4) if image else 0)]  # the first image has none
            near = [_moved(rng, *one) for one in truths if rng.random() < 0.7]
            spread = [_place(rng) for _ in range(rng.integers(0, 3))]
            answers = [] if rng.random() < 0.2 else [*near, *spread, *near[:1]]
            scores = np.sort(rng.integers(1, 20, len(answers)) / 20)[::-1].tolist()
            rng.shuffle(answers)
            crowd = (rng.random(len(truths)) < 0.2).tolist()
            pairs.append(
                pair(image, [square(*t) for t in truths], [square(*a) for a in answers], scores, phrase, crowd)
            )
    return pairs


def _place(rng: np.random.Generator) -> tuple[int, int, int]:
    side = int(rng.choice((10, 20, 40, 60, 100)))
    x, y = rng.integers(0, SIZE[0] - side, 2).tolist()
    return x, y, side


def _moved(rng: np.random.Generator, x: int, y: int, side: int) -> tuple[int, int, int]:
    dx, dy = rng.integers(-side // 5, side // 5 + 1, 2).tolist()
    return max(x + dx, 0), max(y + dy, 0), side
