"""The GPU memory that a configuration will need, shown beside the form before any weight is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import DEMO, RunConfig
from sam3_lora.data.splits.split_use import SplitUse, expected_use, training_split
from sam3_lora.errors import Sam3LoraError
from sam3_lora.text import plural
from sam3_lora.ui import resources
from sam3_lora.ui.components.layout import escape

if TYPE_CHECKING:
    from sam3_lora.ui.configure.memory_outlook import MemoryOutlook, Saving

GIB = 2**30

CARDS_GB = (8, 12, 16, 24, 48, 80)
_CARD = "memory-card"
_SMALL = 0.05 * GIB  # parts below it share a row


def show_memory(config: RunConfig) -> None:
    """Peak GPU memory by part, the largest batch, what would save memory, and disk for the vision cache.

    Nothing for the demo, which needs no GPU.
    """
    if config.model.base == DEMO:
        return
    architecture, gpu = resources.get_architecture(config.model.base), _gpu()
    if architecture is None:
        return  # the adapter's summary says why
    # Imports torch.
    from sam3_lora.ui.configure.memory_outlook import MemoryOutlook

    with st.container(border=True, key="gpu-memory"):
        name, size = gpu or _choose_card()
        use, *heaviest = _dataset(config)
        outlook = MemoryOutlook(config, architecture, size, *heaviest)
        _show_peak(outlook, name)
        if outlook.reads_cache and use is not None:
            disk = outlook.cache_bytes(use.train_images, use.valid_images) / 1e9
            images = plural(use.train_images + use.valid_images, "image")
            st.caption(f"Disk: {disk:.2g} GB for what the frozen vision encoder makes of {images}.")
        with st.expander("By part, and what would save memory", key="gpu-memory-parts"):
            _show_parts(outlook)
            _show_savings(outlook)


def _show_peak(outlook: MemoryOutlook, card: str) -> None:
    """The peak and the largest batch."""
    estimate, training = outlook.estimate, outlook.resolved.training
    peak = f"**{estimate.total / GIB:.1f} GiB** of GPU memory at the peak of a step"
    if estimate.total > outlook.available:
        peak = f":orange[:material/warning:] {peak}: more than {escape(card)} has"
    st.markdown(peak)
    images, phrases = plural(int(training.batch_size), "image"), plural(outlook.phrases_per_image, "phrase")
    how = "with" if outlook.resolved.model.gradient_checkpointing else "without"
    st.caption(
        f"Estimated for {images} with {phrases} each, in {training.precision}, {how} gradient checkpointing. "
        f"Largest batch on {escape(card)}: {outlook.largest_batch or 'none'}."
    )


def _show_parts(outlook: MemoryOutlook) -> None:
    estimate = outlook.estimate
    rows = {name: size for name, size in estimate.parts.items() if size >= _SMALL}
    rows["others"] = estimate.total - sum(rows.values())
    _show_sizes("Part", {name[0].upper() + name[1:]: size for name, size in rows.items()}, "Peak GPU memory by part")


def _show_savings(outlook: MemoryOutlook) -> None:
    if outlook.savings:
        sizes = {_describe(saving): saving.bytes for saving in outlook.savings}
        _show_sizes("Would save", sizes, "Changes of settings that need less memory, each alone")


def _show_sizes(title: str, sizes: dict[str, int], alt: str) -> None:
    """A static table, whose cells wrap where the column is narrow; sizes: bytes by name."""
    rows = [{title: name, "GiB": f"{size / GIB:.1f}"} for name, size in sizes.items()]
    st.table(rows, border="horizontal", hide_index=True, alt=alt)


def _describe(saving: Saving) -> str:
    """A change of settings in the words of the form."""
    changed = saving.settings
    if "model.gradient_checkpointing" in changed:
        return "Gradient checkpointing"
    if "training.batch_size" in changed:
        return "Batch size 1, accumulated"
    if "lora.components" in changed:
        return "Vision encoder not adapted"
    if "model.image_size" in changed:
        return f"Images of {changed['model.image_size']} pixels"
    return f"Precision {changed['training.precision']}"


def _choose_card() -> tuple[str, int]:
    """Name and memory of a card of the user's choice; the tab remembers it."""
    st.session_state.setdefault(_CARD, 24)
    size: int = st.selectbox(
        "Card",
        CARDS_GB,
        format_func=lambda size: f"{size} GB",
        key=_CARD,
        persist_state="session",
        help="There is no CUDA GPU on this machine: choose the one that you will train on.",
    )
    return f"{size} GB", size * GIB


@st.cache_resource(show_spinner=False)
def _gpu() -> tuple[str, int] | None:
    """Name and memory in bytes of the GPU that a run would use; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory


def _dataset(config: RunConfig) -> tuple[SplitUse | None, int, int]:
    """How a run uses the images, None if it cannot; phrases and objects of the heaviest training image."""
    from sam3_lora.train.resolve import heaviest_image

    try:
        dataset = resources.open_dataset(config.data.path)
        use = expected_use(dataset, config.data, config.training.seed)
        train = training_split(dataset, config.data.train_split)
    except Sam3LoraError:
        return None, *heaviest_image(None)
    return use, *heaviest_image(train)
