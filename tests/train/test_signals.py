"""Signals to a run in a terminal or on a cluster: after one it saves and ends, after two it ends at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam3_lora.runs.run import Run, list_runs

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs groups of processes")


def signalled(config, tmp_path, signals, **settings) -> tuple[Run, int, str]:
    """The run of a command that got these signals after its second step, its exit code and what it printed last."""
    file = tmp_path / "config.yaml"
    endless = {"training.max_steps": 100_000, "training.epochs": 10_000}
    file.write_text(config.with_settings({**endless, **settings}).to_yaml())
    command = subprocess.Popen(
        [sys.executable, "-m", "sam3_lora", "train", str(file)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not (runs := list_runs(config.output.runs_folder)) or runs[0].status().step < 2:
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        for number in signals:
            os.killpg(command.pid, number)
            time.sleep(0.02)
        output, _ = command.communicate(timeout=240)
    finally:
        if command.poll() is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    return runs[0], command.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_group_that_is_signalled_saves_first(config, tmp_path, number):
    run, code, output = signalled(config, tmp_path, [number], **{"data.num_workers": 1})
    assert code == 0, output
    assert run.status().state == "stopped"
    assert run.checkpoints() and run.status().reload_proof == "ok"


def test_signalled_twice_it_ends_at_once_without_a_traceback(config, tmp_path):
    settings = {"training.checkpoint_every": 0, "training.batch_size": 6, "lora.rank": 64}
    run, code, output = signalled(config, tmp_path, [signal.SIGINT, signal.SIGINT], **settings)
    assert code == 130 and "Aborted without saving" in output, (code, output)
    assert run.status().state == "stopped" and "without saving" in run.status().message
    assert "Traceback" not in output + run.log_tail()


KEPT_LOADER = """
import builtins
from torch.utils.data import DataLoader
from sam3_lora.data.loading import leave_process_group, signals_blocked

if __name__ == "__main__":
    loader = DataLoader(
        range(8),
        num_workers=2,
        multiprocessing_context="spawn",
        worker_init_fn=leave_process_group,
        persistent_workers=True,
    )
    with signals_blocked():
        builtins.kept = iter(loader)
    print(next(builtins.kept).item())
"""


def test_workers_end_with_a_process_that_still_holds_their_loader(tmp_path):
    script = tmp_path / "kept_loader.py"
    script.write_text(KEPT_LOADER)
    ended = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "0\n"), ended.stderr
