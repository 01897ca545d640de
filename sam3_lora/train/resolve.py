"""Chooses the values of settings that are "auto", by the device that a run is on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sam3_lora.config import DEMO, BestBy, RunConfig
from sam3_lora.config.fields import AUTO, AUTO_BATCH
from sam3_lora.data.records import Split
from sam3_lora.data.tiles.choose import choose_tiles
from sam3_lora.data.tiles.cut import TiledImages
from sam3_lora.evaluate.predictions import kinds_asked
from sam3_lora.model.base import load_config
from sam3_lora.model.image_size import image_size_of
from sam3_lora.model.memory_estimate import PRESENT_PHRASES, MemoryEstimate, estimate_memory
from sam3_lora.model.precision import resolve_precision
from sam3_lora.resolved import ResolvedConfig
from sam3_lora.runs.auto_values import AutoValue, Reason, describe, with_values
from sam3_lora.tiles import Tiling, tiling_of
from sam3_lora.train import memory
from sam3_lora.train.accelerator import auto_workers, from_main

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import Sam3Config

    from sam3_lora.runs.run import Run
    from sam3_lora.runs.writer import RunWriter, SilentWriter
    from sam3_lora.train.splits import Splits

NOT_DEFINED: tuple[Reason, ...] = ("nothing-absent", "nothing-to-find")  # on the images to validate on


def resolve_run(run: Run, splits: Splits, accelerator: Accelerator, report: RunWriter | SilentWriter) -> ResolvedConfig:
    """The run's settings without auto, the same in all processes; what was chosen is kept in its folder and told."""

    def choose() -> tuple[ResolvedConfig, tuple[AutoValue, ...]]:
        status = run.status()
        before = status.best is not None and status.best_value is None  # by an earlier version
        return resolve(run.config, accelerator.device, splits, "loss" if before else None)

    config, values = from_main(accelerator, choose)
    if values and accelerator.is_main_process:
        run.use_auto_values(values)
    for value in values:
        if value.reason in NOT_DEFINED:
            report.note(0, "best-by", describe(value))
        else:
            report.log(describe(value))
    return config


def resolve(
    config: RunConfig, device: torch.device, splits: Splits | None = None, best_by: BestBy | None = None
) -> tuple[ResolvedConfig, tuple[AutoValue, ...]]:
    """A run's settings without auto, and what was chosen; settings with a value of the user's stay as they are.

    On a CPU, and with the demo's model, these are the values with which the demo's numbers were measured: fp32, no
    checkpointing, batches of 2, no worker processes.

    Args:
        config: as the user asked for it.
        device: on which the run computes.
        splits: the images; the heaviest to learn from says how much memory a step needs, those to validate on which
            numbers are defined. None where they are not known yet.
        best_by: what the run's best adapter so far is the best by; None without one.

    Raises:
        ModelError: the base's architecture cannot be read, which tells how much memory a step needs.
    """
    values = (*_choose(config, device, splits), *_choose_best_by(config, splits, best_by))
    resolved = with_values(config, values)
    return ResolvedConfig.model_validate(resolved.model_dump()), values


def _choose(config: RunConfig, device: torch.device, splits: Splits | None) -> Iterator[AutoValue]:
    if config.training.precision == AUTO:
        precision = resolve_precision(AUTO, device)
        yield AutoValue("training.precision", precision, "bf16" if precision == "bf16" else "no-bf16")
    if config.data.tiles == AUTO:
        tiles = _choose_tiles(config, splits)
        config = config.with_settings({tiles.setting: tiles.value})  # a step needs the memory of a tile's objects
        yield tiles
    yield from _choose_for_memory(config, device, None if splits is None else splits.train)
    if config.data.num_workers == AUTO:
        yield AutoValue("data.num_workers", auto_workers(device), "no-gpu" if device.type == "cpu" else "cores")


def _choose_tiles(config: RunConfig, splits: Splits | None) -> AutoValue:
    """Tiles where many objects are too small for the model without, or too many."""
    if splits is None:
        return AutoValue("data.tiles", 0, "visible")
    architecture: Any = load_config(config.model.base, image_size=config.model.image_size)
    queries = architecture.detr_decoder_config.num_queries
    choice = choose_tiles(splits.train.images, image_size_of(architecture), queries, config.data.tile_overlap)
    return AutoValue("data.tiles", choice.size, choice.reason, share=choice.small, number=choice.most)


def _choose_best_by(config: RunConfig, splits: Splits | None, before: BestBy | None) -> Iterator[AutoValue]:
    """What the best adapter is the best by, where that is auto or not defined on the images to validate on.

    Args:
        config: as the user asked for it.
        splits: see :func:`resolve`.
        before: see there.
    """
    setting, asked = "training.select_best_by", config.training.select_best_by
    if asked == AUTO and before is not None:
        yield AutoValue(setting, before, "as-before")
        return
    if asked == AUTO and splits is not None and splits.valid is None:
        yield AutoValue(setting, "loss", "no-validation")
        return
    has_negatives = config.data.num_negatives > 0
    wanted: BestBy = asked if asked != AUTO else "cgf1" if has_negatives else "f1"
    valid = None if splits is None else splits.valid
    kinds = None if valid is None or wanted == "loss" else kinds_asked(valid, config.data.category_phrases)
    if kinds is not None and True not in kinds:
        yield AutoValue(setting, "loss", "nothing-to-find", asked)
    elif kinds is not None and False not in kinds and wanted == "cgf1":
        yield AutoValue(setting, "f1", "nothing-absent", asked)
    elif asked == AUTO:
        yield AutoValue(setting, wanted, "negatives" if has_negatives else "no-negatives")


def _choose_for_memory(config: RunConfig, device: torch.device, train: Split | None) -> Iterator[AutoValue]:
    """Checkpointing and batch size; with less memory a step learns from as many images, but takes longer."""
    training, checkpointing = config.training, config.model.gradient_checkpointing
    if AUTO not in (training.batch_size, checkpointing):
        return
    small = config.model.base == DEMO
    if device.type != "cuda" or small:
        reason: Reason = "demo" if small else "no-gpu"
        if checkpointing == AUTO:
            yield AutoValue("model.gradient_checkpointing", False, reason)
        if training.batch_size == AUTO:
            yield AutoValue("training.batch_size", AUTO_BATCH, reason)
        return
    checkpointed, images, needed = _first_that_fits(config, device, train)
    available = memory.free_bytes(device)
    if checkpointing == AUTO:
        reason = "does-not-fit" if checkpointed else "fits"
        without = needed[False, images]
        yield AutoValue("model.gradient_checkpointing", checkpointed, reason, AUTO, without, available)
    if training.batch_size == AUTO:
        reason = "fits" if images == AUTO_BATCH else "does-not-fit"
        yield AutoValue("training.batch_size", images, reason, AUTO, needed[checkpointed, AUTO_BATCH], available)
        if images < AUTO_BATCH:
            steps = training.gradient_accumulation_steps
            yield AutoValue("training.gradient_accumulation_steps", AUTO_BATCH * steps, "same-images", asked=steps)


def memory_ways(config: RunConfig) -> list[tuple[bool, int]]:
    """The values that checkpointing and batch size may get, the fastest first: (checkpointing, images).

    Recomputing costs a third of the time, half the batch hardly any.
    """
    checkpointing, batch_size = config.model.gradient_checkpointing, config.training.batch_size
    return [
        (recompute, images)
        for recompute in ((False, True) if checkpointing == AUTO else (checkpointing,))
        for images in ((AUTO_BATCH, 1) if batch_size == AUTO else (batch_size,))
    ]


def _first_that_fits(
    config: RunConfig, device: torch.device, train: Split | None
) -> tuple[bool, int, dict[tuple[bool, int], int]]:
    """Checkpointing and images per batch of the fastest way that fits, else of the smallest; and what each way needs.

    Returns:
        Checkpointing, images, and (checkpointing, images) -> bytes of the ways that were estimated.
    """
    ways = memory_ways(config)
    architecture = load_config(config.model.base, image_size=config.model.image_size)
    config = config.with_settings({"training.precision": resolve_precision(config.training.precision, device)})
    heaviest, needed = heaviest_image(train, tiling_of(config.data)), {}
    for recompute, images in ways:
        chosen = config.with_settings({"model.gradient_checkpointing": recompute, "training.batch_size": images})
        needed[recompute, images] = estimate_step(chosen, architecture, *heaviest).total
    available = memory.free_bytes(device)
    return *next((way for way in ways if needed[way] <= available), ways[-1]), needed


def estimate_step(config: RunConfig, architecture: Sam3Config, phrases: int, objects: int) -> MemoryEstimate:
    """Peak GPU memory of a training step on the heaviest images, as :func:`heaviest_image` describes them.

    Args:
        config: precision, checkpointing and batch size are not auto.
        architecture: of the base model, with the image size of the settings.
        phrases: of each image, without negatives.
        objects: of each image.
    """
    precision, images = config.training.precision, config.training.batch_size
    # Replayed images go through the model in batches of the same size, without the one-to-many queries.
    replayed = 0 if config.replay.source == "none" else config.replay.phrases_per_image
    checkpointing = config.model.gradient_checkpointing
    assert precision != AUTO and images != AUTO and checkpointing != AUTO, "expected settings without auto"
    return estimate_memory(
        architecture,
        config.lora,
        precision=precision,
        gradient_checkpointing=checkpointing,
        images=images,
        phrases_per_image=max(phrases + config.data.num_negatives, replayed),
        objects_per_phrase=objects / PRESENT_PHRASES,
        cached_vision=reads_vision_cache(config),
    )


def reads_vision_cache(config: RunConfig) -> bool:
    """Whether a run will read the vision encoder's output from disk: no adapter changes it, and it may be kept."""
    return may_read_vision_cache(config) and not config.augmentation.changes_pixels


def may_read_vision_cache(config: RunConfig) -> bool:
    """Whether it will unless augmentation makes other pixels of an image each time."""
    return "vision_encoder" not in config.lora.components and config.data.vision_cache_gb > 0


def heaviest_image(train: Split | None, tiling: Tiling | None = None) -> tuple[int, int]:
    """The most phrases that any image has, without negatives, and the most objects; a usual image's without a split.

    With tiles, of any tile.
    """
    if train is None or not len(train.images):
        return PRESENT_PHRASES, PRESENT_PHRASES * 5
    if tiling is not None:
        tiles = TiledImages(train.images, tiling)
        return max(1, int(tiles.num_phrases.max(initial=1))), max(1, int(tiles.num_objects.max(initial=1)))
    images, objects = train.images, ~train.images.iscrowd
    image, category = images.image_index[objects], images.category_index[objects]
    pairs = np.unique(image * (len(images.categories) + 1) + category) // (len(images.categories) + 1)
    return int(np.bincount(pairs).max(initial=1)), int(np.bincount(image).max(initial=1))
