"""A training process that is killed at any moment loses nothing but the steps since its last checkpoint."""

import multiprocessing
import random
import signal
import time

import pytest
from safetensors.torch import load_file

from sam3_lora.train.run import Run, effective_rows
from tests.train.lives import live

KILLS, STEPS = 10, 26

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.lives"])
    return context


def steps(run):
    return [row for row in effective_rows(run.metrics()[0]) if row["kind"] == "step"]


def kill_after(process, run, step, delay):
    """Kills the process a moment after it has told of a step."""
    deadline = time.monotonic() + 120
    while run.status().step < step or not run.checkpoints():
        assert process.is_alive() and time.monotonic() < deadline, run.log_tail()
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.join()


def test_a_run_killed_ten_times_has_the_losses_of_one_that_never_was(config, processes):
    settings = {"training.max_steps": STEPS, "training.checkpoint_every": 2, "training.batch_size": 1}
    whole, killed = (Run.create(config.with_settings(settings)) for _ in range(2))
    chance, at = random.Random(0), 0
    for life in range(KILLS):
        process = processes.Process(target=live, args=(str(killed.folder), life > 0))
        process.start()
        at += chance.choice((1, 2, 3)) if life else 2
        # Steps, checkpoints, evaluations and adapters being saved: a delay lands in any of them.
        kill_after(process, killed, at, delay=chance.uniform(0, 0.3))
        assert killed.status().state == "crashed"
        assert killed.can_resume()
        for adapter in killed.adapters().values():
            assert load_file(adapter / "adapter_model.safetensors")
        at = max(at, int(killed.checkpoints()[0].stem.removeprefix("step-")))
    for run, resume in ((killed, True), (whole, False)):
        process = processes.Process(target=live, args=(str(run.folder), resume))
        process.start()
        process.join(200)
        assert run.status().state == "finished", run.log_tail()
    assert [row["step"] for row in steps(killed)] == list(range(1, STEPS + 1))
    assert [row["total"] for row in steps(killed)] == pytest.approx([row["total"] for row in steps(whole)], rel=1e-6)
    assert killed.status().best_validation_loss == pytest.approx(whole.status().best_validation_loss, rel=1e-6)
    assert sum(row["kind"] == "resume" for row in killed.metrics()[0]) == KILLS
