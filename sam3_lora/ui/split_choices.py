"""Which splits the next run may use, as choices of the form, and which images it uses, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from sam3_lora.config import HOLDOUT, DataConfig, RunConfig
from sam3_lora.data.dataset import Dataset, Split
from sam3_lora.data.splits.split_use import SplitUse, expected_use, training_split, validation_split
from sam3_lora.errors import Sam3LoraError
from sam3_lora.text import plural
from sam3_lora.ui import resources


def expected_split_use(config: RunConfig) -> SplitUse | None:
    """How the next run uses the images of its dataset; None if that is not known, as of a wrong path."""
    with suppress(Sam3LoraError):
        return expected_use(resources.open_dataset(config.data.path), config.data, config.training.seed)
    return None


def train_choices(dataset: Dataset | None, current: str) -> dict[str, str]:
    """The values of data.train_split and their labels.

    Args:
        dataset: None if it cannot be opened.
        current: the value in the form, which is always among them.
    """
    if dataset is None:
        return {current: current}
    labels = {name: _label(split) for name, split in dataset.splits.items()}
    return _choices(labels, current, DataConfig().train_split, lambda value: training_split(dataset, value).name)


def valid_choices(dataset: Dataset | None, train: str, current: str, share: float) -> dict[str, str]:
    """The values of data.valid_split and their labels: the dataset's other splits, a held-out share, none.

    Args:
        dataset: None if it cannot be opened.
        train: data.train_split.
        current: the value in the form, which is always among them.
        share: data.holdout.
    """
    others = {HOLDOUT: f"Held out from {train} ({100 * share:g} %)", "": "None"}
    if dataset is None:
        return {current: current, **others}
    with suppress(Sam3LoraError):
        train = training_split(dataset, train).name
        others[HOLDOUT] = f"Held out from {train} ({100 * share:g} %)"

    def meaning(value: str) -> str:
        found = validation_split(dataset, value, train)
        return found.name if isinstance(found, Split) else found

    splits = {name: split for name, split in dataset.splits.items() if name != train or name == current}
    labels = {name: _label(split) for name, split in splits.items()}
    return _choices(labels | others, current, DataConfig().valid_split, meaning)


def _label(split: Split) -> str:
    return f"{split.name} ({plural(len(split.images), 'image')})"


def _choices(labels: Mapping[str, str], current: str, default: str, meaning: Callable[[str], str]) -> dict[str, str]:
    """Value -> label. A choice has the form's value or the default where that means the same, so that the default stays
    what it is when another dataset is opened."""
    meanings: dict[str, str] = {}
    for value in (default, current):
        with suppress(Sam3LoraError):
            meanings[meaning(value)] = value
    choices = {meanings.get(name, name): label for name, label in labels.items()}
    return choices if current in choices else {**choices, current: f"{current} (not in this dataset)"}
