"""Prompts in tiles: the pieces of an object become it again, wherever the seams are, and neighbors stay apart."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3_lora.masks import encode_rle
from sam3_lora.predict.exemplars import Exemplars
from sam3_lora.predict.postprocess import PhraseResult, PostprocessConfig, postprocess
from sam3_lora.predict.predictor import Predictor
from sam3_lora.predict.tiled.prompt_tiles import prompt_tiles
from sam3_lora.tiles import Tiling, Window

SIZE_HW = (200, 260)
TILING = Tiling(100, 0.2)


def disc(x: float, y: float, radius: float, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2


def perfect(
    masks: list[np.ndarray], scores: Callable[[int, Window], float] = lambda number, window: 0.9
) -> Callable[[Window], Iterator[dict[str, PhraseResult]]]:
    """A model that predicts exactly what a tile shows of each mask."""

    def prompt(window: Window) -> Iterator[dict[str, PhraseResult]]:
        parts = [(number, part) for number, mask in enumerate(masks) if (part := window.crop(mask)).any()]
        found = sorted(((scores(number, window), part) for number, part in parts), key=lambda one: -one[0])
        boxes = [[*np.argwhere(part).min(0)[::-1], *(np.argwhere(part).max(0)[::-1] + 1)] for _, part in found]
        yield {
            "thing": PhraseResult(
                phrase="thing",
                boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
                scores=np.array([score for score, _ in found], np.float32),
                mask_logits=np.array([np.where(part, 1, -1) for _, part in found], np.float32).reshape(
                    -1, *window.size_hw
                ),
                size_hw=window.size_hw,
            )
        }

    return prompt


def whole(masks: list[np.ndarray], tiling: Tiling = TILING, **options: Callable) -> PhraseResult:
    windows = tiling.windows(masks[0].shape)
    return prompt_tiles(windows, ["thing"], perfect(masks, **options))["thing"]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0, SIZE_HW[1]),
    st.floats(0, SIZE_HW[0]),
    st.floats(2, 90),
    st.sampled_from([TILING, Tiling(64, 0.05), Tiling(90, 0.5)]),
)
def test_a_disc_anywhere_is_one_object(x: float, y: float, radius: float, tiling: Tiling) -> None:
    mask = disc(x, y, radius)
    if not mask.any():
        return
    result = whole([mask], tiling)
    assert len(result) == 1
    assert iou(result.masks[0], mask) > 0.95
    assert result.areas[0] == result.masks[0].sum()
    rows, columns = np.nonzero(result.masks[0])
    assert np.abs(result.boxes_xyxy[0] - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() < 1


@settings(deadline=None, max_examples=40)
@given(st.floats(20, 180), st.floats(0, 2 * np.pi), st.floats(4, 30))
def test_two_discs_side_by_side_stay_two(y: float, angle: float, radius: float) -> None:
    x = SIZE_HW[1] / 2
    masks = [
        disc(x + sign * np.cos(angle) * (radius + 1), y + sign * np.sin(angle) * (radius + 1), radius)
        for sign in (-1, 1)
    ]
    masks[1] &= ~masks[0]
    result = whole(masks)
    assert len(result) == 2
    assert sorted(max(iou(found, mask) for mask in masks) > 0.95 for found in result.masks) == [True, True]


def test_pieces_take_the_best_score_and_unsure_ones_add_no_mask() -> None:
    mask = disc(100, 50, 30)
    windows = TILING.windows(SIZE_HW)

    def score(number: int, window: Window) -> float:
        return 0.8 if window == windows[0] else 0.3

    result = whole([mask], scores=score)
    assert result.scores.tolist() == pytest.approx([0.8])
    assert iou(result.masks[0], mask & (np.arange(SIZE_HW[1]) < windows[0].width)) > 0.95


def test_duplicates_in_a_tile_are_one_object() -> None:
    mask = disc(80, 50, 20)
    result = whole([mask, mask, mask])
    assert len(result) == 1


def test_results_of_tiles_are_postprocessed_as_others() -> None:
    masks = [disc(50, 100, 20), disc(62, 100, 22), disc(200, 100, 30)]
    scores = [0.9, 0.8, 0.7]
    assert Tiling(260).count(SIZE_HW) == 1
    result = whole(masks, Tiling(260, 0.2), scores=lambda number, window: scores[number])
    stored = whole(masks, Tiling(200, 0.2), scores=lambda number, window: scores[number])
    for config in (
        PostprocessConfig(0.5, mask_iou=0.3),
        PostprocessConfig(0.5, mask_iom=0.3),
        PostprocessConfig(0.5, merge=0.3),
        PostprocessConfig(0.5, largest=1),
        PostprocessConfig(0.75),
        PostprocessConfig(0.5, use_presence=False),
    ):
        expected, found = postprocess(result, config), postprocess(stored, config)
        assert np.array_equal(found.masks, expected.masks), config
        assert np.array_equal(found.scores, expected.scores), config
    assert [encode_rle(mask) for mask in stored.masks] == list(stored.each_rle())


def test_a_predictor_with_tiles_finds_in_pixels_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    predictor = Predictor.load("demo")
    predictor.set_image(image)
    before = predictor.prompt(["crack"], 0.0, limit=3)["crack"]
    predictor.tiles = Tiling(300)
    assert np.array_equal(predictor.prompt(["crack"], 0.0, limit=3)["crack"].scores, before.scores), "it is one tile"
    predictor.tiles = TILING
    found = predictor.prompt(["crack", "pothole"], 0.0, limit=3)
    assert list(found) == ["crack", "pothole"]
    result = found["crack"]
    assert result.size_hw == (200, 260)
    assert result.masks.shape == (len(result), 200, 260)
    window = TILING.windows((200, 260))[-1]
    predictor.tiles = None
    with predictor.showing(window.crop(image)):
        part = predictor.prompt(["crack"], 0.0, limit=3)["crack"]
    assert part.size_hw == window.size_hw
    assert predictor.prompt(["crack"], 0.0, limit=3)["crack"].scores.tolist() == before.scores.tolist()


def test_exemplars_are_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    predictor = Predictor.load("demo")
    predictor.set_image(image)
    exemplars = Exemplars(np.array([[10.0, 10, 60, 60]]), np.array([True]))
    before = predictor.prompt(["crack"], 0.0, exemplars=exemplars)["crack"]
    predictor.tiles = TILING
    assert np.array_equal(predictor.prompt(["crack"], 0.0, exemplars=exemplars)["crack"].scores, before.scores)


def test_memory_stays_bounded_on_a_very_large_image() -> None:
    """Hundreds of objects in 108 million pixels: as bitmaps of the image their masks would take 50 GB."""
    size_hw, tiling, radius = (9_000, 12_000), Tiling(1_500, 0.2), 20
    rng = np.random.default_rng(0)
    corners = [(x, y) for x in range(300, 11_500, 500) for y in range(300, 8_500, 400)]
    centers = [(x + rng.uniform(0, 400), y + rng.uniform(0, 300)) for x, y in corners]
    side = 250  # of the model's masks

    def prompt(window: Window) -> Iterator[dict[str, PhraseResult]]:
        rows, columns = np.mgrid[:side, :side]
        scale = np.array([window.width, window.height]) / side
        masks = []
        for center in centers:
            x, y = (center - np.array([window.left, window.top])) / scale - 0.5
            if -5 < x < side + 5 and -5 < y < side + 5:
                distance = np.hypot((columns - x) * scale[0], (rows - y) * scale[1])
                if distance.min() < radius:
                    masks.append(radius - distance)
        logits = np.array(masks, np.float32).reshape(-1, side, side)
        boxes, scores = np.zeros((len(logits), 4), np.float32), np.full(len(logits), 0.9, np.float32)
        yield {"thing": PhraseResult("thing", boxes, scores, logits, window.size_hw)}

    tracemalloc.start()
    result = prompt_tiles(tiling.windows(size_hw), ["thing"], prompt)["thing"]
    found = postprocess(result, PostprocessConfig())
    areas, rles = found.areas, list(found.each_rle())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == len(centers) == len(rles)
    assert areas == pytest.approx(np.pi * radius**2, rel=0.1)
    assert peak < 250e6
