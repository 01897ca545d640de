"""The pre-flight: checks a configuration against data and device, and runs real steps before anything starts.

Nothing is left behind: no run's folder, no model in memory, no drawn random number.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.records import Split
from sam3_lora.data.samples import Batch, checked
from sam3_lora.data.splits.holdout import HeldOut
from sam3_lora.data.splits.split_use import SplitUse
from sam3_lora.data.tiles.cut import TiledImages, tiled
from sam3_lora.errors import Sam3LoraError
from sam3_lora.runs.auto_values import AutoValue
from sam3_lora.tiles import tiling_of
from sam3_lora.train import memory
from sam3_lora.train.accelerator import device_lock, make_accelerator, one_at_a_time
from sam3_lora.train.checkpoint import random_state, restore_random
from sam3_lora.train.data_loaders import TrainingData
from sam3_lora.train.optimizer import TrainPlan, make_plan, make_schedule
from sam3_lora.train.preflight.checks import (
    Problem,
    check_data,
    check_dataset,
    check_disk,
    check_images,
    check_settings,
    check_tiles,
    existing_parent,
)
from sam3_lora.train.resolve import resolve
from sam3_lora.train.setup import Setup, prepare
from sam3_lora.train.splits import choose_held_out, open_splits
from sam3_lora.train.step import StepMetrics, take_step

_CURVE_POINTS = 200
_FORWARD_SHARE = 1 / 3  # of a step's time: validation has no backward pass
_TIGHT = 0.5  # share of the memory beyond which smaller settings are measured
_ALMOST_FULL = 0.9

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ComponentReceipt:
    """What is trained of a component."""

    name: str
    modules: int  # adapted layers
    parameters: int
    gradient_norm: float  # in the step on the heaviest images


@dataclass(frozen=True)
class Saving:
    """A change of settings that needs less memory, as measured."""

    settings: dict[str, Any]  # see :func:`sam3_lora.train.memory.describe_change`
    memory_bytes: int | None  # the step's peak with it; None if it does not fit either
    saved_bytes: int | None  # None if the step without the change did not fit


@dataclass(frozen=True)
class Measured:
    """What the real steps showed."""

    heaviest: tuple[str, ...]  # file names of the heaviest batch
    has_masks: bool  # whether an object in it has a mask
    memory_bytes: int | None  # its peak; None if it did not fit
    available_bytes: int
    seconds_per_step: float | None  # of an ordinary batch
    total_seconds: float | None
    largest_batch: int  # images that fit into one forward pass, at most 64
    largest_batch_is_measured: bool  # on a GPU; otherwise estimated from the free memory
    components: tuple[ComponentReceipt, ...]
    savings: tuple[Saving, ...]


@dataclass
class Preflight:
    """All that is known before the start; what follows after an error keeps its default."""

    effective_batch: int  # images per step and device
    problems: list[Problem] = field(default_factory=list)  # errors first
    device: str = ""
    splits: SplitUse | None = None
    tiles: TiledImages | None = None  # None: images are whole
    auto: tuple[AutoValue, ...] = ()  # what settings that are auto would get
    length: TrainPlan | None = None
    learning_rates: tuple[tuple[int, float], ...] = ()  # (step, rate): the curve of the learning-rate schedule
    measured: Measured | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(problem.severity != "error" for problem in self.problems)


def preflight(config: RunConfig, progress: Progress | None = None) -> Preflight:
    """Checks a configuration and takes real steps on its heaviest images.

    Args:
        config: what to check.
        progress: called with the share done, in [0, 1], and a description before each part; an exception that it raises
            ends the pre-flight.

    Returns:
        The results; a user's mistake is among the problems and raises nothing.
    """
    progress = progress or (lambda share, doing: None)
    result = Preflight(_images_per_step(config))
    try:
        with one_at_a_time(), _same_random_numbers_after():
            _run(result, config, progress)
    except Sam3LoraError as error:
        result.problems.append(Problem("error", "error", cause=error))
    finally:
        memory.free_unused()
    progress(1.0, "Done")
    result.problems.sort(key=lambda problem: problem.severity)
    return result


def _run(result: Preflight, config: RunConfig, progress: Progress) -> None:
    """Fills the result: the quick checks first, then the model. Raises Sam3LoraError."""
    accelerator = make_accelerator(config.training)
    result.device = str(accelerator.device)
    progress(0.0, "Reading the dataset")
    dataset = open_dataset(**config.data.reading)
    result.problems += check_dataset(config, dataset)

    def choose(train: Split) -> HeldOut:
        return choose_held_out(config, train, _ignore, lambda share, doing: progress(0.1 * share, doing))

    splits = open_splits(config, _ignore, choose, dataset=dataset)
    result.splits = splits.use
    result.problems += check_data(config, splits)
    progress(0.1, "Opening images")
    result.problems += check_images(splits)
    resolved, result.auto = resolve(config, accelerator.device, splits)
    result.problems += check_tiles(resolved, splits)
    tiles = tiled(splits.train.images, tiling_of(resolved.data))
    result.tiles, images = tiles if isinstance(tiles, TiledImages) else None, len(tiles)
    result.length = make_plan(resolved.training, images)
    result.effective_batch = _images_per_step(config, images)
    result.problems += check_settings(resolved, result.length, result.device)
    result.learning_rates = learning_rates(config, result.length)
    existing_parent(config.output.runs_folder)
    with device_lock(accelerator.device), memory.explain_oom(resolved, accelerator.device):
        progress(0.1, "Loading the model")
        setup = prepare(resolved, accelerator, _ignore, splits=splits)
        try:
            result.problems += check_disk(config, setup.model.num_trainable)
            result.measured = _measure(setup, progress)
        finally:
            accelerator.free_memory()  # else it would hold on to model and optimizer
    result.problems += _problems_of(result.measured)


def _ignore(line: str) -> None:
    """In place of a run's log."""


def _images_per_step(config: RunConfig, images: int | None = None) -> int:
    """Images of a step on each device; not more than the split has, where that is known."""
    per_step = config.training.images_per_step
    return per_step if images is None else min(per_step, images)


def learning_rates(config: RunConfig, plan: TrainPlan) -> tuple[tuple[int, float], ...]:
    """The learning-rate schedule as a curve: (step, rate) at up to 200 steps, counted from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=config.training.learning_rate)
    (factor,) = make_schedule(optimizer, config.training, plan).lr_lambdas
    evenly = np.linspace(1, plan.total_steps, min(_CURVE_POINTS, plan.total_steps)).round()
    steps = sorted({*evenly.astype(int).tolist(), min(plan.warmup_steps + 1, plan.total_steps)})
    return tuple((step, config.training.learning_rate * factor(step - 1)) for step in steps)


def heaviest_first(data: TrainingData) -> list[int]:
    """The indices of the samples, those with the most phrases and objects first: they need the most memory."""
    if (tiles := data.tiles) is not None:
        order: list[int] = np.lexsort((-tiles.num_objects, -tiles.num_phrases)).tolist()
        return order
    split = data.splits.train

    def weight(index: int) -> tuple[int, int]:
        objects = [item for item in split.images[index].annotations if not item.iscrowd]
        # Every phrase goes through the whole decoder, an object only through the loss.
        return len({item.category for item in objects}), len(objects)

    return sorted(range(len(split.images)), key=weight, reverse=True)


def _measure(setup: Setup, progress: Progress) -> Measured:
    training, device = setup.config.training, setup.accelerator.device
    order = heaviest_first(setup.data)
    available = memory.total_bytes(device)
    progress(0.4, "One real step on the heaviest images")
    heavy = _batch(setup, order[: training.batch_size])
    replayed, asking_s = _replayed(setup)
    before = memory.used_bytes(device)
    peak, metrics, _ = _try_step(setup, heavy, replayed)
    seconds = None
    if metrics is not None:
        progress(0.6, "One step on ordinary images")
        middle = max(0, len(order) // 2 - training.batch_size // 2)
        ordinary = order[middle : middle + training.batch_size]
        *_, seconds = _try_step(setup, _batch(setup, ordinary), replayed)
        per_step = _images_per_step(setup.config, len(order))
        seconds = None if seconds is None else seconds * per_step / len(ordinary)
    is_gpu = device.type == "cuda"
    progress(0.7, "The largest batch that fits")
    largest = (
        _largest_batch(setup, order, progress)
        if is_gpu
        else _estimated_batch(training.batch_size, before, peak, available)
    )
    tight = peak is None or peak > _TIGHT * available
    return Measured(
        heaviest=tuple(image.file_name for image in heavy.images),
        has_masks=bool(heavy.targets.mask_valid.any()),
        memory_bytes=peak,
        available_bytes=available,
        seconds_per_step=seconds,
        total_seconds=None if seconds is None else asking_s + _total_seconds(setup, seconds),
        largest_batch=largest,
        largest_batch_is_measured=is_gpu,
        components=() if metrics is None else _receipts(setup, metrics),
        savings=tuple(_savings(setup, order, peak, progress)) if tight else (),
    )


def _batch(setup: Setup, indices: list[int]) -> Batch:
    samples = setup.data.samples
    if setup.vision is not None:  # a step of the run finds its images there
        for _ in setup.vision.fill([samples], [(0, index) for index in indices]):
            pass
    return checked(setup.data.collate([samples[index] for index in indices]))


def _replayed(setup: Setup) -> tuple[list[Batch], float]:
    """What a step replays, and the seconds in which the base model will be asked; nothing where replay is off.

    Raises:
        DataError: no image can be replayed.
    """
    replay = setup.data.replay
    if replay is None:
        return [], 0.0
    count, began = len(replay.images), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in replay.fill(setup, Path(folder), lambda _: None, images=setup.config.replay.images_per_step):
            pass
        seconds = (time.perf_counter() - began) / len(replay.images) * count
        replay.close_filling()
        group = replay.group(1)
        replay.close()
    return group, seconds


def _try_step(
    setup: Setup, batch: Batch, replayed: Sequence[Batch] = ()
) -> tuple[int | None, StepMetrics | None, float | None]:
    """Peak memory in bytes, the step's metrics, seconds; all None if it does not fit."""
    setup.train_mode()
    memory.free_unused()
    began = time.perf_counter()
    with memory.PeakMemory(setup.accelerator.device) as peak:
        metrics = take_step(setup, [batch], by_component=True, replayed=replayed)
    seconds = time.perf_counter() - began
    return (None, None, None) if metrics is None else (peak.bytes, metrics, seconds)


def _largest_batch(setup: Setup, order: list[int], progress: Progress) -> int:
    """Doubles the batch until it does not fit any more; 0 if not even one image does."""
    fits, size = 0, 1
    while size <= min(memory.MAX_BATCH, len(order)):
        progress(0.7, f"A batch of {size}")
        if _try_step(setup, _batch(setup, order[:size]))[0] is None:
            break
        fits, size = size, size * 2
    return fits


def _estimated_batch(batch_size: int, before: int, peak: int | None, available: int) -> int:
    """How many images the free memory holds, if each needs as much as each of this batch did."""
    if peak is None:
        return 0 if batch_size == 1 else 1
    per_image = max(peak - before, 1) / batch_size
    return max(batch_size, min(memory.MAX_BATCH, int((available - before) / per_image)))


def _total_seconds(setup: Setup, seconds_per_step: float) -> float:
    """Steps and validations; images are loaded meanwhile."""
    valid, plan = setup.data.valid_samples, setup.plan
    images = 0 if valid is None else len(valid)
    if valid is not None and setup.data.tiles is not None:  # the loss is of tiles, what is found of whole images
        images += _validation_tiles(setup)
    per_image = seconds_per_step / _images_per_step(setup.config, len(setup.data.samples)) * _FORWARD_SHARE
    return plan.total_steps * seconds_per_step + plan.epochs * images * per_image


def _validation_tiles(setup: Setup) -> int:
    """All tiles of the images to validate on."""
    valid, tiling = setup.data.splits.valid, tiling_of(setup.config.data)
    assert valid is not None and tiling is not None, "the run validates in tiles"
    return sum(tiling.count((height, width)) for width, height in valid.images.sizes_wh.tolist())


def _receipts(setup: Setup, metrics: StepMetrics) -> tuple[ComponentReceipt, ...]:
    modules = Counter(setup.model.adapted_modules())
    norms = metrics.grad_norm_by_component or {}
    return tuple(
        ComponentReceipt(name, modules[name], sum(parameter.numel() for parameter in parameters), norms[name])
        for name, parameters in setup.model.components.items()
    )


def _savings(setup: Setup, order: list[int], peak: int | None, progress: Progress) -> Iterator[Saving]:
    """Measures each change that needs less memory, by itself."""
    for number, settings in enumerate(memory.smaller_settings(setup.config)):
        progress(0.75 + 0.06 * number, f"With this change: {memory.describe_change(settings)}")
        with _changed(setup, settings):
            size = settings.get("training.batch_size", setup.config.training.batch_size)
            needed = _try_step(setup, _batch(setup, order[:size]))[0]
        saved = None if peak is None or needed is None else max(0, peak - needed)
        yield Saving(settings, needed, saved)


@contextmanager
def _changed(setup: Setup, settings: dict[str, Any]) -> Iterator[None]:
    """The model with other settings."""
    model, checkpointing = setup.model, setup.config.model.gradient_checkpointing
    frozen = set(model.components) - set(settings.get("lora.components", model.components))
    parameters = [parameter for name in frozen for parameter in model.components[name]]
    model.detector.gradient_checkpointing(settings.get("model.gradient_checkpointing", checkpointing))
    for parameter in parameters:
        parameter.requires_grad_(False)
    bf16 = torch.autocast(
        setup.accelerator.device.type, torch.bfloat16, enabled=settings.get("training.precision") == "bf16"
    )
    try:
        with bf16:
            yield
    finally:
        model.detector.gradient_checkpointing(checkpointing)
        for parameter in parameters:
            parameter.requires_grad_(True)


def _problems_of(measured: Measured) -> Iterator[Problem]:
    available = measured.available_bytes
    if measured.memory_bytes is None:
        fitting = tuple(saving.settings for saving in measured.savings if saving.memory_bytes is not None)
        yield Problem("out-of-memory", "error", limit=available, changes=fitting)
    elif measured.memory_bytes > _ALMOST_FULL * available:
        yield Problem("memory-almost-full", "warning", measured.memory_bytes, available)
    for component in measured.components:
        if component.name == "mask_decoder" and not measured.has_masks:
            continue  # says nothing about the other images; check_masks() looks at all
        if component.gradient_norm == 0 or not math.isfinite(component.gradient_norm):
            yield Problem("no-gradient", "error", component.modules, names=(component.name,))


@contextmanager
def _same_random_numbers_after() -> Iterator[None]:
    state = random_state()
    try:
        yield
    finally:
        restore_random(state)
