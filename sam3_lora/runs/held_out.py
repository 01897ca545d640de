"""The images to evaluate an adapter on: a split, or what the adapter's run held out; and how many it was trained on."""

from __future__ import annotations

import os
from contextlib import suppress

from sam3_lora.config import HOLDOUT, DataConfig
from sam3_lora.data.dataset import Dataset, Split
from sam3_lora.data.splits.holdout import HeldOut
from sam3_lora.data.splits.split_use import SplitUse, training_split, validation_split
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.files import user_path
from sam3_lora.runs.run import Run


def held_out_split(dataset: Dataset, run: Run | None) -> Split | None:
    """The images of a dataset that a run held out to validate on; None if it held out none, or of another dataset."""
    held_out = _held_out(run)
    source = _source(dataset, held_out) if held_out is not None and held_out.images else None
    if held_out is None or source is None:
        return None
    split = held_out.divide(source)[1]
    return split if split.images else None


def split_to_evaluate(dataset: Dataset, name: str, run: Run | None) -> Split:
    """The images to measure on.

    Args:
        dataset: as opened.
        name: of a split. HOLDOUT for what the run held out; so does the default, "valid", where the dataset has no
            such split by any of its usual names.
        run: of the adapter; None without one.

    Raises:
        DataError: there is no such split, or the run held out none of these images.
    """
    if name in dataset.splits:
        return dataset.splits[name]
    if name == DataConfig().valid_split:
        found = validation_split(dataset, name, train="")
        if isinstance(found, Split):
            return dataset.splits[found.name]
    if name in (HOLDOUT, DataConfig().valid_split) and (split := held_out_split(dataset, run)) is not None:
        return split
    if name == HOLDOUT:
        raise DataError(
            f"Expected an adapter whose run held images out of {dataset.root} to validate on",
            f"Give such an adapter, or one of the splits {', '.join(dataset.splits)}",
        )
    return dataset.split(name)


def count_trained_on(dataset: Dataset, path: str, split: Split, run: Run | None) -> int:
    """How many images of a split the adapter of a run was trained on.

    Args:
        dataset: as opened.
        path: that it was opened by.
        split: of the dataset, or what was held out of one.
        run: of the adapter; None without one.
    """
    if run is None:
        return 0
    held_out = _held_out(run)
    if held_out is not None:
        source = _source(dataset, held_out)
        if source is None:
            return 0
        trained, valid = held_out.divide(source)
        counts = {trained.name: len(trained.images), valid.name: len(valid.images) if held_out.known_from else 0}
        return counts.get(split.name, 0)
    with suppress(Sam3LoraError):
        data = run.config.data
        if is_same_path(data.path, path) and split.name == training_split(dataset, data.train_split).name:
            return len(split.present().images)
    return 0


def is_same_path(path: str, other: str) -> bool:
    """Whether two paths of datasets lead to the same place."""
    with suppress(ValueError):  # a text that no file system can hold
        return os.path.realpath(user_path(path)) == os.path.realpath(user_path(other))
    return path == other


def use_of(held_out: HeldOut) -> SplitUse:
    """How a run uses the images of the split that it holds some out of."""
    images = len(held_out.images)
    return SplitUse(held_out.split, held_out.of - images, HOLDOUT if images else None, images, held_out=held_out)


def _held_out(run: Run | None) -> HeldOut | None:
    return None if run is None else run.held_out()


def _source(dataset: Dataset, held_out: HeldOut) -> Split | None:
    """The split of a dataset that images were held out of."""
    present = (split.present() for split in dataset.splits.values())
    return next((split for split in present if held_out.is_of(split)), None)
