"""Size of a configuration's adapter, shown beside the form: parameters, bytes, modules per component."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import AdapterConfig, RunConfig
from sam3_lora.errors import Sam3LoraError
from sam3_lora.text import plural
from sam3_lora.ui.components.forms import label_of
from sam3_lora.ui.components.layout import escape

if TYPE_CHECKING:
    from sam3_lora.model.lora import LoraCount


def show_adapter(config: RunConfig) -> None:
    """Shows trainable parameters, their share of the base model, the adapter's size and its modules by component."""
    count, problem = _counted(config.model.base, config.model.image_size, config.lora.model_dump_json())
    if count is None:
        st.warning(problem, icon=":material/info:")
    else:
        left, right = st.columns(2)
        left.metric("Trainable parameters", short_number(count.parameters), help=f"{count.parameters:,}")
        right.metric("Adapter size", f"{count.adapter_bytes / 1e6:,.1f} MB")
        share = count.parameters / count.base_parameters
        base = escape(config.model.base)
        st.caption(f"{share:.2%} of the {short_number(count.base_parameters)} parameters of {base}")
        # Static: its cells wrap where the column is narrow.
        st.table(
            [
                {"Component": label_of(name), "Modules": f"{count.modules[name]:,}", "Parameters": f"{parameters:,}"}
                for name, parameters in count.by_component.items()
            ],
            border="horizontal",
            hide_index=True,
            alt="Adapted modules and parameters per component",
        )
        if problem:
            st.warning(f"{problem} The numbers here are those of the published {base}.", icon=":material/key:")
    st.caption(_batch_sentence(config))


def short_number(value: int) -> str:
    """1234567 -> "1.23 M"."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def _batch_sentence(config: RunConfig) -> str:
    training = config.training
    steps = training.gradient_accumulation_steps
    accumulated = f" ({training.images_per_step // steps} × {steps} accumulated)" if steps > 1 else ""
    return f"Effective batch: {plural(training.images_per_step, 'image')} per step and device{accumulated}"


# Errors are cached for a minute, too: a request to the Hub per keystroke would make the form stutter.
@st.cache_data(ttl=60, max_entries=64, show_spinner="Counting parameters")
def _counted(base: str, image_size: int | None, lora_json: str) -> tuple[LoraCount | None, str]:
    """The counts, or None where they are unknown; and why they are, or why the model cannot be loaded yet, or ""."""
    from sam3_lora.model.base import load_config, obstacle
    from sam3_lora.model.lora import count

    try:
        counted = count(load_config(base, image_size=image_size), AdapterConfig.model_validate_json(lora_json))
    except Sam3LoraError as error:
        return None, f"{escape(error.message)}.\n\n{escape(error.fix)}."
    missing = obstacle(base)
    return counted, "" if missing is None else f"{escape(missing.message)}. {escape(missing.fix)}."
