"""What can be checked of a configuration before a step is run: settings, data and disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal

from sam3_lora.config import RunConfig
from sam3_lora.data.doctor.image_probe import probe
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.records import Dataset, Split
from sam3_lora.data.splits.split_use import SplitUse, used_names
from sam3_lora.data.tiles.cut import TiledImages, tiled
from sam3_lora.errors import ConfigError, RunError, Sam3LoraError, explain_os_errors
from sam3_lora.tiles import tiling_of
from sam3_lora.train.optimizer import TrainPlan
from sam3_lora.train.resolve import may_read_vision_cache, reads_vision_cache

if TYPE_CHECKING:
    from sam3_lora.train.splits import Splits

HIGH_LEARNING_RATE = 5e-3  # beyond it, LoRA on SAM 3 diverges as a rule
FEW_IMAGES = 10
_OPENED_AT_ONCE = 32  # images
_UNREADABLE = frozenset(("image-unreadable", "image-heic", "image-truncated"))  # findings
# A checkpoint holds the adapter and two numbers of the optimizer for each of its own; an adapter is saved twice.
_COPIES_PER_CHECKPOINT, _SAVED_ADAPTERS = 3, 2

ProblemKind = Literal[
    "error",  # cause: raised by the part that the run would have failed in
    "dataset",  # cause: a finding
    "few-images",  # value: images
    "step-exceeds-dataset",  # value: images per step, limit: images
    "no-negatives",  # value: images without objects, which get a negative phrase nevertheless
    "objects-in-no-tile",  # value: how many, limit: of all
    "no-masks",  # value: objects, which are all boxes; changes: settings without the mask decoder
    "no-validation",  # splits: which may say why
    "held-out-alike",
    "validation-is-training",  # names: the split
    "validation-without-objects",  # names: the split
    "unknown-sample-images",  # names: the split, then images
    "unknown-categories",  # names: of categories
    "unreadable-images",  # value: how many, limit: how many were opened; names: of the first
    "high-learning-rate",  # value
    "shorter-than-an-epoch",  # value: steps, limit: steps per epoch
    "warmup-shortened",  # value: steps of warm-up, limit: steps in all
    "text-encoder",
    "vision-cache-off",
    "fp32-on-gpu",
    "disk",  # value: bytes needed, limit: bytes free
    "out-of-memory",  # limit: bytes of the device; changes: settings that make it fit
    "memory-almost-full",  # value: bytes used, limit: bytes of the device
    "no-gradient",  # names: the component, value: its adapted modules
]


@dataclass(frozen=True)
class Problem:
    """Something to know before the start; in words by :func:`sam3_lora.train.preflight.messages.describe`."""

    kind: ProblemKind
    severity: Literal["error", "warning"]  # an error keeps the run from starting or from learning
    value: float = 0
    limit: float = 0
    names: tuple[str, ...] = ()
    changes: tuple[dict[str, object], ...] = ()  # settings, see sam3_lora.train.memory.smaller_settings
    cause: Sam3LoraError | Finding | None = None
    splits: SplitUse | None = None


def check_dataset(config: RunConfig, dataset: Dataset) -> Iterator[Problem]:
    """The dataset's errors, as far as they concern the run, and settings that name categories it does not have."""
    used = used_names(dataset, config.data)
    for finding in dataset.findings:
        if finding.severity == "error" and (not finding.split or finding.split in used):
            yield Problem("dataset", "warning", cause=finding)
    if unknown := tuple(name for name in config.data.category_phrases if name not in dataset.categories):
        yield Problem("unknown-categories", "warning", names=unknown)


def check_data(config: RunConfig, splits: Splits) -> Iterator[Problem]:
    """Problems with how the dataset is used."""
    data, training, train, valid = config.data, config.training, splits.train, splits.valid
    images = len(train.images)
    if images < FEW_IMAGES:
        yield Problem("few-images", "warning", images)
    if (per_step := training.images_per_step) > images:
        yield Problem("step-exceeds-dataset", "warning", per_step, images)
    yield from check_masks(config, train)
    if data.num_negatives == 0:
        yield Problem("no-negatives", "warning", sum(not image.annotations for image in train.images))
    if valid is None:
        yield Problem("no-validation", "warning", splits=splits.use)
        if error := check_early_stopping(config, has_validation=False):
            yield Problem("error", "error", cause=error)
    elif valid.name == train.name:
        yield Problem("validation-is-training", "warning", names=(train.name,))
    elif not valid.num_objects:
        yield Problem("validation-without-objects", "warning", names=(valid.name,))
    elif splits.held_out and splits.held_out.alike:
        yield Problem("held-out-alike", "warning")
    images_shown = valid or train
    known = set(images_shown.images.names)
    if unknown := tuple(name for name in config.output.sample_images if name not in known):
        yield Problem("unknown-sample-images", "warning", names=(images_shown.name, *unknown))


def check_tiles(config: RunConfig, splits: Splits) -> Iterator[Problem]:
    """Whether all objects can be learned. config: its size of tiles is not auto."""
    tiles = tiled(splits.train.images, tiling_of(config.data))
    if isinstance(tiles, TiledImages) and tiles.never_seen:
        yield Problem("objects-in-no-tile", "warning", tiles.never_seen, splits.train.num_objects)


def check_images(splits: Splits, seconds: float = 5.0) -> Iterator[Problem]:
    """Images that cannot be decoded: of all, or of as many as can be opened in a few seconds, chosen at random.

    Args:
        splits: the images to train and to validate on.
        seconds: after which no further image is opened.
    """
    images = [image for split in (splits.train, splits.valid) if split is not None for image in split.images]
    Random(0).shuffle(images)
    ends = time.monotonic() + seconds
    opened, names = 0, []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for start in range(0, len(images), _OPENED_AT_ONCE):
            if time.monotonic() > ends:
                break
            some = images[start : start + _OPENED_AT_ONCE]
            opened += len(some)
            for image, found in zip(some, threads.map(probe, [image.path for image in some]), strict=True):
                if not found.problems.keys().isdisjoint(_UNREADABLE):
                    names.append(image.file_name)
    if names:
        severity: Literal["error", "warning"] = "error" if len(names) == opened else "warning"
        yield Problem("unreadable-images", severity, len(names), opened, tuple(names))


def check_masks(config: RunConfig, train: Split) -> Iterator[Problem]:
    """Whether there are masks for the mask decoder to learn from.

    Args:
        config: its components to adapt.
        train: the images to learn from.
    """
    components = config.lora.components
    if "mask_decoder" in components and train.num_objects and not train.has_masks:
        others = [name for name in components if name != "mask_decoder"]
        changes: tuple[dict[str, object], ...] = ({"lora.components": others},) if others else ()
        yield Problem("no-masks", "error", train.num_objects, changes=changes)


def check_early_stopping(config: RunConfig, has_validation: bool) -> ConfigError | None:
    """The error of a run that is to stop early by its validation, and has none."""
    if config.training.patience and not has_validation:
        return ConfigError(
            "Early stopping (training.patience) needs validation",
            "Set training.patience to 0, or data.valid_split to a split with images",
        )
    return None


def check_settings(config: RunConfig, plan: TrainPlan, device: str) -> Iterator[Problem]:
    """Settings that are allowed, but rarely intended.

    Args:
        config: the settings.
        plan: the steps of the run.
        device: "cpu" or "cuda:0".
    """
    training = config.training
    if training.learning_rate > HIGH_LEARNING_RATE:
        yield Problem("high-learning-rate", "warning", training.learning_rate)
    if plan.total_steps < plan.steps_per_epoch:
        yield Problem("shorter-than-an-epoch", "warning", plan.total_steps, plan.steps_per_epoch)
    if plan.warmup_steps < training.warmup_steps:
        yield Problem("warmup-shortened", "warning", plan.warmup_steps, plan.total_steps)
    if "text_encoder" in config.lora.components:
        yield Problem("text-encoder", "warning")
    if may_read_vision_cache(config) and not reads_vision_cache(config):
        yield Problem("vision-cache-off", "warning")
    if training.precision == "fp32" and device.startswith("cuda"):
        yield Problem("fp32-on-gpu", "warning")


def check_disk(config: RunConfig, parameters: int) -> Iterator[Problem]:
    """Whether checkpoints and adapters fit on the disk, one checkpoint being written beside those kept.

    Args:
        config: where runs are written and how many checkpoints are kept.
        parameters: how many numbers are trained.
    """
    checkpoints = (config.training.keep_checkpoints + 1) * _COPIES_PER_CHECKPOINT
    needed = 4 * parameters * (checkpoints + _SAVED_ADAPTERS + 1)
    free = shutil.disk_usage(existing_parent(config.output.runs_folder)).free
    if free < needed:
        yield Problem("disk", "error", needed, free)


def existing_parent(folder: Path) -> Path:
    """The folder itself, else the nearest above it that exists. Raises RunError if it cannot be made or written."""
    folder = folder.absolute()
    fix = "Choose another folder in output.runs"
    with explain_os_errors(RunError, f"Expected a writable folder for runs at {folder}, but", fix):
        place = next(place for place in (folder, *folder.parents) if _exists(place))
        if not place.is_dir():
            raise NotADirectoryError(0, f"{place} is a file")
        if not os.access(place, os.W_OK):
            raise PermissionError(0, f"{place} is not writable")
    return place


def _exists(place: Path) -> bool:
    """Unlike Path.exists, raises the OSError that keeps a folder from being made there."""
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):  # the folder above says more
        return False
    return True
