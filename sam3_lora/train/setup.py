"""Everything fit() needs before its first step: data, model, loss, optimizer and schedule, tied together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from sam3_lora.config import RunConfig
from sam3_lora.data.samples import Batch, LeftOut
from sam3_lora.errors import first_line
from sam3_lora.loss import LossReport, Sam3LossWrapper, replay_loss
from sam3_lora.model import kept_text, lora
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.base import LoadedModel, load_base
from sam3_lora.model.detector import Sam3Detector
from sam3_lora.model.precision import convert_frozen
from sam3_lora.model.warm_start import start_from
from sam3_lora.predict.vision_cache import VisionCache, can_cache
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.status import Preparation
from sam3_lora.structures import Detections
from sam3_lora.text import plural
from sam3_lora.tiles import tiling_of
from sam3_lora.train.accelerator import from_main
from sam3_lora.train.data_loaders import TrainingData, make_data
from sam3_lora.train.memory import is_out_of_memory
from sam3_lora.train.optimizer import TrainPlan, make_optimizer, make_plan, make_schedule
from sam3_lora.train.preflight.checks import check_masks, check_settings
from sam3_lora.train.preflight.messages import describe
from sam3_lora.train.resolve import reads_vision_cache, resolve
from sam3_lora.train.splits import Splits, open_splits

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel


@dataclass
class AdaptedModel:
    """The base model with the adapter that is trained."""

    base: LoadedModel
    peft: PeftModel
    detector: Sam3Detector
    components: dict[str, list[nn.Parameter]]  # the trainable parameters by component

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters."""
        return [parameter for of_component in self.components.values() for parameter in of_component]

    @property
    def num_trainable(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    def adapted_modules(self) -> list[str]:
        """The component of each layer that the adapter changes."""
        names = (name for name, _ in self.peft.named_parameters() if ".lora_A." in name)
        return [component for name in names if (component := lora.component_of(name)) is not None]


class Objective(nn.Module):
    """Detector and loss as one module.

    The loss asks the detector for the masks of matched queries. Several processes average gradients of what one forward
    pass has used, so the mask decoder has to run within it.
    """

    def __init__(self, detector: Sam3Detector, loss: Sam3LossWrapper, replay_weight: float = 1.0) -> None:
        super().__init__()
        self.detector = detector
        self.loss = loss
        self.replay_weight = replay_weight

    def forward(self, batch: Batch) -> tuple[Detections, LossReport]:
        """The detections of a batch, with a mask head, and their loss; that of replay where the phrases are replayed.

        Args:
            batch: on the model's device.
        """
        if batch.soft is not None:
            detections = self.detector(*batch.inputs, masks=False, one_to_many=False)
            return detections, replay_loss(detections, batch.soft, self.replay_weight)
        detections = self.detector(*batch.inputs, masks=False)
        return detections, self.loss(detections, batch.targets)


@dataclass
class Setup:
    """A run before its first step."""

    config: ResolvedConfig
    accelerator: Accelerator
    data: TrainingData
    model: AdaptedModel
    objective: Objective
    wrapped: nn.Module  # the objective as accelerate wraps it, for the forward passes of training
    plan: TrainPlan
    optimizer: Any  # AdamW as accelerate wraps it
    scheduler: LambdaLR
    vision: VisionCache | None = None  # None: images are encoded in every step

    def train_mode(self, mode: bool = True) -> None:
        """Puts model and loss into training mode, or into evaluation mode: dropout, one-to-many queries."""
        self.objective.train(mode)

    def forward(self, objective: nn.Module, batch: Batch) -> tuple[Detections, LossReport]:
        """The detections of a batch and their loss, in the run's precision.

        Args:
            objective: this one's, or as accelerate wraps it.
            batch: on any device.
        """
        batch = self.on_device(batch)
        with self.accelerator.autocast():
            found: tuple[Detections, LossReport] = objective(batch)
        return found

    def on_device(self, batch: Batch) -> Batch:
        """A batch of any device on the run's, with what the vision cache lacks."""
        batch = batch.to(self.accelerator.device, non_blocking=True)
        return batch if self.vision is None else self.vision.complete(batch)

    def preparations(
        self, folder: Path, log: Callable[[str], None], left_out: Callable[[LeftOut], None]
    ) -> Iterator[Preparation]:
        """Computes what the steps read; in every one of several processes this yields equally often.

        Images that are not in the vision cache yet go through the encoder; then the base model is asked what is to be
        replayed and not known yet.

        Args:
            folder: of the base model's answers.
            log: gets a line on each.
            left_out: called with each image that cannot be replayed because it cannot be loaded.

        Raises:
            RunError: the answers cannot be written.
            DataError: no image can be replayed.
        """
        accelerator = self.accelerator
        if self.vision is not None:
            self.train_mode(False)
            stage: Literal["looking", "encoding"] = "looking"
            rank, world = accelerator.process_index, accelerator.num_processes
            for at in self.vision.fill(self.data.every_split, None, partial(from_main, accelerator), rank, world):
                if stage == "looking" and at.plan is not None:
                    stage = "encoding"
                    log(at.plan.sentence)
                yield Preparation(stage=stage, done=at.done, total=at.total)
        if (replay := self.data.replay) is not None:
            total = len(replay.images)
            for done in replay.fill(self, folder, left_out):
                yield Preparation(stage="asking", done=done, total=total)
            accelerator.wait_for_everyone()
            replay.close_filling()
            log(f"Replay: {plural(len(replay.images), 'image')} with the base model's answers.")

    def save_adapter(self, folder: Path, card: str) -> None:
        """Saves the adapter with its model card; only the main process writes."""
        if self.accelerator.is_main_process:
            model, taught = self.config.model, self.data.splits.taught_phrases(self.config.data.category_phrases)
            tiles = tiling_of(self.config.data)
            lora.save(self.model.peft, folder, model.base, card, processor=model.processor, taught=taught, tiles=tiles)


def prepare(
    config: RunConfig,
    accelerator: Accelerator,
    log: Callable[[str], None],
    *,
    fresh: bool = True,
    splits: Splits | None = None,
) -> Setup:
    """Loads data and model, attaches the adapter and makes optimizer and schedule.

    Args:
        config: the run's; what is still auto is resolved.
        accelerator: see :func:`sam3_lora.train.accelerator.make_accelerator`.
        log: gets a line for whatever is worth knowing.
        fresh: whether the adapter's first weights are needed; a resumed run has its own in a checkpoint.
        splits: the images; None to open the dataset.

    Raises:
        Sam3LoraError: dataset, model or device cannot be used, with the fix.
    """
    splits = splits or open_splits(config, log)
    config, _ = resolve(config, accelerator.device, splits)
    training, processes = config.training, accelerator.num_processes
    model = make_model(config, accelerator, log, fresh)
    on_gpu = accelerator.device.type == "cuda"
    data = make_data(config, splits, model.base.processor, accelerator.process_index, processes, pin_memory=on_gpu)
    plan = make_plan(training, len(data.samples), processes)
    problems = [*check_settings(config, plan, str(accelerator.device)), *check_masks(config, splits.train)]
    for problem in problems:
        if problem.kind in ("warmup-shortened", "no-masks", "vision-cache-off"):
            log(" ".join(describe(problem, config)))
    vision = _vision_cache(config, accelerator, model, data)
    if config.model.compile and vision is not None:
        log("The vision encoder's layers are not compiled: each image passes through them only once.")
    elif config.model.compile:
        _compile(config, accelerator, model, log)
    optimizer = make_optimizer(model.peft, training)
    scheduler = make_schedule(optimizer, training, plan)
    objective = Objective(model.detector, Sam3LossWrapper.from_config(config.loss), config.replay.weight)
    wrapped, optimizer = wrap(objective, optimizer, accelerator)
    if data.tiles is not None:
        log(data.tiles.sentence)
    log(
        f"{len(data.samples)} {'images' if data.tiles is None else 'tiles'} with {splits.train.num_objects} objects; "
        f"{model.num_trainable:,} trainable parameters; {plural(plan.total_steps, 'step')} on {accelerator.device}"
        + (f", {processes} processes." if processes > 1 else ".")
    )
    return Setup(config, accelerator, data, model, objective, wrapped, plan, optimizer, scheduler, vision)


def _vision_cache(
    config: ResolvedConfig, accelerator: Accelerator, model: AdaptedModel, data: TrainingData
) -> VisionCache | None:
    """The cache that the run's samples are read from; None where it is off, or vision or pixels change."""
    if not reads_vision_cache(config) or not can_cache(model.detector):
        return None
    precision, limit_gb = config.training.precision, config.data.vision_cache_gb
    cache = VisionCache(model.detector, precision, model.base.processor, limit_gb)
    for samples in data.every_split:
        cache.attach(samples)
    return cache


def _compile(config: ResolvedConfig, accelerator: Accelerator, model: AdaptedModel, log: Callable[[str], None]) -> None:
    """Compiles the vision encoder's layers by trying them out; with a compiler that fails, they run as they are."""
    device, size = accelerator.device, model.base.image_size
    log("Compiling the vision encoder's layers.")
    detector = model.detector.train()
    detector.compile_vision(True)
    pixels = torch.zeros(config.training.batch_size, 3, size, size, device=device)
    try:
        # Dropout draws the same numbers later as in a run that is not compiled.
        with torch.random.fork_rng([device] if device.type == "cuda" else []), accelerator.autocast():
            total = torch.stack([level.float().sum() for level in detector.encode_images(pixels).fpn]).sum()
            if total.requires_grad:
                total.backward()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        detector.compile_vision(False)
        reason = first_line(getattr(error, "inner_exception", error))  # what the compiler itself says
        log(f"The vision encoder's layers are not compiled, because the compiler failed: {reason}")
    model.peft.zero_grad()


def make_model(
    config: ResolvedConfig, accelerator: Accelerator, log: Callable[[str], None], fresh: bool
) -> AdaptedModel:
    """Loads the base model and attaches the adapter; seeds all random number generators.

    With a precision of 16 bits the model runs under the accelerator's autocast only.

    Args:
        config: the run's.
        accelerator: its device and process index are used.
        log: gets a line if the adapter continues from a saved one.
        fresh: see :func:`prepare`.

    Raises:
        ModelError, ConfigError: the base or the adapter to continue from cannot be used.
    """
    from accelerate.utils import set_seed

    start = find_adapter(config.model.adapter) if config.model.adapter and fresh else None
    base = load_base(**config.model.loading)
    set_seed(config.training.seed)
    peft = lora.attach(base.model, config.lora)
    if start is not None:
        start_from(peft, start, config.lora)
        log(f"The adapter continues from {start}.")
    # Before they move: the device never holds the base in float32.
    convert_frozen(base.model, config.training.precision)
    base.to(accelerator.device)
    if accelerator.process_index > 0:  # the same adapter everywhere, but each process draws its own dropout
        set_seed(config.training.seed + accelerator.process_index)
    detector = Sam3Detector(base.model)
    detector.gradient_checkpointing(config.model.gradient_checkpointing)
    return AdaptedModel(base, peft, detector, trainable_by_component(peft))


def wrap(objective: Objective, optimizer: Any, accelerator: Accelerator) -> tuple[nn.Module, Any]:
    """The objective and the optimizer as accelerate wraps them; the weights stay where they are.

    A text encoder in main memory is none of distributed training's concern: it is frozen, the same in every process.
    """
    base = objective.detector.base
    names = list(kept_text.tensors_of(objective, base)) if kept_text.is_frozen(base) else []
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, names)
    wrapped, optimizer = accelerator.prepare(objective, optimizer, device_placement=[False, None])
    return wrapped, optimizer


def trainable_by_component(peft: PeftModel) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters by component, in the model's order."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad:
            found.setdefault(lora.component_of(name) or "other", []).append(parameter)
    return found
