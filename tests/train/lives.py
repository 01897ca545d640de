"""One life of a training process; a fork server imports this once, so that a life costs no start-up."""

from __future__ import annotations

import os
import signal
import threading

import accelerate  # noqa: F401  heavy imports, made once
import peft  # noqa: F401
import torch
from transformers import Sam3Model, Sam3Processor  # noqa: F401

from sam3_lora.runs.run import Run
from sam3_lora.train.loop import Training, fit


def live(folder: str, resume: bool, last_step: int | None = None, delay: float = 0.0) -> None:
    """Trains until a moment (delay, in seconds) after a step, and is killed there; to the end without one."""
    torch.set_num_threads(1)
    original = Training.step

    def step(self: Training, group: list) -> None:
        original(self, group)
        if self.progress.step == last_step:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    Training.step = step
    fit(Run.open(folder), resume=resume)
