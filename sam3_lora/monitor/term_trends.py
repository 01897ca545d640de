"""The trend of each loss term over a run beside its healthy band, small enough to draw all terms at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam3_lora.config import RunConfig
from sam3_lora.monitor.healthy_ranges import WINDOW, Range, Verdict, expected
from sam3_lora.monitor.history import TERMS, History
from sam3_lora.monitor.terms import MAIN
from sam3_lora.runs.metrics import Row

POINTS, BANDS = 60, 16  # at most: of values, and of ranges, which change slowly
TOTAL = "total"


@dataclass(frozen=True)
class TermTrend:
    """One term: its values at some steps, and what is healthy there."""

    term: str
    steps: tuple[int, ...]  # increasing, at most POINTS
    values: tuple[float, ...]  # weighted, each the mean of the last WINDOW steps; NaN where there is none
    bands: tuple[tuple[int, Range], ...]  # step and what is healthy there, where known; at most BANDS
    verdict: Verdict


def term_trends(history: History, config: RunConfig, verdicts: Mapping[str, Verdict]) -> list[TermTrend]:
    """The total and the terms of the last layer, in the order of the chart's legend.

    Args:
        history: of the run.
        config: the run's.
        verdicts: on each term; those without one are left out.
    """
    steps = np.asarray(history.steps)
    if not len(steps) or history.last is None:
        return []
    chosen = _evenly(len(steps), POINTS)
    columns: dict[str, Sequence[float]] = {TOTAL: history.totals}
    columns |= {term: history.columns[term, MAIN] for term in TERMS if (term, MAIN) in history.columns}
    at = steps[_evenly(len(steps), BANDS)].tolist()
    ranges = [(step, _expected_at(config, step, history.last)) for step in at]
    return [
        TermTrend(
            term=term,
            steps=tuple(steps[chosen].tolist()),
            values=tuple(_means(np.asarray(values, dtype=float))[chosen].tolist()),
            bands=tuple((step, of_step[term]) for step, of_step in ranges if term in of_step),
            verdict=verdicts[term],
        )
        for term, values in columns.items()
        if term in verdicts
    ]


def _evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most so many of the values, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def _means(values: np.ndarray) -> np.ndarray:
    """At each place the mean of the last WINDOW values that are finite; NaN where none is."""
    known = np.isfinite(values)
    sums = np.cumsum(np.where(known, values, 0.0))
    counts = np.cumsum(known)
    sums[WINDOW:], counts[WINDOW:] = sums[WINDOW:] - sums[:-WINDOW], counts[WINDOW:] - counts[:-WINDOW]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def _expected_at(config: RunConfig, step: int, last: Mapping[str, object]) -> dict[str, Range]:
    """The healthy ranges at an earlier step; its epoch is estimated from the last one, as the history has none."""
    epoch, last_step, terms = last.get("epoch", 1), last["step"], last["terms"]
    assert isinstance(epoch, int) and isinstance(last_step, int) and isinstance(terms, dict)
    share = (step - 1) / max(last_step, 1)
    row: Row = {"kind": "step", "step": step, "epoch": 1 + int(share * epoch), "terms": terms}
    return expected(config, row)
