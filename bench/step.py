"""Time of a training step of fit(), compared with only forward + loss + backward on the same batches.

    python bench/step.py [--steps 96] [--block 8] [--batch-size 2] [--workers 0] [--watched]

The time of fit() includes loading and resizing images, moving tensors, clipping, the optimizer, metrics, status,
requests, each component's gradient every 20 steps and a checkpoint every 100. The end of an epoch (samples, a
checkpoint) affects the sums, but not the median. Every block of steps is followed at once by the bare computation on
the same batches, so that a machine that slows down slows both.
--watched: the app runs, too, with the run's page open in a browser.
Prints the ratio and exits with 1 if it is above 1.05.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from sam3_lora.config import RunConfig
from sam3_lora.runs.run import Run
from sam3_lora.train import loop

PROMISE = 1.05


class Blocks:
    """Replaces the loop's step: the same step, and after each block of them the bare computation."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._step = loop.take_step
        self._batches: list = []
        self._began: float | None = None
        self.whole: list[float] = []  # seconds of each block of fit()
        self.bare: list[float] = []

    def __call__(self, setup, group, **options):
        outcome = self._step(setup, group, **options)
        self._batches += group
        if len(self._batches) == self._size:
            now = time.perf_counter()
            if self._began is not None:  # the first block warms up
                self.whole.append(now - self._began)
            seconds = self._compute(setup)
            if self._began is not None:
                self.bare.append(seconds)
            self._batches = []
            self._began = time.perf_counter()
        return outcome

    def _compute(self, setup) -> float:
        began = time.perf_counter()
        for batch in self._batches:
            batch = batch.to(setup.accelerator.device)
            setup.objective(batch)[1].total.backward()
        seconds = time.perf_counter() - began
        setup.optimizer.zero_grad()
        return seconds


def watch(run: Run, folder: Path, stack: ExitStack) -> None:
    """Opens the run's page in a browser until the stack is closed; the page updates itself."""
    from tests.e2e.browser import chromium, open_page, running_app, tab

    app = stack.enter_context(running_app(folder))
    page, _ = stack.enter_context(tab(stack.enter_context(chromium())))
    open_page(page, app, "train", run=run.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--block", type=int, default=8, help="steps between two measurements")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    parser.add_argument("--watched", action="store_true", help="with the run's page open in a browser")
    arguments = parser.parse_args()

    blocks = Blocks(arguments.block)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(mock.patch.object(loop, "take_step", blocks))
        settings = {
            "training.max_steps": arguments.steps,
            "training.epochs": 1000,
            "training.batch_size": arguments.batch_size,
            "data.num_workers": arguments.workers,
            "data.valid_split": "",  # validation is not part of a step
            "replay.source": "none",  # nor are the images that a step replays
            "output.runs": str(Path(folder) / "runs"),
        }
        run = Run.create(RunConfig().with_settings(settings))
        if arguments.watched:
            watch(run, Path(folder), stack)
        loop.fit(run)

    ratios = [whole / bare for whole, bare in zip(blocks.whole, blocks.bare, strict=True)]
    steps = len(ratios) * arguments.block
    print(f"fit():                     {sum(blocks.whole) / steps * 1e3:8.1f} ms per step")
    print(f"forward + loss + backward: {sum(blocks.bare) / steps * 1e3:8.1f} ms per step")
    print(f"ratio, median of {len(ratios)} blocks: {statistics.median(ratios):.3f} (promise: at most {PROMISE})")
    print(f"ratio of the sums:         {sum(blocks.whole) / sum(blocks.bare):.3f}")
    sys.exit(statistics.median(ratios) > PROMISE)


if __name__ == "__main__":
    main()
