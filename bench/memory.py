"""Whether memory grows while a run trains and its page is open: memory at the end over memory after 500 steps.

    python bench/memory.py [--steps 5000] [--set data.path=...]

Starts a run on the demo from the command line (batches of one image, a checkpoint every 100 steps, the default
evaluations) and the app, and keeps the run's page open in a real browser. Every 30 s the private memory of both
processes is measured, without shared libraries and files. A line of the output gives seconds, step, MiB of the
training process, MiB of the app's process, MiB of the page's JavaScript heap. Before and after are medians: of the
readings from step 500 on, and of as many at the end. Exits with 1 if a process needs more than 1.1 times as much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from sam3_lora.runs.run import Run, list_runs
from tests.e2e.browser import ROOT, chromium, failures, open_page, running_app, tab

PROMISE = 1.1
BEFORE = 500  # steps
READINGS = 5  # a median over so many
_HEAP = "() => { window.gc?.(); return performance.memory.usedJSHeapSize; }"

Reading = tuple[float, int, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--every", type=float, default=30, help="seconds between two readings")
    parser.add_argument("--set", action="append", default=[], help="a further setting of the run")
    arguments = parser.parse_args()

    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder)) as app,
        chromium() as browser,
        tab(browser) as (page, errors),
    ):
        trainer = _train(Path(folder), arguments.steps, arguments.set)
        try:
            run = _await_run(app.runs, trainer)
            open_page(page, app, "train", run=run.name)
            page.wait_for_selector(".sam3-live-chart .main-svg", timeout=600_000)
            readings = _watch(run, trainer, _server_of(app.url), page, arguments.every)
            problems = errors + failures(page)
        finally:
            trainer.terminate()
            trainer.wait()
        status = run.status()
    if status.state != "finished" or problems:
        sys.exit(f"The run is {status.state} ({status.message or 'no message'}); the page says {problems}.")
    sys.exit(not _report(readings))


def _train(folder: Path, steps: int, settings: list[str]) -> subprocess.Popen:
    """Starts the run in its own process; it ends after the steps."""
    config = subprocess.run([sys.executable, "-m", "sam3_lora", "config"], cwd=ROOT, capture_output=True, check=True)
    (folder / "config.yaml").write_bytes(config.stdout)
    settings = [
        f"output.runs={folder / 'runs'}",
        f"training.max_steps={steps}",
        "training.epochs=10000",
        "training.batch_size=1",
        "training.checkpoint_every=100",
        *settings,
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "sam3_lora", "train", str(folder / "config.yaml"), "--json", *options]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _await_run(runs: Path, trainer: subprocess.Popen) -> Run:
    while trainer.poll() is None:
        if found := list_runs(runs):
            return found[0]
        time.sleep(0.5)
    sys.exit("The run did not start.")


def _server_of(url: str) -> psutil.Process:
    """The app's process: the one that listens on its port."""
    port = int(url.rpartition(":")[2])
    for child in psutil.Process().children(recursive=True):
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in child.net_connections()):
            return child
    raise AssertionError(f"nothing listens on port {port}")


def _watch(run: Run, trainer: subprocess.Popen, server: psutil.Process, page, every: float) -> list[Reading]:
    """Readings until the training process has ended, except those after the model is released."""
    readings: list[Reading] = []
    training, began = psutil.Process(trainer.pid), time.monotonic()
    while trainer.poll() is None:
        status = run.status()
        if status.state == "running" and status.step > 0:
            heap = page.evaluate(_HEAP)
            reading = (time.monotonic() - began, status.step, _private(training), _private(server), heap / 2**20)
            readings.append(reading)
            print("{:7.0f} s  step {:6d}  training {:7.1f}  app {:7.1f}  page {:6.1f} MiB".format(*reading), flush=True)
        page.wait_for_timeout(every * 1000)
    return readings


def _private(process: psutil.Process) -> float:
    """Private memory of a process in MiB (unique set size)."""
    return process.memory_full_info().uss / 2**20


def _report(readings: list[Reading]) -> bool:
    """Prints the ratios and returns whether they are within the limit."""
    after = [reading for reading in readings if reading[1] >= BEFORE]
    if len(after) < 2 * READINGS:
        sys.exit(f"Only {len(after)} readings after step {BEFORE}: use more steps, or read more often.")
    kept = True
    for name, column in (("training", 2), ("app", 3), ("page", 4)):
        first, last = (statistics.median(r[column] for r in part) for part in (after[:READINGS], after[-READINGS:]))
        promised = name != "page"  # its heap is cleaned up when the browser pleases
        kept = kept and (not promised or last / first <= PROMISE)
        print(f"{name:9} {first:7.1f} MiB at step {BEFORE}  {last:7.1f} MiB at the end  ratio {last / first:.3f}")
    print(f"promise: training and app at most {PROMISE:g}")
    return kept


if __name__ == "__main__":
    main()
