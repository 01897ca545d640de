"""Speed and remaining time of a run, from its recent steps; and times in words."""

from __future__ import annotations

import time


class Clock:
    """Measures steps; what lies between :meth:`forget` and the step before does not count as speed."""

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._last = time.perf_counter()
        self._seconds_per_step: float | None = None

    def forget(self) -> None:
        """Begins to measure anew: evaluations, checkpoints and pauses are no training."""
        self._last = time.perf_counter()

    def tick(self, step: int, images: int) -> dict[str, float]:
        """Ends a step of so many images; returns images_per_second and eta_seconds, smoothed."""
        now = time.perf_counter()
        seconds = now - self._last
        self._last = now
        previous = self._seconds_per_step
        self._seconds_per_step = seconds if previous is None else 0.9 * previous + 0.1 * seconds
        return {
            "images_per_second": images / self._seconds_per_step,
            "eta_seconds": (self._total_steps - step) * self._seconds_per_step,
        }
