"""A run that is trained by a process of its own: started, watched, stopped and resumed like one in a thread."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam3_lora.errors import RunError
from sam3_lora.runs import launch as launch_module
from sam3_lora.runs.launch import MAX_OUTPUT_BYTES, launch, process_output
from sam3_lora.runs.run import Run
from sam3_lora.ui.train_job import TrainJob
from tests.train.helpers import totals, train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Makes a script of the shell what is started instead of Python."""

    def be(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    if os.name == "nt":
        pytest.skip("needs a shell")
    return be


def wait_for(condition, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)


@pytest.mark.slow  # the browser test of a killed app starts one, too
def test_a_run_of_its_own_process_loses_nothing_by_being_stopped_and_told_to_end(config):
    config = config.with_settings({"training.max_steps": 80, "training.epochs": 500, "training.batch_size": 1})
    job = TrainJob()
    run = job.start(config, outlives_app=True)
    assert run.status().state == "preparing" and job.current.folder == run.folder
    for another in (lambda: job.start(config), lambda: TrainJob().resume(run), lambda: launch(run)):
        with pytest.raises(RunError):
            another()
    run.requests.add("pause")  # while it still imports
    wait_for(lambda: run.status().state == "paused")
    status = run.status()
    assert status.launched and status.pid != os.getpid()
    run.requests.add("continue")
    wait_for(lambda: run.status().step > 2)
    run.requests.add("stop")
    wait_for(lambda: job.current is None)
    assert (run.status().state, run.status().interrupted, run.status().reload_proof) == ("stopped", False, "ok")

    job.resume(run, outlives_app=True)
    assert run.status().state == "preparing"
    wait_for(lambda: run.status().step > status.step + 4)
    os.kill(run.status().pid, signal.SIGTERM)  # as when the machine is shut down
    wait_for(lambda: job.current is None)
    ended = run.status()
    assert (ended.state, ended.interrupted, ended.launched) == ("stopped", True, True)
    assert int(run.checkpoints()[0].stem.removeprefix("step-")) == ended.step < 80

    job.resume(run)
    assert job.wait(200) and run.status().state == "finished" and not run.status().launched
    assert totals(run) == totals(train(config))


def test_a_process_that_dies_before_it_begins_says_why(config, command):
    command('echo "no such library" >&2; exit 3')
    run = Run.create(config)
    launch(run)
    wait_for(lambda: run.status().state == "failed")
    assert "code 3" in run.status().message and "no such library" in run.status().message
    assert "no such library" in run.log_tail() and process_output(run) == "no such library"
    assert not run.is_starting()


def test_a_process_that_starts_is_prepared_for_and_never_started_twice(config, command):
    command('trap "exit 0" TERM; while true; do sleep 0.1; done')
    started, original = [], subprocess.Popen

    def note(*args, **options):
        started.append(original(*args, **options))
        return started[-1]

    run, job = Run.create(config), TrainJob()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch_module.subprocess, "Popen", note)
        launch(run)
        for again in (lambda: launch(Run(run.folder)), lambda: TrainJob().resume(Run(run.folder), outlives_app=True)):
            with pytest.raises(RunError):
                again()
    try:
        assert len(started) == 1
        job.take_up(run)
        assert (run.status().state, job.current) == ("preparing", run)
        assert os.getsid(started[0].pid) == started[0].pid, "neither Ctrl-C nor the terminal's end reaches it"
    finally:
        started[0].terminate()
    wait_for(lambda: run.status().state == "failed")
    assert job.current is None


CHATTER = """
import os, sys, time
from sam3_lora.runs import launch
launch._TRIM_S = 0.01
launch.keep_output_short()
for number in range(3000):
    os.write(2, b"x" * 1000 + b"\\n")
    time.sleep(0.0005)
time.sleep(0.5)
os.write(2, b"the last words\\n")
"""


def test_the_output_that_is_kept_is_bounded_and_holds_what_came_last(config):
    run = Run.create(config)
    with (run.folder / launch_module.OUTPUT_FILE).open("wb") as output:
        subprocess.run([sys.executable, "-c", CHATTER], cwd=ROOT, stdout=output, stderr=output, check=True, timeout=100)
    assert (run.folder / launch_module.OUTPUT_FILE).stat().st_size < 2 * MAX_OUTPUT_BYTES < 3_000_000
    assert process_output(run).endswith("the last words") and "\0" not in process_output(run)
