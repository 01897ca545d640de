"""Measures the ranges of healthy losses, stage by stage, that sam3_lora/monitor/healthy_ranges.py reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from sam3_lora.monitor.healthy_ranges import WINDOW, Stage, mean_terms
from sam3_lora.runs.metrics import Row

STAGE_ENDS = (10, 20, 30, 45, 65, 95, 135, 190, 270, 380, 540, 760)  # steps: losses fall fast at first


def measure_stages(runs: Iterable[Iterable[Row]]) -> tuple[Stage, ...]:
    """The ranges over several healthy runs.

    Args:
        runs: the rows of metrics.jsonl of each run, from the first step on.

    Returns:
        Per stage, the lowest and the highest mean of any run at any of its steps, and F1 of any of its validations;
        without the stages that a run did not reach.
    """
    rows = [list(run) for run in runs]
    tables = [[row for row in run if row["kind"] == "step"] for run in rows]
    scores = [
        (row["step"], row["f1_50"])
        for run in rows
        for row in run
        if row["kind"] == "validation" and row.get("f1_50") is not None
    ]
    reached = min(len(table) for table in tables)
    at = [{step: mean_terms(table[max(0, step - WINDOW) : step]) for step in range(1, reached + 1)} for table in tables]
    stages, first = [], 1
    for end in STAGE_ENDS:
        if first > reached:
            break
        last = min(end, reached)
        means = [of_run[step] for of_run in at for step in range(first, last + 1)]
        names = set.intersection(*(set(mean) for mean in means))
        ranges = {
            name: (min(mean[name] for mean in means), max(mean[name] for mean in means)) for name in sorted(names)
        }
        f1 = [value for step, value in scores if first <= step <= last]
        stages.append(Stage(first, last, ranges, (min(f1), max(f1)) if f1 else None))
        first = last + 1
    return tuple(stages)


def save_stages(stages: Sequence[Stage], path: Path, about: str) -> None:
    """Writes stages as JSON.

    Args:
        stages: from :func:`measure_stages`.
        path: the file, replaced.
        about: how they were measured.
    """
    rounded = [
        {
            "first": stage.first,
            "last": stage.last,
            "ranges": {name: [float(f"{end:.4g}") for end in ends] for name, ends in stage.ranges.items()},
            "f1": None if stage.f1 is None else [round(end, 3) for end in stage.f1],
        }
        for stage in stages
    ]
    path.write_text(json.dumps({"about": about, "stages": rounded}, indent=1) + "\n", encoding="utf-8")
