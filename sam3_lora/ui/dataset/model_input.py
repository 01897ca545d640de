"""The model's input for one image: tensor, phrases and targets, made by the functions that training uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
import torch

from sam3_lora.boxes import cxcywh_to_xyxy, denormalize
from sam3_lora.config import AugmentationConfig, RunConfig
from sam3_lora.data.images import MAX_PIXELS
from sam3_lora.data.prompts import MAX_TOKENS
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.samples import Sample, SampleDataset
from sam3_lora.data.splits.split_use import training_split
from sam3_lora.draw import DrawObject, overlay
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.structures import VISUAL
from sam3_lora.text import first_names, plural
from sam3_lora.ui import state
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.images import to_png
from sam3_lora.ui.components.layout import escape, show_error
from sam3_lora.ui.components.tables import show_table
from sam3_lora.ui.dataset.page_state import OpenedDataset
from sam3_lora.ui.resources import get_processor
from sam3_lora.ui.split_index import SplitIndex

_EPOCH = "model-view-epoch"
_AUGMENTED = "model-view-augmented"
_EPOCHS_SHOWN = 6
_MAX_ROWS = 10  # of a tensor before it scrolls
_MAX_DRAWN = 300  # targets
_MAX_BYTES = 2**30  # of one image's masks
_EXEMPLAR = (255, 255, 255)  # color of exemplar boxes
_UNCHANGED = AugmentationConfig(flip="none")
_MIN_SIDE = 480  # pixels that a small tensor is enlarged to, without smoothing


@dataclass(frozen=True)
class ModelInput:
    """A training sample of one image."""

    sample: Sample
    picture: np.ndarray  # (S, S, 3) uint8: the tensor without its normalization
    tokens: tuple[int, ...]  # per phrase, with start and end; those above MAX_TOKENS are cut off
    mask_size: int  # side of a predicted mask, in pixels


def show(opened: OpenedDataset, index: SplitIndex, position: int, phrases: Mapping[str, str]) -> None:
    """Shows the model's input.

    Args:
        opened: the dataset.
        index: of one of its splits.
        position: of the image in the split.
        phrases: the user's own, by category.
    """
    config: RunConfig = st.session_state.get(state.RUN_CONFIG) or RunConfig()
    trained_on = index.split.name == config.data.train_split
    with suppress(Sam3LoraError):
        trained_on = index.split.name == training_split(opened.dataset, config.data.train_split).name
    epoch = st.session_state.setdefault(_EPOCH, 1)
    try:
        inputs = load_input(opened, index, position, phrases, config, epoch - 1 if trained_on else None)
    except Sam3LoraError as error:
        show_error(error)
        return
    colors = PhraseColors(opened.dataset.categories, phrases)
    tensor, targets, prompts = st.columns([3, 3, 4], gap="medium")
    with tensor:
        _show_tensor(inputs)
    with targets:
        _show_targets(inputs, colors)
    with prompts:
        _show_phrases(inputs, trained_on)
    _show_numbers(inputs)
    if trained_on and config.augmentation != _UNCHANGED:
        _show_augmented(partial(load_input, opened, index, position, phrases, config), epoch, colors)


def load_input(
    opened: OpenedDataset,
    index: SplitIndex,
    position: int,
    phrases: Mapping[str, str],
    config: RunConfig,
    epoch: int | None,
) -> ModelInput:
    """Loads the sample that training would load.

    Args:
        opened: the dataset.
        index: of one of its splits.
        position: of the image in the split.
        phrases: the user's own, by category.
        config: of the next run: its base model, negatives, augmentation and seed.
        epoch: of training, from 0; None for validation, whose negatives do not change.

    Raises:
        DataError: the image is missing or broken.
        ModelError: the base model's processor cannot be loaded.
    """
    processor = get_processor(**config.model.loading)
    record = index.record(position)
    size = processor.image_processor.size["height"]
    _require_small(record, size)
    images = index.split.images
    left_out = images.missing | images.unknown
    if images.unknown[position] and not record.missing:
        raise DataError(
            f"Nothing is known of {record.file_name}: it has no object, and its entry lists no negative",
            "Training leaves this image out; list its absent categories in neg_category_ids to use it",
        )
    # A sample's number counts only the images before it that the training loader does not leave out.
    present = index.split if record.missing else index.split.present()
    place = position if record.missing else int((~left_out[:position]).sum())
    seed = 0 if epoch is None else config.training.seed
    prompts = (opened.dataset.prompt_categories, config.data.negatives)
    augmentation = None if epoch is None else config.augmentation
    samples = SampleDataset(present.images, processor, *prompts, seed=seed, phrases=phrases, augmentation=augmentation)
    samples.set_epoch(epoch or 0)
    sample = samples.decoded(place)
    assert sample.pixel_values is not None  # read from the image, not from the cache
    settings = processor.image_processor
    pixels = sample.pixel_values.numpy().transpose(1, 2, 0) * settings.image_std + settings.image_mean
    return ModelInput(
        sample=sample,
        picture=np.round(pixels.clip(0, 1) * 255).astype(np.uint8),
        tokens=tuple(len(processor.tokenizer(phrase)["input_ids"]) for phrase in sample.phrases),
        mask_size=settings.mask_size["height"],
    )


def _require_small(record: ImageRecord, side: int) -> None:
    """Raises DataError for an image that would exhaust the memory; side: of the model's input, in pixels."""
    if record.width * record.height > MAX_PIXELS:
        raise DataError(
            f"{record.file_name} has {record.width} x {record.height} pixels, which take gigabytes to decode",
            "Cut the image into tiles",
        )
    if len(record.annotations) * side**2 > _MAX_BYTES:
        raise DataError(
            f"{record.file_name} has {len(record.annotations):,} objects, whose masks of {side} × {side} take "
            f"{len(record.annotations) * side**2 / 2**30:.1f} GB in training too",
            "Cut the image into tiles",
        )


def _show_tensor(inputs: ModelInput) -> None:
    pixels = inputs.sample.pixel_values
    assert pixels is not None
    st.markdown("**Image tensor**")
    st.image(to_png(_enlarged(inputs.picture)), width="stretch", alt="The image tensor as a picture")
    st.caption(
        f"float32 {_shape(pixels)}, from {pixels.min():.2f} to {pixels.max():.2f}, mean {pixels.mean():.2f}. "
        "Resized to a square, then normalized; shown without the normalization."
    )
    if changes := _changes(inputs.sample):
        st.caption(f"In this epoch {', '.join(changes)} (*augmentation*).")


def _changes(sample: Sample) -> list[str]:
    """What augmentation has done to the image, each in a few words."""
    changes = [f"flipped {('upside down', 'left to right')[axis]}" for axis in sample.flipped]
    if (change := sample.change) is not None:
        changes += [f"scaled to {change.scale:.0%}"] if change.scale < 1 else []
        changes += [f"cropped to {change.zoom:.0%} of its sides"] if change.zoom < 1 else []
        changes += [f"rotated by {change.degrees:.0f}°"] if change.degrees else []
        changes += ["recolored"] if change.color else []
    return changes


def _show_augmented(load: Callable[[int], ModelInput], epoch: int, colors: PhraseColors) -> None:
    """Draws what augmentation makes of the image, with targets, in several epochs; only when asked.

    Args:
        load: the model's input in an epoch, from 0.
        epoch: the first of these, from 1.
        colors: of the phrases.
    """
    if not st.toggle(
        "Samples of the augmentation", key=_AUGMENTED, help="This image as training gets it, epoch by epoch"
    ):
        return
    columns = st.columns(_EPOCHS_SHOWN // 2, gap="medium") * 2
    for number, column in enumerate(columns, start=epoch):
        try:
            inputs = load(number - 1)
        except Sam3LoraError as error:
            show_error(error)
            return
        picture = _enlarged(inputs.picture)
        with column:
            drawn = overlay(picture, _drawn(inputs, picture.shape[0], colors), opacity=0.6)
            changes = ", ".join(_changes(inputs.sample)) or "unchanged"
            st.image(to_png(drawn), width="stretch", alt=f"The image with its targets in epoch {number}: {changes}")
            st.caption(f"Epoch {number}: {changes}.")


def _show_targets(inputs: ModelInput, colors: PhraseColors) -> None:
    targets = inputs.sample.targets
    st.markdown("**Targets**")
    picture = _enlarged(inputs.picture)
    st.image(
        to_png(overlay(picture, _drawn(inputs, picture.shape[0], colors), opacity=0.6)),
        width="stretch",
        alt="The targets over the image",
    )
    if len(targets.boxes) > _MAX_DRAWN:
        st.caption(f"The first {_MAX_DRAWN} of {len(targets.boxes):,} are drawn; the table below has all.")
    if targets.masks is None:
        st.caption("No object has a mask: the mask losses skip this image.")
    else:
        side = targets.masks.shape[-1]
        st.caption(
            f"Masks: bool {_shape(targets.masks)}. The model predicts {inputs.mask_size} × {inputs.mask_size}; the "
            f"loss compares at {side} × {side}, as drawn here."
        )


def _drawn(inputs: ModelInput, side: int, colors: PhraseColors) -> list[DrawObject]:
    """The targets, to be drawn on an image of side x side pixels."""
    targets = inputs.sample.targets
    boxes = denormalize(cxcywh_to_xyxy(targets.boxes), (side, side))
    objects = _exemplars(inputs.sample, side)
    for place, phrase in enumerate(_phrase_of_each(inputs.sample)[:_MAX_DRAWN]):
        mask = None
        if targets.masks is not None and targets.mask_valid[place]:
            mask = _enlarged(targets.masks[place].numpy(), side)
        objects.append(DrawObject(phrase, colors.of(phrase), mask, tuple(boxes[place].tolist())))
    return objects


def _exemplars(sample: Sample, side: int) -> list[DrawObject]:
    """The exemplar boxes, to be drawn on an image of side x side pixels."""
    if sample.boxes is None or sample.box_labels is None:
        return []
    boxes = denormalize(cxcywh_to_xyxy(sample.boxes[sample.box_labels == 1]), (side, side))
    return [DrawObject("exemplar", _EXEMPLAR, None, tuple(box)) for box in boxes.tolist()]


def _show_phrases(inputs: ModelInput, trained_on: bool) -> None:
    counts, exhaustive = inputs.sample.targets.counts.tolist(), inputs.sample.targets.exhaustive.tolist()
    st.markdown("**Phrases**")
    rows = [
        {
            "Phrase": phrase,
            "Kind": f"positive: {plural(count, 'object')}{'' if whole else ' or more'}{boxed}" if count else "negative",
            "Tokens": min(tokens, MAX_TOKENS),
        }
        for phrase, count, whole, boxed, tokens in zip(
            inputs.sample.phrases, counts, exhaustive, _boxed(inputs.sample), inputs.tokens, strict=True
        )
    ]
    tokens = st.column_config.NumberColumn(help=f"Including start and end tokens; at most {MAX_TOKENS}")
    show_table(rows, "Phrases: " + ", ".join(inputs.sample.phrases), {"Tokens": tokens}, key="asked-phrases")
    if not all(exhaustive):
        st.caption("“or more”: not every object is annotated, so the loss does not penalize further detections.")
    if inputs.sample.image.absent_categories is not None:
        st.caption("The annotation file lists what is absent here: nothing else is used as a negative.")
    if cut := [phrase for phrase, n in zip(inputs.sample.phrases, inputs.tokens, strict=True) if n > MAX_TOKENS]:
        st.caption(f":orange[:material/warning:] Cut off after {MAX_TOKENS} tokens: {escape(first_names(cut))}.")
    if VISUAL in inputs.sample.phrases:
        st.caption(f"“{VISUAL}”: asked by an exemplar box, without the word (*augmentation.word_dropped*).")
    if trained_on:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Negatives change in each epoch. Epoch:", width="content")
            st.number_input(
                "Epoch", 1, 10_000, key=_EPOCH, persist_state="session", width=110, label_visibility="collapsed"
            )
    else:
        st.caption("Not the training split: its phrases are the same in each epoch.")


def _show_numbers(inputs: ModelInput) -> None:
    targets = inputs.sample.targets
    st.markdown("**Targets of the loss**")
    if not len(targets.boxes):
        st.caption("No objects: the loss penalizes every detection.")
    columns = ["cx", "cy", "w", "h"]
    rows = pd.DataFrame(targets.boxes.numpy(), columns=columns)
    rows.insert(0, "Phrase", _phrase_of_each(inputs.sample))
    rows["Mask (px)"] = None
    if targets.masks is not None:
        rows["Mask (px)"] = pd.Series(targets.masks.sum((1, 2)).numpy()).where(targets.mask_valid.numpy())
    table, printed = st.columns(2, gap="medium")
    with table:
        if len(rows):
            show_table(rows, "Targets of the loss", dict.fromkeys(columns, "%.4f"))
    printed.code(
        f"boxes = {targets.boxes}\ncounts = {targets.counts}\nmask_valid = {targets.mask_valid}\n"
        f"exhaustive = {targets.exhaustive}",
        language=None,
        height=360 if len(rows) > _MAX_ROWS else "content",
    )


def _boxed(sample: Sample) -> list[str]:
    """For each phrase, words about its exemplar box."""
    if sample.box_labels is None:
        return [""] * len(sample.phrases)
    return [", with a box" if label == 1 else "" for label in sample.box_labels[:, 0].tolist()]


def _phrase_of_each(sample: Sample) -> list[str]:
    """The phrase of each target."""
    return np.repeat(sample.phrases, sample.targets.counts).tolist()


def _enlarged(pixels: np.ndarray, side: int | None = None) -> np.ndarray:
    """(S, S, ...) enlarged without smoothing to at least _MIN_SIDE pixels, or to `side`."""
    factor = side // len(pixels) if side else max(1, -(-_MIN_SIDE // len(pixels)))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
