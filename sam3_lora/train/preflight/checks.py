"""What can be told about a configuration before a step is run: problems with the settings, the data and the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sam3_lora.config import RunConfig
from sam3_lora.data.records import Dataset, Split
from sam3_lora.errors import ConfigError, RunError, Sam3LoraError
from sam3_lora.text import plural
from sam3_lora.train.setup import TrainPlan, plan

HIGH_RATE = 5e-3  # beyond it, LoRA on SAM 3 diverges as a rule
FEW_IMAGES = 10
_MAX_NAMED = 5
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
    present = train.present()
    images = len(present.images)
    if 0 < images < FEW_IMAGES:
        yield Problem(
            "warning",
            f"There are only {images} images to learn from: the adapter will learn them by heart.",
            "Add images, or take few epochs and a low rank.",
        )
    if training.batch_size * training.gradient_accumulation_steps > images > 0:
        yield Problem(
            "warning",
            f"Each step is to learn from {training.batch_size} x {training.gradient_accumulation_steps} images, but "
            f"there are only {images}: an epoch is a single step.",
            "Lower training.batch_size or training.gradient_accumulation_steps.",
        )
    if data.num_negatives == 0:
        some_are_empty = any(not image.annotations for image in present.images)
        asked = "Only images without objects are" if some_are_empty else "No image is"
        yield Problem(
            "warning",
            f"{asked} asked for something that is not there, so the adapter will fire on every word.",
            "Set data.num_negatives to 3 or more.",
        )
    yield from _check_validation(config, train)
    yield from _check_names(config, dataset, train)


def _check_names(config: RunConfig, dataset: Dataset, train: Split) -> Iterator[Problem]:
    """Settings that name images or categories which the dataset does not have."""
    shown = dataset.splits.get(config.data.valid_split, train)
    names = {image.file_name for image in shown.present().images}
    if unknown := [name for name in config.output.sample_images if name not in names]:
        yield Problem(
            "warning",
            f"output.sample_images names images that the split '{shown.name}' does not have: {_first(unknown)}.",
            "Correct the names, or leave the list empty for the first four images with objects.",
        )
    if unknown := [name for name in config.data.category_phrases if name not in dataset.categories]:
        yield Problem(
            "warning",
            f"data.category_phrases names categories that the dataset does not have: {_first(unknown)}.",
            f"The dataset has {_first(dataset.categories)}.",
        )


def _first(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _check_validation(config: RunConfig, train: Split) -> Iterator[Problem]:
    if not config.data.valid_split:
        yield Problem(
            "warning",
            "Without a validation split nobody sees whether the adapter learns or memorises, and none is kept as best.",
            "Set data.valid_split.",
        )
        if error := check_early_stopping(config):
            yield Problem.of(error)
    elif config.data.valid_split == train.name:
        yield Problem(
            "warning",
            f"The run is measured on '{train.name}', the very images it learns from.",
            "Set data.valid_split to another split.",
        )


def check_early_stopping(config: RunConfig) -> ConfigError | None:
    """The error of a run that is to end when its validation loss no longer falls, and has none."""
    if config.training.patience and not config.data.valid_split:
        return ConfigError(
            "training.patience needs a validation loss to wait for", "Set data.valid_split, or training.patience to 0"
        )
    return None


def check_settings(config: RunConfig, length: TrainPlan, device: str) -> Iterator[Problem]:
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
            f"The run ends after {plural(length.total_steps, 'step')}, before it has seen every image once "
            f"({plural(length.steps_per_epoch, 'step')}).",
            "Raise training.max_steps, or leave it empty.",
        )
    if length.warmup_steps < training.warmup_steps:
        yield Problem(
            "warning",
            f"The run has only {plural(length.total_steps, 'step')}, and the warm-up may take half of it: it is "
            f"shortened from {training.warmup_steps:,} to {plural(length.warmup_steps, 'step')}.",
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
    folder = existing_parent(config.output.runs_folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        yield Problem(
            "error",
            f"The run needs {needed / 1e9:.2g} GB in {config.output.runs}, but {free / 1e9:.2g} GB are free there.",
            "Free some space, choose another folder in output.runs, or lower training.keep_checkpoints.",
        )


def existing_parent(folder: Path) -> Path:
    """The folder itself, else the nearest above it that exists. Raises RunError if it can neither be had nor made."""
    folder = folder.absolute()
    try:
        place = next(place for place in (folder, *folder.parents) if _exists(place))
        if not place.is_dir():
            raise NotADirectoryError(0, f"{place} is a file")
        if not os.access(place, os.W_OK):
            raise PermissionError(0, f"{place} is not writable")
    except OSError as error:
        raise RunError(
            f"Expected a writable folder for runs at {folder}, but: {error.strerror or error}",
            "Choose another folder in output.runs",
        ) from None
    return place


def _exists(place: Path) -> bool:
    """Unlike Path.exists, tells of all that keeps a folder from being made there. Raises OSError."""
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):  # the one above says more
        return False
    return True


def planned_length(config: RunConfig, dataset: Dataset, processes: int = 1) -> TrainPlan | None:
    """How long the run would be; None without images."""
    train = dataset.splits.get(config.data.train_split)
    images = len(train.present().images) if train else 0
    return plan(config.training, images, processes) if images else None
