"""Which splits a run trains and validates on, by the settings and what the dataset has."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from sam3_lora.config import HOLDOUT, DataConfig
from sam3_lora.data.records import Dataset, Split
from sam3_lora.data.splits.holdout import MIN_IMAGES, HeldOut, annotations_of
from sam3_lora.data.splits.names import TRAIN_NAMES, VALID_NAMES
from sam3_lora.errors import ConfigError, Sam3LoraError
from sam3_lora.text import plural


@dataclass(frozen=True)
class SplitUse:
    """How a run uses the images, as numbers.

    Attributes:
        train: name of the split to train on.
        train_images: of it that are trained on.
        valid: name of the split to validate on; None without one.
        valid_images: to validate on, held-out ones included.
        valid_objects: annotated in them; None if they are not counted.
        held_out: which images of the training split are kept out of training, or why none; None if that is not tried.
        is_estimate: how many images are held out depends on copies, which were not looked for yet.
    """

    train: str
    train_images: int
    valid: str | None = None
    valid_images: int = 0
    valid_objects: int | None = None
    held_out: HeldOut | None = None
    is_estimate: bool = False

    @property
    def sentence(self) -> str:
        """For people: what is trained and validated on."""
        held_out = self.held_out
        if held_out is None:
            trained = f"Trained on the {plural(self.train_images, 'image')} of '{self.train}'"
            if self.valid is None:
                return f"{trained}, without validation."
            text = f"{trained}, validated on the {plural(self.valid_images, 'image')} of '{self.valid}'"
            nothing = ", which have no annotated object: their loss and F1 say nothing about what is learned"
            return f"{text}{nothing if self.valid_objects == 0 else ''}."
        if held_out.obstacle:
            why = (
                f"has fewer than {MIN_IMAGES} different images"
                if held_out.obstacle == "few-images"
                else "has no category with objects in two different images"
            )
            return f"'{self.train}' {why}, so none is held out and there is no validation."
        text = f"{'About ' if self.is_estimate else ''}{self.valid_images:,} of the {held_out.of:,} images of "
        text += f"'{self.train}' {'is' if self.valid_images == 1 else 'are'} held out to validate on"
        if held_out.taken_from:
            text += f", the same as in {held_out.taken_from}, whose adapter is trained further."
        else:
            text += f" ({100 * held_out.share:g} %, seed {held_out.seed}; copies of a picture stay together)."
        if held_out.known_from:
            text += f" The adapter of {held_out.known_from} was trained on them: validation looks better than it is."
        if held_out.alike:
            text += (
                " Most images look alike, so held-out ones resemble trained ones: validation looks better than it is."
            )
        return text


def training_split(dataset: Dataset, name: str) -> Split:
    """The split to train on, without images whose file is missing.

    Args:
        dataset: as opened.
        name: data.train_split. The default is found in any case, and a dataset's only split by any name that does not
            say valid or test.

    Raises:
        DataError: there is no such split; it lists those there are.
    """
    if name not in dataset.splits and name == DataConfig().train_split:
        names = [split for split in dataset.splits if split.lower() in TRAIN_NAMES]
        if not names and len(dataset.splits) == 1:
            names = [only for only in dataset.splits if not only.lower().startswith((*VALID_NAMES, "test"))]
        name = names[0] if len(names) == 1 else name
    return dataset.split(name, "data.train_split").present()


def validation_split(dataset: Dataset, name: str, train: str) -> Split | str:
    """The split to validate on, without images whose file is missing.

    Args:
        dataset: as opened.
        name: data.valid_split. The default is also found by other usual names.
        train: name of the split to train on; "" if none is.

    Returns:
        The split, or HOLDOUT for a share of the training images, or "" for no validation.

    Raises:
        ConfigError: there is no such split, or it has no image; it lists those that have some.
    """
    if name == DataConfig().valid_split:
        by_name = {split.lower(): split for split in dataset.splits if len(dataset.splits[split].images)}
        found = (by_name[known] for known in VALID_NAMES if known in by_name and by_name[known] != train)
        name = name if name == train else next(found, HOLDOUT)
    if name not in dataset.splits and name in ("", HOLDOUT):
        return name
    valid = dataset.splits[name].present() if name in dataset.splits else None
    if valid is None or not valid.images:
        usable = [other for other, split in dataset.splits.items() if split.present().images]
        raise ConfigError(
            f"Expected images in the split '{name}' to validate on, but the splits with images are {', '.join(usable)}",
            dataset.split_fix(name, "data.valid_split")
            or f"Set data.valid_split to one that is there, to '{HOLDOUT}' for a share of the training images, or to "
            "'' for no validation",
        )
    return valid


def expected_use(dataset: Dataset, data: DataConfig, seed: int) -> SplitUse:
    """How a run would use the images, without reading any of them.

    Args:
        dataset: as opened.
        data: the settings.
        seed: of the training.

    Raises:
        DataError, ConfigError: there is no such split.
    """
    train = training_split(dataset, data.train_split)
    valid = validation_split(dataset, data.valid_split, train.name)
    count = len(train.images)
    if isinstance(valid, Split):
        return SplitUse(train.name, count, valid.name, len(valid.images), valid.num_objects)
    if not valid or not data.holdout:
        return SplitUse(train.name, count)
    held_out = HeldOut(train.name, annotations_of(train), "", data.holdout, seed, count)
    if count < MIN_IMAGES:
        return SplitUse(train.name, count, held_out=replace(held_out, obstacle="few-images"))
    images = max(1, round(data.holdout * count))
    return SplitUse(train.name, count - images, HOLDOUT, images, held_out=held_out, is_estimate=True)


def used_names(dataset: Dataset, data: DataConfig) -> set[str]:
    """The names of the splits that a run uses, as far as they are there."""
    names = {data.train_split, data.valid_split}
    with suppress(Sam3LoraError):
        use = expected_use(dataset, data, seed=0)
        names |= {use.train, use.valid or ""}
    return names & dataset.splits.keys()
