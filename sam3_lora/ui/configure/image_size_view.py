"""The image size of the model as a choice: the sizes that fit the base, and what one does to small objects."""

from __future__ import annotations

import streamlit as st

from sam3_lora.data.dataset import Dataset
from sam3_lora.data.object_sizes import SMALL_PIXELS, small_share
from sam3_lora.data.splits.split_use import training_split
from sam3_lora.errors import Sam3LoraError
from sam3_lora.model.image_size import image_size_of, image_size_step
from sam3_lora.ui import resources
from sam3_lora.ui.components.forms import form_value

SETTING = "model.image_size"
_MANY_SMALL = 0.3  # share of the objects


def size_choices() -> dict[int | None, str] | None:
    """The sizes that fit the base of the form and their labels, the one in the form among them.

    None where the base's architecture is not known, so that any number may be typed.
    """
    known = _sizes(form_value("model.base") or "")
    if known is None:
        return None
    own, step = known
    choices: dict[int | None, str] = {None: f"{own} (the model's default)"}
    sizes = range(step, own + step + 1, step)  # up to the next larger one
    choices |= {size: str(size) for size in sizes}
    current = form_value(SETTING)
    if current not in choices:
        choices[current] = str(current) if current % step == 0 else f"{current} (does not fit this base)"
    return choices


def show_effect(dataset: Dataset | None) -> None:
    """Draws what the size in the form does to small objects, memory and time, beside the base's own."""
    known, chosen = _sizes(form_value("model.base") or ""), form_value(SETTING)
    if known is None:
        return
    own, _ = known
    size = chosen if isinstance(chosen, int) and chosen > 0 else own
    now, then = _small(dataset, size), _small(dataset, own)
    said = ""
    if now is not None:
        said = f"At {size} pixels, {now:.0%} of the objects are less than {SMALL_PIXELS} pixels wide or high"
        said += f" ({then:.0%} at {own}). " if size != own else ". "
    if size != own:
        said += f"The vision encoder has {(size / own) ** 2:.0%} of the patches, and takes about as much of the time."
    else:
        said += "A smaller size takes less time and memory, but small objects get lost."
    st.caption(said)


def warn_of_small_objects(dataset: Dataset | None) -> None:
    """Says so where many objects are too small at the size in the form to be found."""
    known, chosen = _sizes(form_value("model.base") or ""), form_value(SETTING)
    if known is None:
        return
    size = chosen if isinstance(chosen, int) and chosen > 0 else known[0]
    share = _small(dataset, size)
    if share is not None and share >= _MANY_SMALL and not form_value("data.tiles"):
        st.caption(
            f":orange[:material/warning:] {share:.0%} of the objects are less than {SMALL_PIXELS} pixels wide or high "
            f"at the model's {size} pixels: see *Image size* and *Tile size* below."
        )


def _small(dataset: Dataset | None, side: int) -> float | None:
    """The share of small objects in the training images; None where they are not known."""
    if dataset is None:
        return None
    try:
        return small_share(training_split(dataset, form_value("data.train_split")).images, side)
    except Sam3LoraError:
        return None


def _sizes(base: str) -> tuple[int, int] | None:
    """The base's own image size, and the number of pixels that all sizes are multiples of; None if unknown."""
    architecture = resources.get_architecture(base)
    return None if architecture is None else (image_size_of(architecture), image_size_step(architecture))
