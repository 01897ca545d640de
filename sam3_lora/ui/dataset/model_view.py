"""What the model is given of one image: the tensor, the phrases and the targets, made by training's own functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
import torch

from sam3_lora.boxes import cxcywh_to_xyxy, denormalize
from sam3_lora.config import RunConfig
from sam3_lora.data.images import MAX_PIXELS
from sam3_lora.data.samples import MAX_TOKENS, Collator, Sample, SampleDataset
from sam3_lora.draw import DrawObject, overlay
from sam3_lora.errors import DataError, Sam3LoraError
from sam3_lora.text import plural
from sam3_lora.ui import state
from sam3_lora.ui.components.colors import PhraseColors
from sam3_lora.ui.components.images import to_png
from sam3_lora.ui.components.layout import escape, show_error
from sam3_lora.ui.dataset.page_state import Opened
from sam3_lora.ui.resources import get_processor
from sam3_lora.ui.split_index import SplitIndex

_EPOCH = "model-view-epoch"
_MAX_ROWS = 10  # of a tensor before it scrolls
_MAX_DRAWN = 300  # targets in one picture
_MAX_BYTES = 2**30  # of one image's masks
_MIN_SIDE = 480  # pixels that a small model's tensor is blown up to, without smoothing


@dataclass(frozen=True)
class Seen:
    """What training makes of one image. tokens: of each phrase, with start and end; mask_size: of a prediction."""

    sample: Sample
    tokens: tuple[int, ...]
    cut: tuple[bool, ...]
    mean: np.ndarray
    std: np.ndarray
    mask_size: int

    @property
    def picture(self) -> np.ndarray:
        """The tensor as uint8 (S, S, 3): normalisation undone, nothing else."""
        pixels = self.sample.pixel_values.numpy().transpose(1, 2, 0) * self.std + self.mean
        return np.round(pixels.clip(0, 1) * 255).astype(np.uint8)


def show(opened: Opened, index: SplitIndex, position: int, phrases: Mapping[str, str]) -> None:
    """The view of one image, at its place in the split."""
    config: RunConfig = st.session_state.get(state.RUN_CONFIG) or RunConfig()
    learned_from = index.split.name == config.data.train_split
    epoch = st.session_state.setdefault(_EPOCH, 1)
    try:
        seen = look(opened, index, position, phrases, config, epoch - 1 if learned_from else None)
    except Sam3LoraError as error:
        show_error(error)
        return
    colors = PhraseColors(opened.dataset.categories, phrases)
    tensor, targets, asked = st.columns([3, 3, 4], gap="medium")
    with tensor:
        _show_tensor(seen)
    with targets:
        _show_targets(seen, colors)
    with asked:
        _show_phrases(seen, learned_from)
    _show_numbers(seen)


def look(
    opened: Opened,
    index: SplitIndex,
    position: int,
    phrases: Mapping[str, str],
    config: RunConfig,
    epoch: int | None,
) -> Seen:
    """The very sample that training loads.

    Args:
        opened: the dataset; index: of one of its splits; position: of the image there.
        phrases: the user's own words by category.
        config: of the next run: its base model, its negatives, its flips and its seed.
        epoch: of training, from 0; None for validation, which draws the same negatives every time.

    Raises:
        DataError: the image is missing or broken.
        ModelError: the base model's processor cannot be loaded.
    """
    processor = get_processor(config.model.base)
    record = index.record(position)
    size = processor.image_processor.size["height"]
    if record.width * record.height > MAX_PIXELS:
        raise DataError(
            f"{record.file_name} has {record.width} x {record.height} pixels, which take gigabytes to decode",
            "Cut the image into tiles",
        )
    if len(record.annotations) * size**2 > _MAX_BYTES:
        raise DataError(
            f"{record.file_name} has {len(record.annotations):,} objects, whose masks of {size} × {size} take "
            f"{len(record.annotations) * size**2 / 2**30:.1f} GB in training too",
            "Cut the image into tiles",
        )
    # A missing image is in no sample: the loader takes those that are there, and so do their numbers.
    present = index.split if record.missing else index.split.present()
    place = position if record.missing else int((~index.split.images.missing[:position]).sum())
    seed = 0 if epoch is None else config.training.seed
    asked = (opened.dataset.categories, config.data.num_negatives)
    flip = "none" if epoch is None else config.data.flip
    samples = SampleDataset(present, processor, *asked, seed=seed, phrases=phrases, flip=flip)
    samples.set_epoch(epoch or 0)
    sample = samples[place]
    batch = Collator(processor)([sample])
    whole = [len(processor.tokenizer(phrase)["input_ids"]) for phrase in sample.phrases]
    settings = processor.image_processor
    return Seen(
        sample=sample,
        tokens=tuple(batch.attention_mask.sum(1).tolist()),
        cut=tuple(count > MAX_TOKENS for count in whole),
        mean=np.array(settings.image_mean, dtype=np.float32),
        std=np.array(settings.image_std, dtype=np.float32),
        mask_size=settings.mask_size["height"],
    )


def _show_tensor(seen: Seen) -> None:
    pixels = seen.sample.pixel_values
    st.markdown("**The image as a tensor**")
    st.image(to_png(_blown_up(seen.picture)), width="stretch", alt="The tensor as a picture")
    st.caption(
        f"float32 {_shape(pixels)}, from {pixels.min():.2f} to {pixels.max():.2f}, mean {pixels.mean():.2f}. "
        "Squashed to a square, then normalised; undone here is only the normalisation."
    )
    if ways := [("upside down", "left to right")[axis] for axis in seen.sample.flipped]:
        st.caption(f"Mirrored {' and '.join(ways)} in this epoch, as *data.flip* asks for.")


def _show_targets(seen: Seen, colors: PhraseColors) -> None:
    targets = seen.sample.targets
    st.markdown("**The targets over it**")
    picture = _blown_up(seen.picture)
    st.image(
        to_png(overlay(picture, _drawn(seen, picture.shape[0], colors), opacity=0.6)),
        width="stretch",
        alt="The targets",
    )
    if len(targets.boxes) > _MAX_DRAWN:
        st.caption(f"Drawn are the first {_MAX_DRAWN} of {len(targets.boxes):,}; the table below has all.")
    if targets.masks is None:
        st.caption("No object has a mask: the mask terms of the loss leave this image out.")
    else:
        side = targets.masks.shape[-1]
        st.caption(
            f"Masks bool {_shape(targets.masks)}: the model predicts {seen.mask_size} × {seen.mask_size}, and the loss "
            f"compares at {side} × {side}, as drawn here."
        )


def _drawn(seen: Seen, side: int, colors: PhraseColors) -> list[DrawObject]:
    """The targets as they would be drawn on a picture of side x side pixels."""
    targets = seen.sample.targets
    boxes = denormalize(cxcywh_to_xyxy(targets.boxes), (side, side))
    objects = []
    for place, phrase in enumerate(_phrase_of_each(seen.sample)[:_MAX_DRAWN]):
        mask = None
        if targets.masks is not None and targets.mask_valid[place]:
            mask = _blown_up(targets.masks[place].numpy(), side)
        objects.append(DrawObject(phrase, colors.of(phrase), mask, tuple(boxes[place].tolist())))
    return objects


def _show_phrases(seen: Seen, learned_from: bool) -> None:
    counts = seen.sample.targets.counts.tolist()
    st.markdown("**The phrases that are asked**")
    rows = [
        {"Phrase": phrase, "Asked as": _kind(count), "Tokens": tokens}
        for phrase, count, tokens in zip(seen.sample.phrases, counts, seen.tokens, strict=True)
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key="asked-phrases",
        alt="Phrases: " + ", ".join(seen.sample.phrases),
        column_config={"Tokens": st.column_config.NumberColumn(help=f"With start and end, of {MAX_TOKENS} at most")},
    )
    if any(seen.cut):
        cut = ", ".join(phrase for phrase, too_long in zip(seen.sample.phrases, seen.cut, strict=True) if too_long)
        st.caption(
            f":orange[:material/warning:] Longer than {MAX_TOKENS} tokens, so its end is cut off: {escape(cut)}."
        )
    if learned_from:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Negatives are drawn anew in each epoch. Epoch shown:", width="content")
            st.number_input(
                "Epoch", 1, 10_000, key=_EPOCH, persist_state="session", width=110, label_visibility="collapsed"
            )
    else:
        st.caption("This split is only measured on: it is asked the same phrases every time.")


def _kind(count: int) -> str:
    return f"positive: {plural(count, 'object')}" if count else "negative"


def _show_numbers(seen: Seen) -> None:
    targets = seen.sample.targets
    st.markdown("**The targets as the loss receives them**")
    if not len(targets.boxes):
        st.caption("No object: the loss only asks whether the model keeps silent.")
    columns = ["cx", "cy", "w", "h"]
    rows = pd.DataFrame(targets.boxes.numpy(), columns=columns)
    rows.insert(0, "Phrase", _phrase_of_each(seen.sample))
    rows["Mask (px)"] = [
        int(targets.masks[place].sum()) if targets.masks is not None and targets.mask_valid[place] else None
        for place in range(len(rows))
    ]
    table, printed = st.columns(2, gap="medium")
    with table:
        if len(rows):
            st.dataframe(
                rows,
                hide_index=True,
                alt="Targets of the loss",
                column_config=dict.fromkeys(columns, st.column_config.NumberColumn(format="%.4f")),
            )
    with printed:
        st.code(
            f"boxes = {targets.boxes}\ncounts = {targets.counts}\nmask_valid = {targets.mask_valid}",
            language="python",
            height=360 if len(rows) > _MAX_ROWS else "content",
        )


def _phrase_of_each(sample: Sample) -> list[str]:
    """The phrase of each target."""
    counts = sample.targets.counts.tolist()
    return [phrase for phrase, count in zip(sample.phrases, counts, strict=True) for _ in range(count)]


def _blown_up(pixels: np.ndarray, side: int | None = None) -> np.ndarray:
    """(S, S, ...) repeated without smoothing to at least _MIN_SIDE pixels, or to `side`."""
    factor = side // len(pixels) if side else max(1, -(-_MIN_SIDE // len(pixels)))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))
