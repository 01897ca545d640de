"""Non-maximum suppression and the other steps, against cases computed by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, mask_overlaps, postprocess, postprocess_all

SIZE = (20, 20)


def result(*spans: tuple[int, int], scores: tuple[float, ...], presence: float = 1.0) -> PhraseResult:
    """Objects that fill the columns from a up to b over the whole height."""
    logits = np.full((len(spans), *SIZE), -1.0, np.float32)
    for index, (start, end) in enumerate(spans):
        logits[index, :, start:end] = 1
    boxes = np.array([(start, 0, end, 20) for start, end in spans], np.float32).reshape(-1, 4)
    return PhraseResult("crack", boxes, np.array(scores, np.float32), logits, SIZE, presence)


def spans(found: PhraseResult) -> list[tuple[int, int]]:
    columns = [np.flatnonzero(mask.any(0)) for mask in found.masks]
    assert [(one[0], one[-1] + 1) for one in columns] == [(box[0], box[2]) for box in found.boxes_xyxy]
    return [(int(one[0]), int(one[-1]) + 1) for one in columns]


PAIR = result((0, 10), (5, 15), scores=(0.9, 0.8))  # IoU 5 / 15, over the smaller 5 / 10
NESTED = result((0, 16), (2, 6), scores=(0.9, 0.8))  # IoU 4 / 16, over the smaller 1
CHAIN = result((0, 8), (6, 14), (12, 20), (0, 2), scores=(0.5, 0.9, 0.6, 0.4))


def test_overlaps():
    iou, iom = mask_overlaps(PAIR.mask_logits)
    np.testing.assert_allclose(iou, [[1, 1 / 3], [1 / 3, 1]])
    np.testing.assert_allclose(iom, [[1, 0.5], [0.5, 1]])


@pytest.mark.parametrize("kind", ["box_iou", "mask_iou"])
@pytest.mark.parametrize(("threshold", "left"), [(0.34, 2), (0.33, 1)])
def test_of_two_overlapping_objects_the_better_stays(kind, threshold, left):
    found = postprocess(PAIR, PostprocessConfig(**{kind: threshold}))
    assert spans(found) == [(0, 10), (5, 15)][:left]


def test_iom_removes_parts_of_other_objects():
    assert len(postprocess(NESTED, PostprocessConfig(mask_iou=0.5))) == 2
    assert spans(postprocess(NESTED, PostprocessConfig(mask_iom=0.5))) == [(0, 16)]


def test_a_suppressed_object_suppresses_no_other():
    chain = result((0, 10), (6, 16), (12, 20), scores=(0.9, 0.8, 0.7))
    assert spans(postprocess(chain, PostprocessConfig(mask_iou=0.2))) == [(0, 10), (12, 20)]


def test_overlapping_pieces_are_merged_with_the_best_score():
    merged = postprocess(CHAIN, PostprocessConfig(threshold=0.45, merge=0.2))
    assert spans(merged) == [(0, 20)]
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert len(postprocess(CHAIN, PostprocessConfig(threshold=0.45, merge=0.3))) == 3


def test_the_largest_stay_in_the_order_of_their_scores():
    found = postprocess(result((0, 2), (3, 9), (10, 13), scores=(0.9, 0.8, 0.7)), PostprocessConfig(largest=2))
    assert spans(found) == [(3, 9), (10, 13)]


def test_presence_is_a_factor_that_can_be_left_out():
    faint = result((0, 5), (8, 12), scores=(0.3, 0.1), presence=0.4)
    assert len(postprocess(faint, PostprocessConfig(threshold=0.5))) == 0
    bold = postprocess(faint, PostprocessConfig(threshold=0.5, use_presence=False))
    assert bold.scores.tolist() == pytest.approx([0.75])


def test_duplicates_are_removed_by_default():
    duplicates = result((0, 11), (0, 10), (12, 18), scores=(0.9, 0.8, 0.7))  # IoU 10 / 11
    assert spans(postprocess(duplicates, PostprocessConfig())) == [(0, 11), (12, 18)]
    assert len(postprocess(duplicates, PostprocessConfig(mask_iou=None))) == 3


@pytest.mark.parametrize(
    "config", [PostprocessConfig(), PostprocessConfig(box_iou=0.5, mask_iou=0.5, mask_iom=0.5, merge=0.1, largest=3)]
)
def test_nothing_found_stays_nothing(config):
    nothing = result(scores=())
    assert len(postprocess(nothing, config)) == 0
    assert postprocess(nothing, config).masks.shape == (0, *SIZE)


@pytest.mark.parametrize("sizes", [((42, 42), (448, 300)), ((30, 40), (17, 23)), ((7, 5), (7, 5)), ((3, 2), (1, 90))])
def test_masks_at_full_size_are_the_upsampled_logits(sizes):
    rng = np.random.default_rng(0)
    for sparse in (0.0, 1.0, 2.5, 9.0):
        logits = rng.normal(size=(3, *sizes[0])).astype(np.float32) - np.float32(sparse)
        whole = F.interpolate(torch.from_numpy(logits)[None], sizes[1], mode="bilinear", align_corners=False)[0].numpy()
        found = PhraseResult("crack", np.zeros((3, 4)), np.ones(3), logits, sizes[1])
        assert (np.abs(whole[found.masks != (whole > 0)]) < 1e-5).all(), "rounding alone may tell them apart"
        assert found.areas.tolist() == found.masks.sum((1, 2)).tolist()


def test_a_phrase_may_have_a_threshold_of_its_own():
    found = postprocess_all({"crack": PAIR, "joint": PAIR}, PostprocessConfig(threshold=0.85), {"joint": 0.1})
    assert [len(one) for one in found.values()] == [1, 2]
