"""Everything fit() needs before its first step: data, model, loss, optimizer, schedule and device."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.utils.data import DataLoader

from sam3_lora.config import RunConfig, TrainingConfig
from sam3_lora.data.coco import Dataset, Split, open_dataset
from sam3_lora.data.samples import Batch, Collator, SampleDataset, checked
from sam3_lora.errors import ConfigError, DataError, RunError
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.base import load_base, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.train.validate import validation_loader

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


@dataclass
class Setup:
    """A run made ready. model is the detector as accelerate wraps it; detector is the plain one."""

    config: RunConfig
    accelerator: Any
    detector: Sam3Detector
    model: nn.Module
    peft_model: Any
    loss: Sam3LossWrapper
    optimizer: Any
    scheduler: Any
    parameters: list[nn.Parameter]
    train_data: SampleDataset
    collate: Collator
    valid_loader: DataLoader | None
    length: Length

    def save_adapter(self, folder: Path) -> None:
        if self.accelerator.is_main_process:
            lora.save(self.peft_model, folder, self.config.model.base)


def make_accelerator(training: TrainingConfig) -> Any:
    """The process's accelerate.Accelerator. Raises ModelError or ConfigError if the device cannot do what is asked."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs

    device = resolve_device(training.device)
    if training.precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"fp16 needs a CUDA GPU, but the device is {device}", "Set training.precision to fp32 or bf16"
        )
    if PartialState._shared_state and PartialState().num_processes == 1:
        # accelerate keeps its state in the process; an earlier run may have used another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if training.precision == "fp32" else training.precision,
        # Without an object that has a mask, the mask decoder gets no gradient in that step.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        step_scheduler_with_optimizer=False,
    )


def device_lock(device: torch.device) -> AbstractContextManager:
    """Holds a GPU for this process alone; two runs on one GPU would only end in lack of memory.

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


def prepare(config: RunConfig, accelerator: Any, log: Callable[[str], None]) -> Setup:
    """Loads data and model, attaches the adapter and makes optimizer and schedule.

    Raises:
        Sam3LoraError: whatever of it cannot be had, with the fix.
    """
    from accelerate.utils import set_seed
    from transformers import get_scheduler

    training = config.training
    dataset = open_dataset(config.data.path)
    train_split, valid_split = _splits(dataset, config, log)
    for finding in dataset.findings:
        if finding.severity == "error":
            log(f"Dataset: {finding.message} {finding.fix}")

    base = load_base(config.model.base, device=accelerator.device)
    set_seed(training.seed)
    peft_model = lora.attach(base.model, config.lora)
    detector = Sam3Detector(base.model)
    detector.gradient_checkpointing(config.model.gradient_checkpointing)
    parameters = [parameter for parameter in peft_model.parameters() if parameter.requires_grad]

    asked = (base.processor, dataset.categories, config.data.num_negatives)
    train_data = SampleDataset(train_split, *asked, seed=training.seed, phrases=config.data.phrases)
    valid_loader = None
    if valid_split is not None:
        valid_loader = validation_loader(
            valid_split, *asked, training.batch_size, config.data.num_workers, config.data.phrases
        )

    length = plan(training, len(train_data), accelerator.num_processes)
    if length.warmup_steps < training.warmup_steps:
        log(f"The run has {length.total_steps} steps, so the warm-up is shortened to {length.warmup_steps}.")
    optimizer = torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,  # hundreds of small matrices: one kernel instead of a loop over them
    )
    scheduler = get_scheduler(SCHEDULES[training.schedule], optimizer, length.warmup_steps, length.total_steps)
    model, optimizer = accelerator.prepare(detector, optimizer)

    trainable = sum(parameter.numel() for parameter in parameters)
    log(
        f"{len(train_data)} images with {train_split.num_objects} objects; "
        f"{trainable:,} trainable parameters; {length.total_steps} steps on {accelerator.device}"
        + (f", {accelerator.num_processes} processes." if accelerator.num_processes > 1 else ".")
    )
    return Setup(
        config=config,
        accelerator=accelerator,
        detector=detector,
        model=model,
        peft_model=peft_model,
        loss=Sam3LossWrapper.from_config(config.loss),
        optimizer=optimizer,
        scheduler=scheduler,
        parameters=parameters,
        train_data=train_data,
        collate=Collator(base.processor),
        valid_loader=valid_loader,
        length=length,
    )


@dataclass(frozen=True)
class Length:
    """How many optimizer steps a run takes."""

    steps_per_epoch: int
    epochs: int
    total_steps: int
    warmup_steps: int


def plan(training: TrainingConfig, images: int, processes: int = 1) -> Length:
    """The length of a run over so many images; the warm-up takes at most half of it."""
    batch_count = math.ceil(images / (training.batch_size * processes))
    steps_per_epoch = math.ceil(batch_count / training.accumulation)
    total_steps = steps_per_epoch * training.epochs
    if training.max_steps is not None:
        total_steps = min(total_steps, training.max_steps)
    return Length(
        steps_per_epoch=steps_per_epoch,
        epochs=math.ceil(total_steps / steps_per_epoch),
        total_steps=total_steps,
        warmup_steps=min(training.warmup_steps, total_steps // 2),
    )


def batches(setup: Setup, epoch: int, skip: int) -> Iterator[list[Batch]]:
    """The epoch's optimizer steps from the skip-th on, each a list of batches to accumulate."""
    training, accelerator = setup.config.training, setup.accelerator
    setup.train_data.set_epoch(epoch)
    order = epoch_order(
        len(setup.train_data),
        training.batch_size,
        training.seed + epoch,
        accelerator.process_index,
        accelerator.num_processes,
    )
    workers = setup.config.data.num_workers
    loader = DataLoader(
        setup.train_data,
        batch_sampler=order[skip * training.accumulation :],
        collate_fn=setup.collate,
        num_workers=workers,
        # The loader must not draw from the global generator: a resumed run would then differ from an unbroken one.
        generator=torch.Generator().manual_seed(training.seed),
        # Forking a process that holds threads and a GPU is not safe.
        multiprocessing_context="spawn" if workers else None,
    )
    iterator = iter(loader)

    def take() -> list[Batch]:
        return [checked(batch) for batch in islice(iterator, training.accumulation)]

    # A thread loads the next step's images while the device computes this one's.
    with ThreadPoolExecutor(max_workers=1) as loading:
        coming = loading.submit(take)
        while group := coming.result():
            coming = loading.submit(take)
            yield group


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


def _splits(dataset: Dataset, config: RunConfig, log: Callable[[str], None]) -> tuple[Split, Split | None]:
    """The splits to learn from and to measure on, without the images whose files are missing."""
    train = _present(dataset.split(config.data.train_split), log)
    if train.num_objects == 0:
        reason = next((finding for finding in dataset.findings if finding.severity == "error"), None)
        raise DataError(
            f"The split '{train.name}' of {dataset.root} has no object to learn from"
            + (f": {reason.message}" if reason else ""),
            reason.fix if reason else "Open the dataset on the dataset page to see why",
        )
    if not config.data.valid_split:
        return train, None
    valid = (
        _present(dataset.splits[config.data.valid_split], log) if config.data.valid_split in dataset.splits else None
    )
    if valid is None or not valid.images:
        usable = ", ".join(name for name, split in dataset.splits.items() if split.present().images)
        raise ConfigError(
            f"Expected images in the split '{config.data.valid_split}' to validate on, but only {usable} have some",
            "Set data.valid_split to one of these, or to '' to train without validation",
        )
    return train, valid


def _present(split: Split, log: Callable[[str], None]) -> Split:
    present = split.present()
    missing = len(split.images) - len(present.images)
    if missing:
        log(f"{missing} images of the split '{split.name}' are missing and are left out.")
    return present
