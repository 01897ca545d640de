"""One life of a training process; a fork server imports this once, so that a life costs no start-up."""

from __future__ import annotations

import accelerate  # noqa: F401  heavy imports, made once
import peft  # noqa: F401
import torch
from transformers import Sam3Model, Sam3Processor  # noqa: F401

from sam3_lora.train.loop import fit
from sam3_lora.train.run import Run


def live(folder: str, resume: bool) -> None:
    torch.set_num_threads(1)
    fit(Run.open(folder), resume=resume)
