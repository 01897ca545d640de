"""Loads samples in batches, in worker processes where there are some; what cannot be loaded does not end a loader."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import torch

from sam3_lora.data.samples import Batch, Collator, LeftOut, NothingLoaded, SampleDataset
from sam3_lora.data.worker_processes import SPAWN, end_with_parent, explain_lost_workers
from sam3_lora.errors import DataError

_STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
_CAN_BLOCK = hasattr(signal, "sigwaitinfo")  # neither Windows nor macOS


def make_loader(
    samples: SampleDataset,
    collate: Collator,
    num_workers: int,
    seed: int,
    pin_memory: bool = False,
    **batching: Any,
) -> torch.utils.data.DataLoader[Any]:
    """A loader of batches, to be read by :func:`batches_of`.

    Args:
        samples: the images.
        collate: samples to a batch.
        num_workers: processes that load images, at most one for each image; 0 loads them in this one.
        seed: of the loader's own generator: if it drew from the global one, a resumed run would differ from an
            unbroken one.
        pin_memory: whether the batches are for a GPU, which copies from page-locked memory while it computes.
        **batching: batch_size or batch_sampler.
    """
    num_workers = min(num_workers, len(samples))
    return torch.utils.data.DataLoader(
        samples,
        collate_fn=collate,
        pin_memory=pin_memory,
        num_workers=num_workers,
        # Starting a worker takes seconds; those of an epoch serve the next one too.
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),
        # Forking a process that holds threads and a GPU is not safe.
        multiprocessing_context=SPAWN if num_workers else None,
        worker_init_fn=leave_process_group,
        **batching,
    )


def batches_of(
    loader: torch.utils.data.DataLoader[Any], left_out: Callable[[LeftOut], None] = lambda _: None
) -> Iterator[Batch]:
    """The batches of a loader from its beginning.

    Args:
        loader: of :func:`make_loader`.
        left_out: called with each image that is left out of the batches.

    Raises:
        DataError: an image cannot be loaded, and samples are not to go on without it.
        TrainingError: a worker process has ended.
    """
    with explain_lost_workers(), signals_blocked():
        batches = iter(loader)
    return _loaded(batches, left_out)


def _loaded(
    batches: Iterator[Batch | NothingLoaded | DataError], left_out: Callable[[LeftOut], None]
) -> Iterator[Batch]:
    with explain_lost_workers():
        for batch in batches:
            if isinstance(batch, DataError):
                raise batch
            for one in batch.left_out:
                left_out(one)
            if isinstance(batch, Batch):
                yield batch


def leave_process_group(_worker: int) -> None:
    """Takes a loader's worker out of the training process's group, and unblocks the signals of `signals_blocked`.

    A terminal or a cluster signals a whole group to stop, but the step in progress still needs its images. The worker
    ends with the loader, or with the process that started it.
    """
    end_with_parent()
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if _CAN_BLOCK:
        # What came to the group meanwhile is not meant for this process; what its parent sent to it is.
        while waiting := signal.sigpending() & _STOP_SIGNALS:
            if signal.sigwaitinfo(waiting).si_pid == os.getppid():
                raise SystemExit
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Data loading workers that are started inside are not killed by a signal to the whole group before they have left
    it in `leave_process_group`."""
    if not _CAN_BLOCK:
        yield
        return
    # It is started with the first worker otherwise, and unblocks the signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
