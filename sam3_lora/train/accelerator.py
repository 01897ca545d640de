"""The device of a training process: accelerate's Accelerator, and the locks that give it to one run at a time."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from filelock import FileLock, Timeout

from sam3_lora.config import TrainingConfig
from sam3_lora.errors import RunError
from sam3_lora.model.base import resolve_device
from sam3_lora.model.precision import resolve_precision

if TYPE_CHECKING:
    from accelerate import Accelerator

# Only the main process validates; the others wait for it, however long it takes.
_PROCESS_GROUP_TIMEOUT = timedelta(hours=12)
_MAX_WORKERS = 8
_in_this_process = threading.Lock()
T = TypeVar("T")


def make_accelerator(training: TrainingConfig) -> Accelerator:
    """The process's Accelerator, of the configured device and precision.

    Raises:
        ModelError: there is no such device.
        ConfigError: the device cannot compute in this precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    device = resolve_device(training.device)
    precision = resolve_precision(training.precision, device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        # accelerate keeps its state in the process; an earlier run may have used another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cpu":
        limit_cpu_threads()
    # TF32 where a GPU multiplies in float32; for the whole process, so a run on the CPU sets it back.
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        # Without an object that has a mask, the mask decoder gets no gradient in that step.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_PROCESS_GROUP_TIMEOUT),
        ],
        step_scheduler_with_optimizer=False,
    )


def from_main(accelerator: Accelerator, make: Callable[[], T]) -> T:
    """What `make` gives in the main process, in every process: each must call this equally often."""
    from accelerate.utils import broadcast_object_list

    made: list[Any] = [make() if accelerator.is_main_process else None]
    return broadcast_object_list(made)[0]


def from_all(accelerator: Accelerator, items: list[T]) -> list[T]:
    """The items of all processes, in every process: each must call this equally often."""
    from accelerate.utils import gather_object

    return list(gather_object(items)) if accelerator.num_processes > 1 else items


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds this process for one run or pre-flight, since accelerate keeps its state in the process.

    Raises:
        RunError: another one is in progress in this process.
    """
    if not _in_this_process.acquire(blocking=False):
        raise RunError("Another run is being trained in this app", "Stop it or wait for its end")
    try:
        yield
    finally:
        _in_this_process.release()


def device_lock(device: torch.device) -> AbstractContextManager:
    """Holds a GPU for this process alone: two runs on one GPU would run out of memory.

    Raises:
        RunError: another process of this app trains on it.
    """
    if device.type == "cpu":
        return nullcontext()
    name = f"sam3-lora-{device.type}-{device.index or 0}.lock"
    try:
        return FileLock(Path(tempfile.gettempdir()) / name).acquire(timeout=2)
    except Timeout:
        raise RunError(f"Another run is training on {device}", "Stop it or wait for its end") from None


def limit_cpu_threads() -> None:
    """Computes with all cores but one.

    The thread that loads the next images and the app need one too, and a step that waits for its slowest core takes
    longer with all of them than without that one.
    """
    torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores() - 1)))


def auto_workers(device: torch.device) -> int:
    """How many processes load images where ``data.num_workers`` is auto.

    None on a CPU, where they would take the cores that compute. Beside a GPU one for every two cores, at most eight: a
    photo of 12 megapixels takes one of them 0.1 s, so that eight keep up with the fastest GPU. The processes that train
    on this machine share its cores.
    """
    if device.type == "cpu":
        return 0
    trainings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # as torchrun and accelerate set it
    return min(_MAX_WORKERS, usable_cores() // (2 * trainings))


def usable_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
