"""What can be told about a configuration before a step is run: problems with the settings, the data and the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sam3_lora.config import RunConfig
from sam3_lora.data.records import Dataset, Split
from sam3_lora.errors import Sam3LoraError
from sam3_lora.train.setup import Length, plan

HIGH_RATE = 5e-3  # beyond it, LoRA on SAM 3 diverges as a rule
FEW_IMAGES = 10
# A checkpoint holds the adapter and two numbers of the optimizer for each of its own; an adapter is saved twice.
_COPIES_PER_CHECKPOINT, _SAVED_ADAPTERS = 3, 2


@dataclass(frozen=True)
class Problem:
    """Something to know before the start. An "error" keeps the run from starting or from learning."""

    severity: Literal["error", "warning"]
    message: str
    fix: str

    @classmethod
    def of(cls, error: Sam3LoraError) -> Problem:
        return cls("error", f"{error.message}.", f"{error.fix}.")


def check_data(config: RunConfig, dataset: Dataset) -> Iterator[Problem]:
    """Problems with the dataset and how it is used."""
    data, training = config.data, config.training
    for finding in dataset.findings:
        if finding.severity == "error" and finding.split in (None, "", data.train_split, data.valid_split):
            yield Problem("warning", f"Dataset: {finding.message.rstrip('.')}.", f"{finding.fix.rstrip('.')}.")
    train = dataset.splits.get(data.train_split)
    if train is None:
        return  # making the run ready says so
    images = len(train.present().images)
    if 0 < images < FEW_IMAGES:
        yield Problem(
            "warning",
            f"There are only {images} images to learn from: the adapter will learn them by heart.",
            "Add images, or take few epochs and a low rank.",
        )
    if training.batch_size > images > 0:
        yield Problem(
            "warning",
            f"training.batch_size is {training.batch_size}, but there are only {images} images.",
            f"Set it to {images} or less.",
        )
    if data.num_negatives == 0:
        yield Problem(
            "warning",
            "No image is asked for anything that is not there, so the adapter will fire on every word.",
            "Set data.num_negatives to 3 or more.",
        )
    yield from _check_validation(config, train)


def _check_validation(config: RunConfig, train: Split) -> Iterator[Problem]:
    if not config.data.valid_split:
        yield Problem(
            "warning",
            "Without a validation split nobody sees whether the adapter learns or memorises, and none is kept as best.",
            "Set data.valid_split.",
        )
        if config.training.patience:
            yield Problem("error", "training.patience needs a validation loss to wait for.", "Set data.valid_split.")
    elif config.data.valid_split == train.name:
        yield Problem(
            "warning",
            f"The run is measured on '{train.name}', the very images it learns from.",
            "Set data.valid_split to another split.",
        )


def check_settings(config: RunConfig, length: Length, device: str) -> Iterator[Problem]:
    """Settings that are allowed, but rarely meant."""
    training = config.training
    if training.learning_rate > HIGH_RATE:
        yield Problem(
            "warning",
            f"A learning rate of {training.learning_rate:g} is so high that the loss will most likely run away.",
            "Set training.learning_rate to 5e-4 or less.",
        )
    if length.total_steps < length.steps_per_epoch:
        yield Problem(
            "warning",
            f"The run ends after {length.total_steps} steps, before it has seen every image once "
            f"({length.steps_per_epoch} steps).",
            "Raise training.max_steps, or leave it empty.",
        )
    if length.warmup_steps < training.warmup_steps:
        yield Problem(
            "warning",
            f"The warm-up of {training.warmup_steps} steps is shortened to {length.warmup_steps}, half of the run.",
            "Lower training.warmup_steps, or train longer.",
        )
    if "text_encoder" in config.lora.components:
        yield Problem(
            "warning",
            "The text encoder is adapted too: with a few hundred phrases SAM 3 forgets its other words.",
            "Take it out of lora.components.",
        )
    if training.precision == "fp32" and device.startswith("cuda"):
        yield Problem(
            "warning",
            "fp32 needs about twice the memory and time of bf16 on this GPU.",
            "Set training.precision to bf16.",
        )


def check_disk(config: RunConfig, parameters: int) -> Iterator[Problem]:
    """Whether the checkpoints and adapters fit onto the disk, one checkpoint being written beside those kept."""
    checkpoints = (config.training.keep_checkpoints + 1) * _COPIES_PER_CHECKPOINT
    needed = 4 * parameters * (checkpoints + _SAVED_ADAPTERS + 1)
    folder = Path(config.output.runs).expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        yield Problem(
            "error",
            f"The run needs {needed / 1e9:.2g} GB in {config.output.runs}, but {free / 1e9:.2g} GB are free there.",
            "Free some space, choose another folder in output.runs, or lower training.keep_checkpoints.",
        )


def planned_length(config: RunConfig, dataset: Dataset, processes: int = 1) -> Length | None:
    """How long the run would be; None without images."""
    train = dataset.splits.get(config.data.train_split)
    images = len(train.present().images) if train else 0
    return plan(config.training, images, processes) if images else None
