"""Requests to a run while it is trained, from any process."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam3_lora.errors import RunError
from sam3_lora.runs.run import Run
from sam3_lora.train.loop import Training, fit
from sam3_lora.ui.train_job import TrainJob
from tests.train.helpers import request_after, totals, train

ROOT = Path(__file__).resolve().parents[2]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)


def from_another_process(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )


def test_a_run_is_paused_and_continued_by_another_process(config):
    jobs = TrainJob()
    run = jobs.start(config.with_settings({"training.max_steps": 500, "training.epochs": 500}))
    wait_for(lambda: run.status().step > 0)
    ask = "import sys; from pathlib import Path; from sam3_lora.runs.requests import Requests; "
    ask += "Requests(Path(sys.argv[1])).add(sys.argv[2])"
    assert from_another_process(ask, run.folder, "pause").wait() == 0
    wait_for(lambda: run.status().state == "paused")
    step = run.status().step
    assert run.checkpoints() and jobs.current is not None
    with pytest.raises(RunError, match="being trained"):
        run.delete()

    run.requests.add("validate")  # a paused run still carries out one-shot requests
    wait_for(lambda: any(row["kind"] == "validation" and row["step"] == step for row in run.metrics()[0]))
    assert run.status().step == step
    run.requests.add("continue")
    wait_for(lambda: run.status().step > step)
    assert run.status().state == "running"
    run.requests.add("pause")
    wait_for(lambda: run.status().state == "paused")
    run.requests.add("stop")
    assert jobs.wait(timeout=120)
    assert run.status().state == "stopped" and run.resume_obstacle() is None


def test_one_shot_requests_are_done_at_once_and_change_nothing(config, monkeypatch):
    settings = {"training__max_steps": 4, "training__checkpoint_every": 0, "training__keep_checkpoints": 9}
    plain = train(config, **settings)
    request_after(monkeypatch, 1, "validate", "sample", "save")
    run = train(config, **settings)
    assert [row["step"] for row in run.metrics()[0] if row["kind"] == "validation"] == [1, 3, 4]
    assert [sample.step for sample in run.samples()] == [0, 1, 3, 4]
    assert [int(path.stem[5:]) for path in run.checkpoints()] == [4, 3, 1]
    assert not run.requests.pending()
    assert totals(run) == totals(plain)


def test_a_request_stays_until_it_is_carried_out(config, monkeypatch, only_steps):
    seen, original = [], Training.validate

    def evaluate(self):
        seen.append("validate" in self.run.requests.pending())
        return original(self)

    monkeypatch.setattr(Training, "validate", evaluate)
    request_after(monkeypatch, 1, "validate")
    run = train(config)
    assert seen[0] and not run.requests.pending()


def test_a_discarded_run_is_gone(config, monkeypatch):
    run = Run.create(config)
    request_after(monkeypatch, 2, "discard")
    assert fit(run).state == "stopped"
    assert not run.folder.exists()
    assert not list(run.folder.parent.iterdir())


def test_a_stop_requested_before_the_first_step_is_heard(config):
    run = Run.create(config)
    run.requests.add("stop")
    assert fit(run).state == "stopped"
    assert run.status().step == 0
    assert run.resume_obstacle() is None


def test_an_unknown_request_is_refused(tmp_path):
    with pytest.raises(RunError, match="Unknown request 'dance'"):
        Run(tmp_path).requests.add("dance")
    assert Run(tmp_path).requests.pending() == frozenset()


HOLD = """
import sys
from pathlib import Path
from sam3_lora.runs.run import Run
with Run(Path(sys.argv[1])).writing() as writer:
    writer.update(force=True, state="running", step=7)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_write_one_run(config, monkeypatch):
    run = Run.create(config)
    holder = from_another_process(HOLD, run.folder)
    try:
        assert holder.stdout.readline().strip() == b"held"
        before = (run.folder / "status.json").read_bytes()
        with pytest.raises(RunError, match="already being trained by another process"):
            fit(run)
        assert (run.folder / "status.json").read_bytes() == before
        assert not (run.folder / "metrics.jsonl").read_bytes()

        jobs = TrainJob()
        monkeypatch.setattr(Run, "require_resumable", lambda run: None)  # as if the other had begun a moment later
        jobs.resume(run)
        assert jobs.wait(timeout=120)
        name, message = jobs.problem
        assert name == run.name and "already being trained" in message
        assert run.status().state == "running"
    finally:
        holder.kill()
        holder.wait()
    assert run.status().state == "crashed"
