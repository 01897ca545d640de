"""The trends of the terms: as long as the run, bounded, and with the band of each step."""

from __future__ import annotations

import math
import re

import pytest

from sam3_lora.monitor.healthy_ranges import verdicts
from sam3_lora.monitor.history import History
from sam3_lora.monitor.term_trends import BANDS, POINTS, TermTrend, term_trends
from sam3_lora.ui.train.term_charts import drawing
from tests.monitor.helpers import CONFIG, WEIGHTS, falling


def trends_of(steps: int, **changes: float) -> list[TermTrend]:
    rows = falling(steps, **changes)
    history = History()
    history.extend(rows)
    return term_trends(history, CONFIG, verdicts(CONFIG, rows))


@pytest.mark.parametrize("steps", [1, 2, POINTS, 500])
def test_each_term_has_its_values_and_bands_from_the_first_step_to_the_last(steps: int) -> None:
    trends = trends_of(steps)
    assert next(trend.term for trend in trends) == "total"
    assert {trend.term for trend in trends} == {"total", *WEIGHTS}
    for trend in trends:
        assert trend.steps[0] == 1 and trend.steps[-1] == steps
        assert len(trend.steps) == len(trend.values) == min(steps, POINTS)
        assert len(trend.bands) in (0, min(steps, BANDS))
        assert all(map(math.isfinite, trend.values))


def test_nothing_is_drawn_before_the_first_step() -> None:
    assert term_trends(History(), CONFIG, {}) == []


def test_the_drawing_stays_in_its_frame_whatever_the_values() -> None:
    for trend in trends_of(200):
        for factor in (1.0, 1e6, 0.0):
            wild = TermTrend(
                trend.term, trend.steps, tuple(v * factor for v in trend.values), trend.bands, trend.verdict
            )
            svg = drawing(wild)
            points = " ".join(re.findall(r'points="([^"]*)"', svg)).split()
            heights = [float(point.partition(",")[2]) for point in points]
            assert heights and all(-0.1 <= y <= 64.1 for y in heights)
    assert "NaN" not in drawing(TermTrend("x", (1, 2), (math.nan, 1.0), (), trend.verdict))
