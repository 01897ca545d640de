"""One life of a training process; a fork server imports this once, so that a life costs no start-up."""

from __future__ import annotations

import os
import signal
import threading
from typing import Literal

import accelerate  # noqa: F401  heavy imports, made once
import peft  # noqa: F401
import psutil
import torch
from transformers import Sam3Model, Sam3Processor  # noqa: F401

from sam3_lora.runs.run import Run
from sam3_lora.train.loop import Training, fit
from sam3_lora.ui.train_job import TrainJob


def live(
    folder: str,
    resume: bool,
    last_step: int | None = None,
    delay: float = 0.0,
    *,
    victim: Literal["process", "workers"] = "process",
    in_app: bool = False,
) -> None:
    """Trains until a moment (delay, in seconds) after a step, and is killed there; to the end without one.

    Args:
        folder: of the run.
        resume: from its checkpoint; in the app always.
        last_step: after which the moment is.
        delay: in seconds.
        victim: what is killed: this process, or those that load its images.
        in_app: trains in a thread, as the app does.
    """
    torch.set_num_threads(1)
    original = Training.step

    def kill() -> None:
        for process in (psutil.Process(),) if victim == "process" else workers_of(os.getpid()):
            process.send_signal(signal.SIGKILL)

    def step(self: Training, group: list) -> None:
        original(self, group)
        if self.progress.step == last_step:
            threading.Timer(delay, kill).start()

    Training.step = step
    if in_app:
        job = TrainJob()
        job.resume(Run.open(folder))
        job.wait()
    else:
        fit(Run.open(folder), resume=resume)


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes that load images for one that trains. It has another, which looks after semaphores."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in part for part in child.cmdline())]
