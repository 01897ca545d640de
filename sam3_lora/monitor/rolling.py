"""The metrics of a growing run in bounded memory: the last steps whole, older ones without their terms.

A run of a hundred thousand steps has gigabytes of rows; alerts and verdicts are the same as those of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

from sam3_lora.config import RunConfig
from sam3_lora.monitor.diagnosis import Alert, diagnose
from sam3_lora.monitor.healthy_ranges import Verdict, verdicts
from sam3_lora.runs.metrics import Row

WHOLE = 300  # last steps that stay as they are: more than any check needs
MAX_STEPS = 20_000  # beyond, every other one of the older steps is dropped
_KEPT = frozenset(
    ("kind", "step", "epoch", "total", "lr", "grad_norm", "grad_norm_by_component", "objects", "phrases", "negatives")
)
# The first is an alert, the second is read from its file.
_SHOWN_ELSEWHERE = ("not-finite", "held-out")
_NO_TERMS: dict[str, float] = {}


class RollingMetrics:
    """The rows of one run, without those that a resume superseded."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._slim = 0  # rows before this one are slim already

    def extend(self, rows: Iterable[Row]) -> None:
        """Adds new rows; one of kind "resume" removes those after its step."""
        for row in rows:
            if row["kind"] == "resume":
                self._rows = [earlier for earlier in self._rows if earlier["step"] <= row["step"]]
                self._slim = min(self._slim, len(self._rows))
            else:
                self._rows.append(row)
        for index in range(self._slim, len(self._rows) - WHOLE):
            self._rows[index] = _slimmed(self._rows[index])
            self._slim = index + 1
        if len(self._rows) > MAX_STEPS:
            self._thin()

    def notes(self) -> list[str]:
        """What users should know of the run, besides alerts and its validation images: the latest note of each kind."""
        notes = {row.get("about", ""): row.get("message", "") for row in self._rows if row["kind"] == "note"}
        return [message for about, message in notes.items() if about not in _SHOWN_ELSEWHERE and message]

    def verdicts(self, config: RunConfig) -> dict[str, Verdict]:
        """See :func:`sam3_lora.monitor.healthy_ranges.verdicts`."""
        return verdicts(config, self._rows[-WHOLE:])

    def alerts(self, config: RunConfig) -> list[Alert]:
        """See :func:`sam3_lora.monitor.diagnosis.diagnose`."""
        return diagnose(self._rows, config)

    def _thin(self) -> None:
        """Drops every other slim step, but no rare rows, and not the first ones."""
        rare = [index < WHOLE or row["kind"] != "step" or row["terms"] for index, row in enumerate(self._rows)]
        self._rows = [row for index, row in enumerate(self._rows) if rare[index] or index >= self._slim or index % 2]
        self._slim = max(0, len(self._rows) - WHOLE)


def _slimmed(row: Row) -> Row:
    """A finite step without its terms; other rows as they are."""
    if row["kind"] != "step" or not all(map(math.isfinite, (row["total"], *row["terms"].values()))):
        return row
    kept = cast(Row, {name: value for name, value in row.items() if name in _KEPT})
    kept["terms"] = kept["raw"] = _NO_TERMS  # one object for all of them
    return kept
