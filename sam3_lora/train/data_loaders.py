"""Samples of a run, and loaders with each epoch's own order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from sam3_lora.data.samples import Batch, Collator, SampleDataset, batches_of, checked, make_loader
from sam3_lora.evaluate.validation_loss import validation_loader
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.fingerprint import fingerprint
from sam3_lora.train.splits import Splits


@dataclass
class TrainingData:
    """A run's images, ready to be loaded."""

    splits: Splits
    fingerprint: dict[str, str]  # see :mod:`sam3_lora.runs.fingerprint`
    samples: SampleDataset  # of the training split
    collate: Collator
    train_loader: TrainLoader
    valid_loader: DataLoader | None

    @property
    def valid_samples(self) -> SampleDataset | None:
        """Of the validation split; None without one."""
        return None if self.valid_loader is None else cast(SampleDataset, self.valid_loader.dataset)

    @property
    def every_split(self) -> list[SampleDataset]:
        """The samples of the validation split, if there is one, and of the training split."""
        return [self.samples] if self.valid_samples is None else [self.valid_samples, self.samples]

    def first_batch(self) -> Batch:
        """The first image with objects, of the validation split if there is one, with its pixels."""
        split = self.splits.valid or self.splits.train
        index = next((number for number, image in enumerate(split.images) if image.annotations), 0)
        return checked(self.collate([self.every_split[0].decoded(index)]))


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
    prompts = (processor, splits.categories, data.num_negatives)
    phrases = data.category_phrases
    samples = SampleDataset(splits.train, *prompts, seed=training.seed, phrases=phrases, flip=data.flip)
    collate = Collator(processor)
    valid_loader = None
    if splits.valid is not None:
        valid_loader = validation_loader(
            splits.valid, *prompts, training.batch_size, data.num_workers, phrases, pin_memory
        )
    return TrainingData(
        splits=splits,
        fingerprint=fingerprint(split for split in (splits.train, splits.valid) if split is not None),
        samples=samples,
        collate=collate,
        train_loader=TrainLoader(samples, collate, config, rank, world, pin_memory),
        valid_loader=valid_loader,
    )


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
            DataError: an image cannot be loaded; the message names it.
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
