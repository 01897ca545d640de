"""Memory of the app while people use it: three browser tabs, five datasets, three adapters, and a run that trains.

    python bench/app_memory.py [--minutes 60] [--photos 240] [--objects] [--json]

Starts the app with runs and caches of its own and works in it in a real browser, the same way in every round: opens
five datasets (one of them large photographs), pages through galleries and images, prompts images and a folder with the
base model and three adapters, evaluates, configures, watches a run that is started again when it has ended, reloads
pages, and closes and opens tabs. Every 10 s it measures the server with its child processes.

Prints the medians of each round, and how much memory (the larger of USS and RSS) has grown after the first ten minutes:
each phase of the work the last time over the first time since then, so that the same work is compared, and the median
of these. Exits with 1 if that is more than 15 %. Open files, threads, folders and the browser's heap are printed, too.
--objects: also what the server holds by kind, counted in its process after each round, or once at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.app_workload import Workload, prepare
from bench.held_objects import install, read_counts
from tests.e2e.browser import chromium, running_app

PROMISE = 1.15
FIRST_MINUTES = 10
EVERY_S = 10
MIB = 2**20


@dataclass
class Sample:
    """One measurement of the server and its children."""

    minute: float
    round: int
    phase: str
    rss: float  # MiB
    uss: float  # MiB
    pss: float  # MiB
    files: int
    threads: int
    processes: int


@dataclass
class Sampler:
    """Measures the server in a thread of its own."""

    server: psutil.Process
    began: float
    round: int = 0
    phase: str = "start"
    samples: list[Sample] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(EVERY_S):
            self.samples.append(self.measure())

    def measure(self) -> Sample:
        """All processes of the server, at this moment."""
        where = (time.monotonic() - self.began) / 60, self.round, self.phase
        totals = [0.0] * 6
        for process in [self.server, *self.server.children(recursive=True)]:
            try:
                memory = process.memory_full_info()
                parts = (memory.rss, memory.uss, memory.pss)
                counts = (process.num_fds(), process.num_threads(), 1)
            except psutil.NoSuchProcess:
                continue  # ended since
            totals = [total + part for total, part in zip(totals, (*parts, *counts), strict=True)]
        rss, uss, pss, files, threads, processes = totals
        return Sample(*where, rss / MIB, uss / MIB, pss / MIB, int(files), int(threads), int(processes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--photos", type=int, default=240, help="photographs of 12 megapixels")
    parser.add_argument("--steps", type=int, default=150, help="of a training run")
    parser.add_argument("--folder", type=Path, help="keeps what is prepared, and takes it from there the next time")
    parser.add_argument("--objects", choices=("end", "rounds"), help="count what the server holds")
    parser.add_argument("--json", action="store_true", help="every sample, as one JSON object")
    arguments = parser.parse_args()
    say = (lambda *words: print(*words, file=sys.stderr, flush=True)) if arguments.json else _say

    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["SAM3_LORA_CACHE"] = str(folder / "cache")
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        say("preparing datasets and adapters")
        material = prepare(folder, arguments.photos, arguments.steps)
        if arguments.objects:
            install(folder)
        app = stack.enter_context(running_app(folder, TMPDIR=str(folder / "tmp")))
        server = psutil.Process(app.server.pid)
        browser = stack.enter_context(chromium())
        sampler = Sampler(server, time.monotonic())
        end = sampler.began + 60 * arguments.minutes
        work = Workload(browser, app, material, sampler, lambda: time.monotonic() > end)
        stack.callback(work.close)
        thread = threading.Thread(target=sampler.run, daemon=True)
        thread.start()
        rounds = []
        while not work.is_over():
            sampler.round += 1
            heaps = work.one_round(sampler.round)
            rounds.append(_summary(sampler, heaps, folder))
            say(_in_words(rounds[-1]))
            if arguments.objects == "rounds":
                sampler.phase = "count"
                rounds[-1]["objects"] = _count(server, folder, say)
        sampler.ended.set()
        thread.join()
        if arguments.objects == "end":
            rounds[-1]["objects"] = _count(server, folder, say)
        log = app.log.read_text(errors="replace")

    result = _verdict(sampler.samples, rounds)
    if arguments.json:
        samples = [vars(sample) for sample in sampler.samples]
        more = {"prompts": work.prompts, "problems": work.problems, "rounds": rounds, "samples": samples}
        print(json.dumps({**result, **more}))
    else:
        _print(result, work.prompts, work.problems)
    if "Traceback" in log:
        say(log[-5000:])
    sys.exit(result["ratio"] > PROMISE)


def _count(server: psutil.Process, folder: Path, say: Callable[..., None]) -> dict[str, Any]:
    counts = read_counts(server, folder)
    say(json.dumps(counts, indent=1))
    return counts


def _say(*words: object) -> None:
    print(*words, flush=True)


def _summary(sampler: Sampler, heaps: dict[str, dict[str, float]], folder: Path) -> dict[str, Any]:
    """Medians over the samples of this round, and its largest memory; the folders and the browser at its end."""
    samples = [sample for sample in sampler.samples if sample.round == sampler.round] or [sampler.measure()]
    names = ("rss", "uss", "pss", "files", "threads", "processes")
    medians = {name: round(statistics.median(getattr(sample, name) for sample in samples), 1) for name in names}
    return {
        "round": sampler.round,
        "from": round(samples[0].minute, 1),
        "to": round(samples[-1].minute, 1),
        **medians,
        "most_rss": round(max(sample.rss for sample in samples), 1),
        "most_uss": round(max(sample.uss for sample in samples), 1),
        "folders": {name: round(_size(folder / name), 1) for name in ("cache", "tmp", "runs")},
        "browser": heaps,
    }


def _size(folder: Path) -> float:
    """MiB of the files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # deleted since
    return total / MIB


def _in_words(one: dict[str, Any]) -> str:
    heaps = ", ".join(
        f"{name} {heap['heap']:.0f} MiB {heap['nodes']:.0f} nodes" for name, heap in one["browser"].items()
    )
    folders = ", ".join(f"{name} {size:.0f}" for name, size in one["folders"].items())
    return (
        f"round {one['round']:2}, minutes {one['from']:4.1f} to {one['to']:4.1f}: RSS {one['rss']:6.0f} USS "
        f"{one['uss']:6.0f} PSS {one['pss']:6.0f} (most RSS {one['most_rss']:.0f}) MiB, {one['files']:.0f} files, "
        f"{one['threads']:.0f} threads; MiB in folders: {folders}; tabs: {heaps}"
    )


def _verdict(samples: list[Sample], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each phase the last time against the first time after the first minutes; the medians over the phases."""
    ratios: dict[str, list[float]] = {"rss": [], "uss": [], "pss": []}
    for phase in {sample.phase for sample in samples}:
        later = [sample for sample in samples if sample.phase == phase and sample.minute >= FIRST_MINUTES]
        first, last = ([one for one in later if one.round == edge(later)] for edge in (_first_round, _last_round))
        if later and first[0].round < last[0].round:
            for name, found in ratios.items():
                found.append(_median(last, name) / _median(first, name))
    if not ratios["rss"]:
        sys.exit(f"Nothing was done twice after {FIRST_MINUTES} minutes: give more --minutes.")
    medians = {name: round(statistics.median(found), 3) for name, found in ratios.items()}
    begin, end = ([one for one in samples if one.round == place["round"]] for place in (rounds[0], rounds[-1]))
    return {
        "ratio": max(medians["rss"], medians["uss"]),
        "ratios": medians,
        "phases": len(ratios["rss"]),
        "most": {name: round(max(found), 3) for name, found in ratios.items()},
        "minutes": samples[-1].minute,
        **{name: [_median(begin, name), _median(end, name)] for name in ("files", "threads")},
        "folders": [rounds[0]["folders"], rounds[-1]["folders"]],
    }


def _median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def _first_round(samples: list[Sample]) -> int:
    return min((sample.round for sample in samples), default=0)


def _last_round(samples: list[Sample]) -> int:
    return max((sample.round for sample in samples), default=0)


def _print(result: dict[str, Any], prompts: int, problems: list[str]) -> None:
    print(f"{prompts} prompts in {result['minutes']:.0f} minutes, {len(problems)} problems")
    for words, name in (("median", "ratios"), ("most", "most")):
        print(f"{words} of {result['phases']} phases: " + ", ".join(f"{k} {v:.3f}" for k, v in result[name].items()))
    for name in ("files", "threads", "folders"):
        print(f"{name}: {result[name][0]} in the first round, {result[name][1]} in the last")
    print(f"memory at the end over that after {FIRST_MINUTES} minutes: {result['ratio']:.3f} (at most {PROMISE})")


if __name__ == "__main__":
    main()
