"""What the losses of a healthy run look like: ranges measured over runs of the demo, by stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sam3_lora.config import ASSETS

DEMO_RANGES = ASSETS / "demo" / "healthy.json"
STAGE_ENDS = (10, 20, 40, 80, 160, 320, 640, 1280)  # steps: losses fall fast at first


@dataclass(frozen=True)
class Stage:
    """Steps first to last, and for each term ("total" too) the lowest and highest weighted mean that was healthy."""

    first: int
    last: int
    ranges: dict[str, tuple[float, float]]


@cache
def demo_stages() -> tuple[Stage, ...]:
    """The stages of the default run on the demo, as :func:`measure_stages` found them over five seeds."""
    stages = json.loads(DEMO_RANGES.read_text(encoding="utf-8"))["stages"]
    return tuple(
        Stage(one["first"], one["last"], {name: tuple(ends) for name, ends in one["ranges"].items()}) for one in stages
    )


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of a step; after the last stage, that one."""
    return next((stage for stage in stages if step <= stage.last), stages[-1])


def measure_stages(runs: Iterable[Iterable[dict[str, Any]]]) -> tuple[Stage, ...]:
    """The ranges over several healthy runs.

    Args:
        runs: of each run its lines of metrics.jsonl.

    Returns:
        Per stage, the lowest and the highest of the runs' means; stages that a run did not reach are left out.
    """
    tables = [[line for line in run if line.get("kind") == "step"] for run in runs]
    reached = min(max(line["step"] for line in table) for table in tables)
    stages, first = [], 1
    for end in STAGE_ENDS:
        if first > reached:
            break
        last = min(end, reached)
        means = [_means([line for line in table if first <= line["step"] <= last]) for table in tables]
        names = set.intersection(*(set(mean) for mean in means))
        ranges = {
            name: (min(mean[name] for mean in means), max(mean[name] for mean in means)) for name in sorted(names)
        }
        stages.append(Stage(first, last, ranges))
        first = last + 1
    return tuple(stages)


def save_stages(stages: Sequence[Stage], path: Path, about: str) -> None:
    """Writes stages as JSON; about: how they were measured."""
    rounded = [
        {
            "first": stage.first,
            "last": stage.last,
            "ranges": {name: [float(f"{end:.4g}") for end in ends] for name, ends in stage.ranges.items()},
        }
        for stage in stages
    ]
    path.write_text(json.dumps({"about": about, "stages": rounded}, indent=1) + "\n", encoding="utf-8")


def _means(lines: list[dict[str, Any]]) -> dict[str, float]:
    rows = [{"total": line["total"], **line["terms"]} for line in lines]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}
