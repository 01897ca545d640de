"""The images where a model errs most, with all that is needed to draw them."""

from __future__ import annotations

from sam3_lora.evaluate.outcomes import POOR, WRONG, Outcome, outcome
from sam3_lora.evaluate.predictions import ImagePredictions, PromptResult
from sam3_lora.evaluate.report import Shape, WorstImage

MAX_IMAGES_PER_ERROR = 20  # images kept for each kind of error
_FOUND, _MISSED, _CROWD = "found", "missed", "crowd"


def worst_images(base: list[ImagePredictions], adapter: list[ImagePredictions] | None) -> list[WorstImage]:
    """Those with the most errors of the adapter (without one, of the base model), worst first.

    For each kind of error (false, missed, poorly outlined) the worst MAX_IMAGES_PER_ERROR are among them.
    """
    judged = base if adapter is None else adapter
    counted = [_errors(image) for image in judged]
    chosen: set[int] = set()
    for rank in (sum, *(lambda errors, kind=kind: errors[kind] for kind in range(3))):
        ranked = sorted(range(len(judged)), key=lambda number, rank=rank: -rank(counted[number]))
        chosen |= {number for number in ranked[:MAX_IMAGES_PER_ERROR] if rank(counted[number])}
    order = sorted(chosen, key=lambda number: (-sum(counted[number]), number))
    return [_image(base[n], None if adapter is None else adapter[n], judged[n], counted[n]) for n in order]


def _errors(image: ImagePredictions) -> tuple[int, int, int]:
    """False answers, missed objects and poor outlines; an object that is poorly outlined is not counted as missed."""
    outcomes = [outcome(pair) for pair in image.pairs]
    false, poor = (sum(one.count(kind) for one in outcomes) for kind in (WRONG, POOR))
    missed = sum(int(one.missed.sum()) - min(one.count(POOR), int(one.missed.sum())) for one in outcomes)
    return false, missed, poor


def _image(
    base: ImagePredictions, adapter: ImagePredictions | None, judged: ImagePredictions, errors: tuple[int, int, int]
) -> WorstImage:
    record = base.image
    false, missed, poor = errors
    return WorstImage(
        record.file_name,
        str(record.path),
        (record.height, record.width),
        false,
        missed,
        poor,
        [shape for pair in judged.pairs for shape in _truths(pair, outcome(pair))],
        _answers(base),
        None if adapter is None else _answers(adapter),
    )


def _truths(pair: PromptResult, found: Outcome) -> list[Shape]:
    return [
        Shape(pair.phrase, box, mask, _CROWD if crowd else _MISSED if missed else _FOUND)
        for box, mask, crowd, missed in zip(
            pair.gt_boxes, pair.gt_masks, pair.gt_crowd, found.missed.tolist(), strict=True
        )
    ]


def _answers(image: ImagePredictions) -> list[Shape]:
    shapes = []
    for pair in image.pairs:
        given = pair.given.nonzero()[0].tolist()
        for row, name in zip(given, outcome(pair).answers, strict=True):
            box = [round(value, 1) for value in pair.pred_boxes[row]]
            shapes.append(Shape(pair.phrase, box, pair.pred_masks[row], name, round(pair.pred_scores[row], 4)))
    return shapes
