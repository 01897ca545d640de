"""The model's input for one image: tensor, phrases and targets, made by the functions that training uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
import torch

from sam3_lora.boxes import cxcywh_to_xyxy, denormalize
from sam3_lora.config import RunConfig
from sam3_lora.data.images import MAX_PIXELS
from sam3_lora.data.prompts import MAX_TOKENS
from sam3_lora.data.records import ImageRecord
from sam3_lora.data.samples import Sample, SampleDataset
from sam3_lora.data.splits.split_use import training_split
from sam3_lora.draw import DrawObject, overlay
from sam3_lora.errors import DataError, Sam3LoraError
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
_MAX_ROWS = 10  # of a tensor before it scrolls
_MAX_DRAWN = 300  # targets
_MAX_BYTES = 2**30  # of one image's masks
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
        config: of the next run: its base model, negatives, flips and seed.
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
    flip = "none" if epoch is None else config.data.flip
    samples = SampleDataset(present.images, processor, *prompts, seed=seed, phrases=phrases, flip=flip)
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
    if axes := [("upside down", "left to right")[axis] for axis in inputs.sample.flipped]:
        st.caption(f"Flipped {' and '.join(axes)} in this epoch (*data.flip*).")


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
    objects = []
    for place, phrase in enumerate(_phrase_of_each(inputs.sample)[:_MAX_DRAWN]):
        mask = None
        if targets.masks is not None and targets.mask_valid[place]:
            mask = _enlarged(targets.masks[place].numpy(), side)
        objects.append(DrawObject(phrase, colors.of(phrase), mask, tuple(boxes[place].tolist())))
    return objects


def _show_phrases(inputs: ModelInput, trained_on: bool) -> None:
    counts, exhaustive = inputs.sample.targets.counts.tolist(), inputs.sample.targets.exhaustive.tolist()
    st.markdown("**Phrases**")
    rows = [
        {
            "Phrase": phrase,
            "Kind": f"positive: {plural(count, 'object')}{'' if whole else ' or more'}" if count else "negative",
            "Tokens": min(tokens, MAX_TOKENS),
        }
        for phrase, count, whole, tokens in zip(inputs.sample.phrases, counts, exhaustive, inputs.tokens, strict=True)
    ]
    tokens = st.column_config.NumberColumn(help=f"Including start and end tokens; at most {MAX_TOKENS}")
    show_table(rows, "Phrases: " + ", ".join(inputs.sample.phrases), {"Tokens": tokens}, key="asked-phrases")
    if not all(exhaustive):
        st.caption("“or more”: not every object is annotated, so the loss does not penalize further detections.")
    if inputs.sample.image.absent_categories is not None:
        st.caption("The annotation file lists what is absent here: nothing else is used as a negative.")
    if cut := [phrase for phrase, n in zip(inputs.sample.phrases, inputs.tokens, strict=True) if n > MAX_TOKENS]:
        st.caption(f":orange[:material/warning:] Cut off after {MAX_TOKENS} tokens: {escape(first_names(cut))}.")
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
        language="python",
        height=360 if len(rows) > _MAX_ROWS else "content",
    )


def _phrase_of_each(sample: Sample) -> list[str]:
    """The phrase of each target."""
    return np.repeat(sample.phrases, sample.targets.counts).tolist()


def _enlarged(pixels: np.ndarray, side: int | None = None) -> np.ndarray:
    """(S, S, ...) enlarged without smoothing to at least _MIN_SIDE pixels, or to `side`."""
    factor = side // len(pixels) if side else max(1, -(-_MIN_SIDE // len(pixels)))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
