"""The pre-flight: checks a configuration against data and device, and runs real steps before anything starts.

Nothing is left behind: no run's folder, no model in memory, no drawn random number.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from sam3_lora.config import RunConfig
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.records import Split
from sam3_lora.data.samples import Batch
from sam3_lora.errors import Sam3LoraError
from sam3_lora.train import memory
from sam3_lora.train.peak import PeakMemory
from sam3_lora.train.preflight.checks import (
    Problem,
    check_data,
    check_disk,
    check_settings,
    existing_parent,
    planned_length,
)
from sam3_lora.train.setup import (
    Setup,
    TrainPlan,
    device_lock,
    make_accelerator,
    make_schedule,
    one_at_a_time,
    prepare,
)
from sam3_lora.train.step import StepMetrics, take_step

_CURVE_POINTS = 200
# An image to measure on costs about a third of one to learn from: no backward pass.
_FORWARD_SHARE = 1 / 3
_LARGEST_TRIED = 64
_TIGHT = 0.5  # share of the memory beyond which it is worth knowing what needs less

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ComponentReceipt:
    """What of a component is trained: layers changed, parameters, and the gradient's norm after the real step."""

    name: str
    modules: int
    parameters: int
    gradient_norm: float


@dataclass(frozen=True)
class Saving:
    """A change that needs less memory, as measured.

    settings: dotted names and values; memory_bytes: the step's peak with it, None if it does not fit either;
    saved_bytes: how much less, None if the step as it is did not fit.
    """

    words: str
    settings: dict[str, object]
    memory_bytes: int | None
    saved_bytes: int | None


@dataclass(frozen=True)
class Measured:
    """The real steps. heaviest: the images of the heaviest batch; memory_bytes: its peak, None if it did not fit.

    seconds_per_step: of an ordinary batch; largest_batch: images that fit into one forward pass, at most 64;
    largest_batch_is_measured: tried out (on a GPU), otherwise estimated from the memory that is free.
    """

    heaviest: tuple[str, ...]
    memory_bytes: int | None
    available_bytes: int
    seconds_per_step: float | None
    total_seconds: float | None
    largest_batch: int
    largest_batch_is_measured: bool
    components: tuple[ComponentReceipt, ...]
    savings: tuple[Saving, ...]


@dataclass(frozen=True)
class Preflight:
    """All that is known before the start.

    learning_rates: (step, rate), the curve that the run will follow. measured, length: None if errors
    kept it from being run.
    """

    problems: tuple[Problem, ...]
    device: str
    length: TrainPlan | None
    effective_batch: int
    learning_rates: tuple[tuple[int, float], ...]
    measured: Measured | None

    @property
    def ok(self) -> bool:
        """Whether nothing keeps the run from starting and learning."""
        return all(problem.severity != "error" for problem in self.problems)


def preflight(config: RunConfig, progress: Progress | None = None) -> Preflight:
    """Checks a configuration and tries it out on its heaviest images.

    Args:
        progress: told the share done, in [0, 1], and what is being done, before each part; what it raises ends the
            pre-flight, which leaves nothing behind then either.

    Returns:
        What was found; a user's mistake is among its problems and raises nothing.
    """
    tell = progress or (lambda share, what: None)
    flight = _Flight(config, tell)
    try:
        with one_at_a_time(), _same_random_numbers_after():
            flight.run()
    except Sam3LoraError as error:
        flight.problems.append(Problem.of(error))
    finally:
        memory.free_unused()
    tell(1.0, "Done")
    return flight.result()


class _Flight:
    """Gathers what is found; what was found before an error stays."""

    def __init__(self, config: RunConfig, tell: Progress) -> None:
        self._config = config
        self._tell = tell
        self._effective = _images_per_step(config)
        self.problems: list[Problem] = []
        self._device = ""
        self._length: TrainPlan | None = None
        self._rates: tuple[tuple[int, float], ...] = ()
        self._measured: Measured | None = None

    def run(self) -> None:
        """Checks first, which is quick, then loads the model and tries it. Raises Sam3LoraError."""
        config = self._config
        accelerator = make_accelerator(config.training)
        self._device = str(accelerator.device)
        self._tell(0.0, "Reading the dataset")
        data = config.data
        dataset = open_dataset(data.path, images=data.image_dir, phrase=data.default_phrase)
        self.problems += check_data(config, dataset)
        self._length = planned_length(config, dataset)
        if self._length is not None:
            self._effective = _images_per_step(config, len(dataset.split(data.train_split).present().images))
            self.problems += check_settings(config, self._length, self._device)
            self._rates = learning_rates(config, self._length)
        existing_parent(config.output.runs_folder)
        with device_lock(accelerator.device), memory.explain_oom(config, accelerator.device):
            self._tell(0.1, "Loading the model")
            setup = prepare(config, accelerator, log=lambda line: None)
            try:
                self.problems += check_disk(config, sum(parameter.numel() for parameter in setup.parameters))
                self._measured = _measure(setup, self._tell)
            finally:
                accelerator.free_memory()  # else it would hold on to model and optimizer
        self.problems += _problems_of(self._measured, config, self._device)

    def result(self) -> Preflight:
        """The errors first among the problems."""
        problems = tuple(sorted(self.problems, key=lambda problem: problem.severity))
        return Preflight(problems, self._device, self._length, self._effective, self._rates, self._measured)


def _images_per_step(config: RunConfig, images: int | None = None) -> int:
    """What one step learns from, on each device; never more than there is."""
    asked = config.training.batch_size * config.training.gradient_accumulation_steps
    return asked if images is None else min(asked, images)


def learning_rates(config: RunConfig, length: TrainPlan) -> tuple[tuple[int, float], ...]:
    """The rate of each step that matters for a picture of the curve: (step, rate), steps from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=config.training.learning_rate)
    (factor,) = make_schedule(optimizer, config.training, length).lr_lambdas
    evenly = np.linspace(1, length.total_steps, min(_CURVE_POINTS, length.total_steps)).round()
    steps = sorted({*evenly.astype(int).tolist(), min(length.warmup_steps + 1, length.total_steps)})
    return tuple((step, config.training.learning_rate * factor(step - 1)) for step in steps)


def heaviest_first(split: Split) -> list[int]:
    """The images' indices, those with the most objects and phrases first: they need the most memory."""

    def weight(index: int) -> tuple[int, int]:
        objects = [item for item in split.images[index].annotations if not item.iscrowd]
        # Every phrase goes through the whole decoder, an object only through the loss.
        return len({item.category for item in objects}), len(objects)

    return sorted(range(len(split.images)), key=weight, reverse=True)


def _measure(setup: Setup, tell: Progress) -> Measured:
    training, device = setup.config.training, setup.accelerator.device
    order = heaviest_first(setup.train_split)
    available = memory.total_bytes(device)
    tell(0.4, "One real step on the heaviest images")
    heavy = _batch(setup, order[: training.batch_size])
    before = memory.used_bytes(device)
    peak, outcome, _ = _try_step(setup, heavy)
    seconds = None
    if outcome is not None:
        tell(0.6, "One step on ordinary images")
        middle = max(0, len(order) // 2 - training.batch_size // 2)
        ordinary = order[middle : middle + training.batch_size]
        *_, seconds = _try_step(setup, _batch(setup, ordinary))
        per_step = _images_per_step(setup.config, len(order))
        seconds = None if seconds is None else seconds * per_step / len(ordinary)
    is_gpu = device.type == "cuda"
    tell(0.7, "The largest batch that fits")
    largest = (
        _largest_batch(setup, order, tell) if is_gpu else _estimated_batch(training.batch_size, before, peak, available)
    )
    tight = peak is None or peak > _TIGHT * available
    return Measured(
        heaviest=tuple(image.file_name for image in heavy.images),
        memory_bytes=peak,
        available_bytes=available,
        seconds_per_step=seconds,
        total_seconds=None if seconds is None else _total_seconds(setup, seconds),
        largest_batch=largest,
        largest_batch_is_measured=is_gpu,
        components=() if outcome is None else _receipts(setup, outcome),
        savings=tuple(_savings(setup, order, peak, tell)) if tight else (),
    )


def _batch(setup: Setup, indices: list[int]) -> Batch:
    return setup.collate([setup.train_data[index] for index in indices])


def _try_step(setup: Setup, batch: Batch) -> tuple[int | None, StepMetrics | None, float | None]:
    """Peak memory in bytes, what the step did, seconds; all None if it does not fit."""
    setup.detector.train()
    setup.loss.train()
    memory.free_unused()
    began = time.perf_counter()
    with PeakMemory(setup.accelerator.device) as peak:
        outcome = take_step(setup, [batch], by_component=True)
    seconds = time.perf_counter() - began
    return (None, None, None) if outcome is None else (peak.bytes, outcome, seconds)


def _largest_batch(setup: Setup, order: list[int], tell: Progress) -> int:
    """Doubles the batch until it does not fit any more; 0 if not even one image does."""
    fits, size = 0, 1
    while size <= min(_LARGEST_TRIED, len(order)):
        tell(0.7, f"A batch of {size}")
        if _try_step(setup, _batch(setup, order[:size]))[0] is None:
            break
        fits, size = size, size * 2
    return fits


def _estimated_batch(batch_size: int, before: int, peak: int | None, available: int) -> int:
    """How many images the free memory holds, if each needs as much as each of this batch did."""
    if peak is None:
        return 0 if batch_size == 1 else 1
    per_image = max(peak - before, 1) / batch_size
    return max(batch_size, min(_LARGEST_TRIED, int((available - before) / per_image)))


def _total_seconds(setup: Setup, seconds_per_step: float) -> float:
    """Steps and evaluations; loading images goes on beside them."""
    length = setup.length
    images = 0 if setup.valid_split is None else len(setup.valid_split.images)
    per_image = seconds_per_step / _images_per_step(setup.config, len(setup.train_data)) * _FORWARD_SHARE
    return length.total_steps * seconds_per_step + length.epochs * images * per_image


def _receipts(setup: Setup, outcome: StepMetrics) -> tuple[ComponentReceipt, ...]:
    modules = dict.fromkeys(setup.components, 0)
    for name in setup.adapted_modules():
        modules[name] += 1
    return tuple(
        ComponentReceipt(
            name, modules[name], sum(parameter.numel() for parameter in parameters), outcome.by_component[name]
        )
        for name, parameters in setup.components.items()
    )


def _savings(setup: Setup, order: list[int], peak: int | None, tell: Progress) -> Iterator[Saving]:
    """Tries what needs less memory, each change by itself."""
    batch_size = setup.config.training.batch_size
    for number, (words, settings) in enumerate(memory.smaller_settings(setup.config).items()):
        tell(0.75 + 0.06 * number, f"With this change: {words}")
        with _changed(setup, settings):
            size = settings.get("training.batch_size", batch_size)
            needed = _try_step(setup, _batch(setup, order[:size]))[0]
        saved = None if peak is None or needed is None else max(0, peak - needed)
        yield Saving(words, settings, needed, saved)


@contextmanager
def _changed(setup: Setup, settings: dict[str, object]) -> Iterator[None]:
    """The model as it would be with other settings."""
    frozen = set(setup.components) - set(settings.get("lora.components", setup.components))
    parameters = [parameter for name in frozen for parameter in setup.components[name]]
    checkpointing = setup.config.model.gradient_checkpointing
    setup.detector.gradient_checkpointing(settings.get("model.gradient_checkpointing", checkpointing))
    for parameter in parameters:
        parameter.requires_grad_(False)
    bf16 = torch.autocast(
        setup.accelerator.device.type, torch.bfloat16, enabled=settings.get("training.precision") == "bf16"
    )
    try:
        with bf16:
            yield
    finally:
        setup.detector.gradient_checkpointing(checkpointing)
        for parameter in parameters:
            parameter.requires_grad_(True)


def _problems_of(measured: Measured, config: RunConfig, device: str) -> Iterator[Problem]:
    if measured.memory_bytes is None:
        helpful = [saving.words for saving in measured.savings if saving.memory_bytes is not None]
        yield Problem(
            "error",
            f"A step on the heaviest images does not fit into the memory of {device} "
            f"({measured.available_bytes / 1e9:.1f} GB).",
            f"One of these makes it fit: {'; '.join(helpful)}." if helpful else f"{memory.advice(config)}.",
        )
    elif measured.memory_bytes > 0.9 * measured.available_bytes:
        yield Problem(
            "warning",
            f"The heaviest step takes {measured.memory_bytes / 1e9:.1f} of {measured.available_bytes / 1e9:.1f} GB: it "
            "may not fit later.",
            f"{memory.advice(config)}.",
        )
    for component in measured.components:
        if component.gradient_norm == 0 or not math.isfinite(component.gradient_norm):
            yield Problem(
                "error",
                f"No gradient reaches {component.name}: its {component.modules} adapted modules would stay as they "
                "are, a silent no-op.",
                "Give the loss terms that it serves a weight, or take it out of lora.components.",
            )


@contextmanager
def _same_random_numbers_after() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
