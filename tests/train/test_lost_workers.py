"""Processes that load images and the one that trains: whichever is killed, at whatever moment, the others end."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing import resource_tracker, spawn
from pathlib import Path

import psutil
import pytest

from sam3_lora.data.loading import batches_of, make_loader
from sam3_lora.errors import TrainingError
from sam3_lora.runs.run import Run
from tests.train.helpers import totals, train
from tests.train.lives import live, workers_of

END_S = 5  # after which none may be left; more than a busy machine needs

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.005)
    return found


def assert_gone(workers):
    _, alive = psutil.wait_procs(workers, timeout=END_S)
    for orphan in alive:
        orphan.kill()
    assert not alive, "processes outlive the one that trains"


class SlowToArrive:
    """A dataset whose first reading takes a worker some time, as imports do."""

    def __init__(self, started: Path) -> None:
        self.started = started

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> int:
        return number

    def __setstate__(self, values: dict) -> None:
        self.__dict__.update(values)
        self.started.write_text(str(os.getpid()))
        time.sleep(1)


def load_slowly(started: Path) -> None:
    for _ in batches_of(make_loader(SlowToArrive(started), list, 1, 0)):
        pass


def test_a_worker_that_is_still_starting_ends_with_the_process_that_is_killed(processes, tmp_path):
    started = tmp_path / "started"
    process = processes.Process(target=load_slowly, args=(started,))
    process.start()
    wait_for(lambda: started.exists() and started.read_text())
    workers = workers_of(process.pid)
    assert [worker.pid for worker in workers] == [int(started.read_text())]
    process.kill()
    process.join()
    assert_gone(workers)


def test_a_worker_that_ends_before_it_has_read_its_data_is_an_error(monkeypatch):
    """As one does that meets the error of a script without a main guard: more than a pipe holds is never read."""
    resource_tracker.ensure_running()
    monkeypatch.setattr(spawn, "_python_exe", b"/bin/false")
    with pytest.raises(TrainingError, match="ended while it was started"):
        batches_of(make_loader([bytes(1_000_000)] * 2, list, 1, 0))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_whose_workers_or_process_are_killed_loses_nothing(config, processes, only_steps):
    settings = {"training.max_steps": 12, "training.checkpoint_every": 1, "training.batch_size": 1}
    settings |= {"data.valid_split": "", "output.sample_images": []}
    config = config.with_settings(settings)
    whole = train(config, data__num_workers=0)
    run = Run.create(config.with_settings({"data.num_workers": 1}))
    chance, reached = random.Random(0), 0
    for life, victim in enumerate(("workers", "process", None)):
        end = () if victim is None else (reached + chance.randint(1, 3), chance.uniform(0, 0.08))
        process = processes.Process(
            target=live, args=(str(run.folder), life > 0, *end), kwargs={"victim": victim or "process"}
        )
        process.start()
        workers = set()
        while process.is_alive():
            with suppress(psutil.NoSuchProcess):
                workers.update(workers_of(process.pid))
            time.sleep(0.3)  # less than it takes a worker to start
        process.join()
        assert workers or victim is None
        assert_gone(workers)
        if victim is not None:
            state = ("failed", 1) if victim == "workers" else ("crashed", -signal.SIGKILL)
            assert (run.status().state, process.exitcode) == state, run.log_tail()
            assert victim == "process" or "loads images has ended" in run.status().message
            assert run.resume_obstacle() is None
            reached = int(run.checkpoints()[0].stem.removeprefix("step-"))
        if victim == "process":
            run._write_config(config.with_settings({"data.num_workers": 0}))  # a worker takes seconds to start
    assert run.status().state == "finished", run.log_tail()
    assert totals(run) == totals(whole)
    adapter, expected = (each.adapters()["last"] / "adapter_model.safetensors" for each in (run, whole))
    assert adapter.read_bytes() == expected.read_bytes()
