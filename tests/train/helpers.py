"""Runs a training in a test, and reads the metrics that it wrote."""

from __future__ import annotations

from typing import Any

import pytest

from sam3_lora.config import RunConfig
from sam3_lora.runs.run import Run, effective_rows
from sam3_lora.train.loop import Training, fit


def train(config: RunConfig, **settings: Any) -> Run:
    """A finished run; settings: dotted names with __ for the dot."""
    run = Run.create(config.with_settings({name.replace("__", "."): value for name, value in settings.items()}))
    fit(run)
    return run


def steps(run: Run) -> list[dict[str, Any]]:
    """The rows of the steps that count."""
    return [row for row in effective_rows(run.metrics()[0]) if row["kind"] == "step"]


def totals(run: Run) -> list[float]:
    return [row["total"] for row in steps(run)]


def request_after(patch: pytest.MonkeyPatch, step: int, *requests: str) -> None:
    """Leaves requests in the run's folder as soon as a step is done."""
    original = Training.step

    def step_then_request(self: Training, group: list) -> None:
        original(self, group)
        if self.progress.step == step:
            for request in requests:
                self.run.requests.add(request)

    patch.setattr(Training, "step", step_then_request)
