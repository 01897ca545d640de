"""The splits of a run: what it learns from, what it is validated on, and which images are held out for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sam3_lora.config import HOLDOUT, RunConfig
from sam3_lora.data.dataset import Dataset, Split, open_dataset
from sam3_lora.data.findings import messages_prompts
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.splits.holdout import HeldOut, Progress, hold_out
from sam3_lora.data.splits.split_use import SplitUse, training_split, validation_split
from sam3_lora.errors import DataError
from sam3_lora.evaluate import store
from sam3_lora.files import user_path
from sam3_lora.runs.held_out import is_same_path
from sam3_lora.text import plural
from sam3_lora.train.accelerator import from_main

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sam3_lora.runs.run import Run
    from sam3_lora.runs.writer import RunWriter, SilentWriter


@dataclass(frozen=True)
class Splits:
    """The splits of a run, without the images whose files are missing."""

    train: Split  # without held-out images
    valid: Split | None  # None: no validation
    categories: tuple[str, ...]  # of the whole dataset
    held_out: HeldOut | None = None  # None: there is a split to validate on, or no validation is wanted

    @property
    def use(self) -> SplitUse:
        """How the images are used, as numbers."""
        valid, held_out = self.valid, self.held_out
        name = self.train.name
        if valid is None:
            return SplitUse(name, len(self.train.images), held_out=held_out)
        return SplitUse(name, len(self.train.images), valid.name, len(valid.images), valid.num_objects, held_out)

    def taught_phrases(self, phrases: Mapping[str, str]) -> tuple[str, ...]:
        """The phrases that have objects to learn from, each once.

        Args:
            phrases: the user's own words by category, see :func:`sam3_lora.data.prompts.phrase_of`.
        """
        learned = (phrase_of(name, phrases) for name, count in self.train.objects_per_category().items() if count)
        return tuple(dict.fromkeys(filter(None, learned)))


def run_splits(run: Run, accelerator: Accelerator, report: RunWriter | SilentWriter, *, resume: bool) -> Splits:
    """The splits of a run, the same in all processes; which images are held out is kept in the run's folder.

    Args:
        run: its configuration, and which images it held out before.
        accelerator: of this process.
        report: of the run; its status says how far the images have been compared.
        resume: whether the run goes on from a checkpoint, so that nothing can be held out that was not before.

    Raises:
        Sam3LoraError: as :func:`open_splits`.
    """
    config = run.config

    def choose(train: Split) -> HeldOut:
        if resume:
            raise _split_is_gone(config)
        held_out = choose_held_out(
            config, train, report.log, lambda share, step: report.update(message=f"{step}: {100 * share:.0f} %.")
        )
        report.update(message="")
        run.write_held_out(held_out)
        return held_out

    stored = from_main(accelerator, run.held_out)
    return open_splits(config, report.log, lambda train: from_main(accelerator, lambda: choose(train)), stored)


def splits_of(run: Run, log: Callable[[str], None]) -> Splits:
    """The splits that a run was trained and validated on, after its end.

    Args:
        run: its configuration, and which images it held out.
        log: see :func:`open_splits`.

    Raises:
        Sam3LoraError: as :func:`open_splits`; or the split that it was validated on is gone.
    """

    def choose(train: Split) -> HeldOut:
        raise _split_is_gone(run.config)

    return open_splits(run.config, log, choose, run.held_out())


def _split_is_gone(config: RunConfig) -> DataError:
    return DataError(
        f"The split '{config.data.valid_split}' that this run was validated on is not there any more",
        "Put it back, or start a new run",
    )


def open_splits(
    config: RunConfig,
    log: Callable[[str], None],
    choose: Callable[[Split], HeldOut] | None = None,
    stored: HeldOut | None = None,
    dataset: Dataset | None = None,
) -> Splits:
    """Opens the dataset and chooses the splits.

    Args:
        config: the run's.
        log: gets a line for missing images and for each error and warning about the dataset.
        choose: says which images are held out where there is no split to validate on; None: :func:`choose_held_out`.
        stored: which images the run held out before; used even if the dataset has a split to validate on by now.
        dataset: if it has been opened already.

    Raises:
        DataError: there is no object to learn from.
        ConfigError: there is no image to validate on.
    """
    data = config.data
    dataset = dataset or open_dataset(**data.reading)
    train = _present(dataset, training_split(dataset, data.train_split).name, log)
    if train.num_objects == 0:
        reason = next((finding for finding in dataset.findings if finding.severity == "error"), None)
        raise DataError(
            f"The split '{train.name}' of {dataset.root} has no object to learn from"
            + (f": {reason.message}" if reason else ""),
            reason.fix if reason else "Open the dataset on the dataset page to see why",
        )
    for finding in dataset.findings:
        if finding.severity != "info" or finding.kind in messages_prompts.INFOS:
            log(f"Dataset: {finding.message} {finding.fix}")
    valid = validation_split(dataset, data.valid_split, train.name) if stored is None else HOLDOUT
    splits = Splits(train, None, dataset.prompt_categories)
    if isinstance(valid, Split):
        splits = replace(splits, valid=_present(dataset, valid.name, log))
    elif stored or (valid and data.holdout):
        splits = _without(splits, stored or (choose(train) if choose else choose_held_out(config, train, log)))
    return splits


def choose_held_out(
    config: RunConfig, train: Split, log: Callable[[str], None], progress: Progress = lambda share, step: None
) -> HeldOut:
    """The images to hold out of the training split for a new run.

    A run that continues from the adapter of another one holds out the same images as that, since the others were
    trained on.

    Args:
        config: the run's.
        train: the split to train on.
        log: gets a line before all images are read.
        progress: see :func:`sam3_lora.data.splits.holdout.hold_out`.
    """
    earlier = store.run_of(user_path(config.model.adapter)) if config.model.adapter else None
    held_out = earlier.held_out() if earlier else None
    if earlier is not None and held_out is not None and held_out.images and held_out.is_of(train):
        return replace(held_out, taken_from=earlier.name)
    log(f"Looking for copies among the images of '{train.name}', so that they are held out together; done once.")
    chosen = hold_out(train, config.data.holdout, config.training.seed, progress)
    if earlier is None or not _was_trained_on(earlier, config, train):
        return chosen
    return replace(chosen, known_from=earlier.name)


def _was_trained_on(run: Run, config: RunConfig, train: Split) -> bool:
    """Whether a run, which holds out none of the images, was trained on the split that a configuration names."""
    held_out, data = run.held_out(), run.config.data
    if held_out is not None:
        return held_out.is_of(train)
    named = data.train_split in (config.data.train_split, train.name)
    return named and is_same_path(data.path, config.data.path)


def _without(splits: Splits, held_out: HeldOut) -> Splits:
    """The splits with the held-out images to validate on. Raises DataError if none of them is there any more."""
    if not held_out.images:
        return replace(splits, held_out=held_out)
    train, valid = held_out.divide(splits.train)
    if not valid.images or not train.num_objects:
        raise DataError(
            f"None of the {plural(len(held_out.images), 'image')} that were held out of '{train.name}' to validate on "
            "is there any more"
            if not valid.images
            else f"Without the images that are held out, '{train.name}' has no object to learn from",
            "Put the images back, or start a new run",
        )
    return replace(splits, train=train, valid=valid, held_out=held_out)


def _present(dataset: Dataset, name: str, log: Callable[[str], None]) -> Split:
    """A split without the images that cannot be used, which are said."""
    split = dataset.splits[name]
    present = split.present()
    if missing := int(split.images.missing.sum()):
        verb = "is missing and is" if missing == 1 else "are missing and are"
        log(f"{plural(missing, 'image')} of the split '{split.name}' {verb} left out.")
    if unknown := len(split.images) - missing - len(present.images):
        verb = "has" if unknown == 1 else "have"
        log(
            f"{plural(unknown, 'image')} of the split '{split.name}' {verb} no object and no listed negative: left out."
        )
    return present
