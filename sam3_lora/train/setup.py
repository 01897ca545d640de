"""Everything fit() needs before its first step: data, model, loss, optimizer, schedule and device."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.utils.data import DataLoader

from sam3_lora.config import RunConfig, TrainingConfig
from sam3_lora.data.dataset import Dataset, Split, open_dataset
from sam3_lora.data.samples import Batch, Collator, SampleDataset
from sam3_lora.errors import ConfigError, DataError, RunError
from sam3_lora.evaluate.validation_loss import validation_loader
from sam3_lora.loss import Sam3LossWrapper
from sam3_lora.model import lora
from sam3_lora.model.base import LoadedModel, load_base, resolve_device
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.warm_start import start_from
from sam3_lora.runs.fingerprint import fingerprint
from sam3_lora.text import plural
from sam3_lora.train.train_loader import TrainLoader

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


# Only the main process validates; the others wait for it, however long it takes.
_PATIENCE = timedelta(hours=12)
_in_this_process = threading.Lock()


@dataclass
class Setup:
    """A run made ready.

    model is the detector as accelerate wraps it, detector the plain one; components: the trainable
    parameters by component; fingerprint: of the dataset, see :mod:`sam3_lora.runs.fingerprint`.
    """

    config: RunConfig
    accelerator: Any
    base: LoadedModel
    detector: Sam3Detector
    model: nn.Module
    peft_model: Any
    loss: Sam3LossWrapper
    optimizer: Any
    scheduler: Any
    components: dict[str, list[nn.Parameter]]
    train_split: Split
    valid_split: Split | None
    categories: tuple[str, ...]
    fingerprint: dict[str, str]
    train_data: SampleDataset
    collate: Collator
    train_loader: TrainLoader
    valid_loader: DataLoader | None
    length: TrainPlan

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [parameter for of_component in self.components.values() for parameter in of_component]

    def first_batch(self) -> Batch:
        """The first image with objects, of those to measure on if there are any."""
        split = self.valid_split or self.train_split
        data = self.train_data if self.valid_loader is None else self.valid_loader.dataset
        index = next((number for number, image in enumerate(split.images) if image.annotations), 0)
        return self.collate([data[index]])

    def adapted_modules(self) -> list[str]:
        """The component of each layer that the adapter changes."""
        return [
            component
            for name, _ in self.peft_model.named_parameters()
            if ".lora_A." in name and (component := lora.component_of(name)) is not None
        ]

    def save_adapter(self, folder: Path, card: str) -> None:
        """Saves the adapter with its model card, in the main process."""
        if self.accelerator.is_main_process:
            lora.save(self.peft_model, folder, self.config.model.base, card)


def make_accelerator(training: TrainingConfig) -> Any:
    """The process's accelerate.Accelerator. Raises ModelError or ConfigError if the device cannot do what is asked."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    device = resolve_device(training.device)
    if training.precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"fp16 needs a CUDA GPU, but the device is {device}", "Set training.precision to fp32 or bf16"
        )
    if PartialState._shared_state and PartialState().num_processes == 1:
        # accelerate keeps its state in the process; an earlier run may have used another device or precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cpu":
        limit_cpu_threads()
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if training.precision == "fp32" else training.precision,
        # Without an object that has a mask, the mask decoder gets no gradient in that step.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
        step_scheduler_with_optimizer=False,
    )


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds this process for one run or pre-flight: accelerate keeps its state in the process, and would mix two up.

    Raises:
        RunError: another one is going on in this process.
    """
    if not _in_this_process.acquire(blocking=False):
        raise RunError("Another run is being trained in this app", "Stop it or wait for its end")
    try:
        yield
    finally:
        _in_this_process.release()


def limit_cpu_threads() -> None:
    """Computes with one core less than there are: the thread that loads the next images and the app need one, and
    a step that waits for its slowest core takes longer with all of them than without that one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - 1)))


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


def prepare(config: RunConfig, accelerator: Any, log: Callable[[str], None], *, fresh: bool = True) -> Setup:
    """Loads data and model, attaches the adapter and makes optimizer and schedule.

    Args:
        log: told in words what is worth knowing.
        fresh: whether the adapter's first weights are needed; a resumed run has its own in a checkpoint.

    Raises:
        Sam3LoraError: whatever of it cannot be had, with the fix.
    """
    from accelerate.utils import set_seed

    training, data = config.training, config.data
    dataset = open_dataset(data.path, images=data.image_dir, phrase=data.default_phrase)
    train_split, valid_split = _splits(dataset, config, log)
    for finding in dataset.findings:
        if finding.severity == "error":
            log(f"Dataset: {finding.message} {finding.fix}")

    base = load_base(config.model.base, device=accelerator.device)
    set_seed(training.seed)
    peft_model = lora.attach(base.model, config.lora)
    if config.model.adapter and fresh:
        start_from(peft_model, Path(config.model.adapter).expanduser(), config.lora)
        log(f"The adapter goes on from {config.model.adapter}.")
    if accelerator.process_index > 0:  # the same adapter everywhere, but each process draws its own dropout
        set_seed(training.seed + accelerator.process_index)
    detector = Sam3Detector(base.model)
    detector.gradient_checkpointing(config.model.gradient_checkpointing)
    components = trainable_by_component(peft_model)

    asked = (base.processor, dataset.categories, data.num_negatives)
    train_data = SampleDataset(train_split, *asked, seed=training.seed, phrases=data.category_phrases, flip=data.flip)
    collate = Collator(base.processor)
    valid_loader = None
    if valid_split is not None:
        valid_loader = validation_loader(
            valid_split, *asked, training.batch_size, data.num_workers, data.category_phrases
        )

    length = plan(training, len(train_data), accelerator.num_processes)
    if length.warmup_steps < training.warmup_steps:
        log(
            f"The run has only {plural(length.total_steps, 'step')}, and the warm-up may take half of it: it is "
            f"shortened from {training.warmup_steps:,} to {plural(length.warmup_steps, 'step')}."
        )
    optimizer = torch.optim.AdamW(
        [parameter for parameters in components.values() for parameter in parameters],
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,  # hundreds of small matrices: one kernel instead of a loop over them
    )
    scheduler = make_schedule(optimizer, training, length)
    model, optimizer = accelerator.prepare(detector, optimizer)

    trainable = sum(parameter.numel() for parameters in components.values() for parameter in parameters)
    log(
        f"{len(train_data)} images with {train_split.num_objects} objects; "
        f"{trainable:,} trainable parameters; {plural(length.total_steps, 'step')} on {accelerator.device}"
        + (f", {accelerator.num_processes} processes." if accelerator.num_processes > 1 else ".")
    )
    return Setup(
        config=config,
        accelerator=accelerator,
        base=base,
        detector=detector,
        model=model,
        peft_model=peft_model,
        loss=Sam3LossWrapper.from_config(config.loss),
        optimizer=optimizer,
        scheduler=scheduler,
        components=components,
        train_split=train_split,
        valid_split=valid_split,
        categories=dataset.categories,
        fingerprint=fingerprint(split for split in (train_split, valid_split) if split is not None),
        train_data=train_data,
        collate=collate,
        train_loader=TrainLoader(train_data, collate, config, accelerator.process_index, accelerator.num_processes),
        valid_loader=valid_loader,
        length=length,
    )


def trainable_by_component(peft_model: Any) -> dict[str, list[nn.Parameter]]:
    """The parameters that learn, by component, in the model's order."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad:
            found.setdefault(lora.component_of(name) or "other", []).append(parameter)
    return found


def make_schedule(optimizer: Any, training: TrainingConfig, length: TrainPlan) -> Any:
    """The learning rate's course over a run, as transformers' scheduler."""
    from transformers import get_scheduler

    return get_scheduler(SCHEDULES[training.schedule], optimizer, length.warmup_steps, length.total_steps)


@dataclass(frozen=True)
class TrainPlan:
    """How many optimizer steps a run takes."""

    steps_per_epoch: int
    epochs: int
    total_steps: int
    warmup_steps: int


def plan(training: TrainingConfig, images: int, processes: int = 1) -> TrainPlan:
    """The length of a run over so many images; the warm-up takes at most half of it."""
    batch_count = math.ceil(images / (training.batch_size * processes))
    steps_per_epoch = math.ceil(batch_count / training.gradient_accumulation_steps)
    total_steps = steps_per_epoch * training.epochs
    if training.max_steps is not None:
        total_steps = min(total_steps, training.max_steps)
    return TrainPlan(
        steps_per_epoch=steps_per_epoch,
        epochs=math.ceil(total_steps / steps_per_epoch),
        total_steps=total_steps,
        warmup_steps=min(training.warmup_steps, total_steps // 2),
    )


def _splits(dataset: Dataset, config: RunConfig, log: Callable[[str], None]) -> tuple[Split, Split | None]:
    """The splits to learn from and to measure on, without the images whose files are missing."""
    train = _present(dataset.split(config.data.train_split, "data.train_split"), log)
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
            dataset.split_fix(config.data.valid_split, "data.valid_split")
            or "Set data.valid_split to one of these, or to '' to train without validation",
        )
    return train, valid


def _present(split: Split, log: Callable[[str], None]) -> Split:
    present = split.present()
    missing = len(split.images) - len(present.images)
    if missing:
        verb = "is missing and is" if missing == 1 else "are missing and are"
        log(f"{plural(missing, 'image')} of the split '{split.name}' {verb} left out.")
    return present
