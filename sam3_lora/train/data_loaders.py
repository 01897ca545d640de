"""Samples of a run, and loaders with each epoch's own order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader

from sam3_lora.config import Negatives
from sam3_lora.data.loading import batches_of, make_loader
from sam3_lora.data.prompts import phrase_of
from sam3_lora.data.samples import MAX_REPLACEMENTS, Batch, Collator, LeftOut, SampleDataset, checked
from sam3_lora.data.tiles.cut import TiledImages, tiled
from sam3_lora.errors import DataError
from sam3_lora.evaluate.validation_loss import validation_loader
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.fingerprint import fingerprint
from sam3_lora.runs.metrics import Row
from sam3_lora.runs.writer import RunWriter, SilentWriter
from sam3_lora.tiles import tiling_of
from sam3_lora.train.accelerator import from_all
from sam3_lora.train.replay.photographs import photographs
from sam3_lora.train.replay.replay import MAX_IMAGES, Replay, replay_words
from sam3_lora.train.splits import Splits

if TYPE_CHECKING:
    from accelerate import Accelerator

LEFT_OUT = "image-left-out"  # what a note is about


@dataclass
class TrainingData:
    """A run's images, or their tiles, ready to be loaded."""

    splits: Splits
    fingerprint: dict[str, str]  # see :mod:`sam3_lora.runs.fingerprint`
    samples: SampleDataset  # of the training split
    collate: Collator
    train_loader: TrainLoader
    valid_loader: DataLoader | None
    replay: Replay | None = None  # None: nothing is replayed
    tiles: TiledImages | None = None  # to learn from; None: images are whole

    @property
    def valid_samples(self) -> SampleDataset | None:
        """Of the validation split; None without one."""
        return None if self.valid_loader is None else cast(SampleDataset, self.valid_loader.dataset)

    @property
    def every_split(self) -> list[SampleDataset]:
        """The samples of the validation split, if there is one, of the training split, and photographs to replay."""
        own = [self.samples] if self.valid_samples is None else [self.valid_samples, self.samples]
        return own if self.replay is None or self.replay.samples is self.samples else [*own, self.replay.samples]

    def first_batch(self) -> Batch:
        """The first sample with objects that can be loaded, of the validation split if there is one, with its pixels.

        Raises:
            DataError: none of the first few can be loaded.
        """
        samples = self.every_split[0]
        with_objects = (number for number in range(len(samples)) if samples.record(number).annotations)
        numbers = list(islice(with_objects, MAX_REPLACEMENTS)) or [0]
        for number in numbers:
            with suppress(DataError):
                return checked(self.collate([samples.decoded(number)]))
        return checked(self.collate([samples.decoded(numbers[0])]))


def make_data(
    config: ResolvedConfig, splits: Splits, processor: Any, rank: int = 0, world: int = 1, pin_memory: bool = False
) -> TrainingData:
    """Samples and loaders of a run.

    Args:
        config: the run's.
        splits: the images.
        processor: transformers' Sam3Processor of the base model.
        rank: which training process this is, from 0.
        world: how many there are.
        pin_memory: whether the batches are for a GPU.

    Raises:
        DataError: the dataset was removed since it was opened.
    """
    data, training = config.data, config.training
    prompts = (processor, splits.categories, data.negatives)
    phrases = data.category_phrases
    tiling = tiling_of(data)
    images = tiled(splits.train.images, tiling)
    samples = SampleDataset(
        images,
        *prompts,
        seed=training.seed,
        phrases=phrases,
        augmentation=config.augmentation,
        unreadable="replace",
    )
    collate = Collator(processor)
    valid_loader = None
    if splits.valid is not None:
        valid_images = tiled(splits.valid.images, tiling)
        valid_loader = validation_loader(
            valid_images, *prompts, training.batch_size, data.num_workers, phrases, pin_memory
        )
    return TrainingData(
        splits=splits,
        fingerprint=fingerprint(split for split in (splits.train, splits.valid) if split is not None),
        samples=samples,
        collate=collate,
        train_loader=TrainLoader(samples, collate, config, rank, world, pin_memory),
        valid_loader=valid_loader,
        replay=_make_replay(config, splits, samples, collate, processor, rank, world),
        tiles=images if isinstance(images, TiledImages) else None,
    )


def _make_replay(
    config: ResolvedConfig,
    splits: Splits,
    samples: SampleDataset,
    collate: Collator,
    processor: Any,
    rank: int,
    world: int,
) -> Replay | None:
    """The replay of a run; the arguments are those of :func:`make_data`."""
    replay, data, training = config.replay, config.data, config.training
    if replay.source == "none":
        return None
    if replay.source == "folder":
        images = photographs(replay.folder, MAX_IMAGES, training.seed)
        samples = SampleDataset(images, processor, (), Negatives(0), training.seed)
    taught = [phrase_of(category, data.category_phrases) for category in splits.categories]
    words = replay_words(replay, config.model.base, taught, data.refused_phrases)
    return Replay(replay, samples, collate, words, training.seed, training.batch_size, rank, world)


class TrainLoader:
    """Loads this process's batches in groups, one per optimizer step, always one group ahead of the device.

    Args:
        samples: the training images.
        collate: samples to a batch.
        config: batch size, accumulation, seed and number of worker processes.
        rank: which training process this is, from 0.
        world: how many there are.
        pin_memory: whether the batches are for a GPU.
    """

    def __init__(
        self,
        samples: SampleDataset,
        collate: Collator,
        config: ResolvedConfig,
        rank: int = 0,
        world: int = 1,
        pin_memory: bool = False,
    ) -> None:
        self._samples = samples
        self._training = config.training
        self._rank, self._world = rank, world
        self._order: list[list[int]] = []  # the batches still to come; the loader stays while they change
        workers, seed = config.data.num_workers, config.training.seed
        self._loader = make_loader(samples, collate, workers, seed, pin_memory, batch_sampler=self._order)

    def epoch(self, number: int, skip: int = 0) -> Iterator[list[Batch]]:
        """The groups of batches of an epoch.

        Args:
            number: of the epoch, from 0; it fixes order and negative phrases.
            skip: groups left out at the beginning.

        Raises:
            DataError: an image cannot be loaded, nor any of those tried in its place; the message names it.
        """
        training = self._training
        self._samples.set_epoch(number)
        order = epoch_order(len(self._samples), training.batch_size, training.seed + number, self._rank, self._world)
        self._order[:] = order[skip * training.gradient_accumulation_steps :]
        batches = batches_of(self._loader)

        def take() -> list[Batch]:
            return list(islice(batches, training.gradient_accumulation_steps))

        # A thread loads the next step's images while the device computes this one's.
        with ThreadPoolExecutor(max_workers=1) as loading:
            coming = loading.submit(take)
            while group := coming.result():
                coming = loading.submit(take)
                yield group


def epoch_order(count: int, batch_size: int, seed: int, rank: int, world: int) -> list[list[int]]:
    """The image indices of each batch of one process in one epoch, shuffled by the seed.

    Over several processes the order is filled up from its start so that all take equally many steps.

    Args:
        count: images in all.
        batch_size: images per process and forward pass.
        seed: of the shuffling.
        rank: which process, from 0.
        world: how many processes.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    remainder = len(order) % world
    if remainder:
        order += (order * world)[: world - remainder]
    per_step = batch_size * world
    steps = [order[start : start + per_step] for start in range(0, len(order), per_step)]
    return [step[rank * len(step) // world : (rank + 1) * len(step) // world] for step in steps]


class LeftOutImages:
    """The images that a run goes on without since they cannot be loaded: each is noted once.

    Args:
        report: of the run.
        accelerator: the process's; only the main process writes notes.
    """

    def __init__(self, report: RunWriter | SilentWriter, accelerator: Accelerator) -> None:
        self._report, self._accelerator = report, accelerator
        self._names: set[str] = set()
        self._to_share: list[LeftOut] = []

    def resume(self, rows: Iterable[Row]) -> None:
        """Takes those as known that were noted before."""
        self._names.update(name for row in rows if row.get("about") == LEFT_OUT for name in row.get("images", ()))
        self._report.update(left_out_images=len(self._names))

    def note(self, step: int, left_out: Iterable[LeftOut]) -> None:
        """Notes the images among these that are new."""
        new = {one.file_name: one for one in left_out if one.file_name not in self._names}
        self._names.update(new)
        if not self._accelerator.is_main_process:
            self._to_share += new.values()
            return
        for name, one in new.items():
            self._report.note(step, LEFT_OUT, f"{one.error.message}: it is left out.", images=[name])
        if new:
            self._report.update(left_out_images=len(self._names))

    def share(self, step: int) -> None:
        """Notes what the other processes could not load; each process must call this equally often."""
        shared = from_all(self._accelerator, self._to_share)
        self._to_share = []
        if self._accelerator.is_main_process:
            self.note(step, shared)
