"""The training images in each epoch's own order, as groups of batches: one group per optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch
from torch.utils.data import DataLoader, Sampler

from sam3_lora.config import RunConfig
from sam3_lora.data.samples import Batch, Collator, SampleDataset, checked, leave_process_group


class TrainLoader:
    """Loads the groups of this process, always one group ahead of the device.

    Args:
        data: the training images.
        collate: samples to a batch.
        config: batch size, accumulation, seed and number of worker processes.
        rank, world: which of how many training processes this is.
    """

    def __init__(
        self, data: SampleDataset, collate: Collator, config: RunConfig, rank: int = 0, world: int = 1
    ) -> None:
        self._data = data
        self._training = config.training
        self._rank, self._world = rank, world
        self._order = _Order()
        workers = config.data.num_workers
        self._loader = DataLoader(
            data,
            batch_sampler=self._order,
            collate_fn=collate,
            num_workers=workers,
            # Starting a worker takes seconds; those of an epoch serve the next one too.
            persistent_workers=workers > 0,
            # The loader must not draw from the global generator: a resumed run would then differ from an unbroken one.
            generator=torch.Generator().manual_seed(config.training.seed),
            # Forking a process that holds threads and a GPU is not safe.
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=leave_process_group,
        )

    def epoch(self, number: int, skip: int = 0) -> Iterator[list[Batch]]:
        """An epoch's groups from the skip-th on. Raises DataError that names an image that cannot be loaded."""
        training = self._training
        self._data.set_epoch(number)
        order = epoch_order(len(self._data), training.batch_size, training.seed + number, self._rank, self._world)
        self._order.batches = order[skip * training.gradient_accumulation_steps :]
        iterator = iter(self._loader)

        def take() -> list[Batch]:
            return [checked(batch) for batch in islice(iterator, training.gradient_accumulation_steps)]

        # A thread loads the next step's images while the device computes this one's.
        with ThreadPoolExecutor(max_workers=1) as loading:
            coming = loading.submit(take)
            while group := coming.result():
                coming = loading.submit(take)
                yield group


class _Order(Sampler):
    """The batches still to come, which change from epoch to epoch while the loader stays."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def epoch_order(count: int, batch_size: int, seed: int, rank: int, world: int) -> list[list[int]]:
    """The image indices of each of this process's batches in one epoch, shuffled by the seed.

    Over several processes the order is filled up from its start so that all take equally many steps.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    remainder = len(order) % world
    if remainder:
        order += (order * world)[: world - remainder]
    per_step = batch_size * world
    steps = [order[start : start + per_step] for start in range(0, len(order), per_step)]
    return [step[rank * len(step) // world : (rank + 1) * len(step) // world] for step in steps]
