"""What the adapter changed, each number with the interval that resampled images give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sam3_lora.evaluate import bootstrap
from sam3_lora.evaluate.metrics import Counted, Key
from sam3_lora.evaluate.predictions import ImagePredictions
from sam3_lora.evaluate.prompt_leak import Words, kept
from sam3_lora.evaluate.report import Difference, Kept, Numbers

MIN_IMAGES = 5  # of so few, drawn again and again, nothing follows for others
MIN_OBJECTS = 5  # drawing one or two objects again and again says nothing about others


def differences(
    base: tuple[Counted, Numbers],
    adapter: tuple[Counted, Numbers],
    main: str,
    objects: Mapping[tuple[str, str], int],
    drawn: np.ndarray,
    tell: Callable[[float], None],
) -> list[Difference]:
    """Every metric's difference, and the main metric's for each phrase and size.

    Args:
        objects: how many each ("phrase", name) and ("size", name) has; fewer than MIN_OBJECTS give no interval.
        drawn: the resamples, (count, images): the same for both models, so that what is hard for both cancels out.
        tell: told the share done; may raise to end it.
    """
    before = _resampled(base[0], main, drawn, lambda share: tell(share / 2))
    after = _resampled(adapter[0], main, drawn, lambda share: tell(0.5 + share / 2))
    old, new = base[1], adapter[1]
    ap = main.replace("map_", "ap_")
    values = {("all", "", name): (old.metrics[name], new.metrics[name]) for name in old.metrics}
    values |= {("phrase", name, main): (old.phrases[name][ap], new.phrases[name][ap]) for name in old.phrases}
    values |= {("size", name, main): (old.sizes[name][ap], new.sizes[name][ap]) for name in old.sizes}
    enough = {key for key in before if key[0] == "all" or objects.get(key[:2], 0) >= MIN_OBJECTS}
    if base[0].min_questions() < MIN_OBJECTS:  # one image that holds nothing would decide
        enough -= {("all", "", "il_mcc"), ("all", "", "cgf1")}
    if drawn.shape[1] < MIN_IMAGES:
        enough = set()
    return [
        _difference(key, *both, after[key] - before[key] if key in enough else None) for key, both in values.items()
    ]


def remembered(base: list[ImagePredictions], adapter: list[ImagePredictions], words: Words, seed: int = 0) -> Kept:
    """What the base finds by common words and the adapter still does, with an interval."""
    counts, by_word = kept(base, adapter, words)
    drawn = bootstrap.draws(len(counts), bootstrap.RESAMPLES, seed)
    found, still = (bootstrap.weights_of(drawn) @ counts).T
    with np.errstate(invalid="ignore"):
        between = (bootstrap.interval(still / found) if len(counts) >= MIN_IMAGES else None) or (None, None)
    total, again = counts.sum(0)
    return Kept(int(total), int(again), *between, {word: both for word, both in by_word.items() if both[0]})


def _resampled(counted: Counted, main: str, drawn: np.ndarray, tell: Callable[[float], None]) -> dict[Key, np.ndarray]:
    rows = []
    for number, row in enumerate(drawn):
        tell(number / len(drawn))
        rows.append(counted.resampled_precision(row, main))
    found: dict[Key, np.ndarray] = {key: np.array([values[key] for values in rows]) for key in rows[0]}
    sums = counted.resampled_measures(bootstrap.weights_of(drawn))
    return found | {("all", "", name): values for name, values in sums.items()}


def _difference(key: Key, before: float | None, after: float | None, samples: np.ndarray | None) -> Difference:
    if before is None or after is None:
        return Difference(*key, before, after, None)
    between = bootstrap.interval(samples) if samples is not None else None
    return Difference(*key, before, after, after - before, *(between or (None, None)))
