"""Initializes a new adapter with the weights of a saved one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.model.adapter_files import settings as adapter_settings
from sam3_lora.model.adapter_files.find_adapter import find_adapter

if TYPE_CHECKING:
    import peft


def start_from(peft_model: peft.PeftModel, folder: str | Path, lora: AdapterConfig) -> None:
    """Copies a saved adapter's weights into a fresh one with the same settings, in place.

    Args:
        peft_model: what :func:`sam3_lora.model.lora.attach` made with these settings.
        folder: what training or PEFT wrote, or a run's, see :func:`find_adapter`.
        lora: rank, alpha, components and modules must be those of the saved adapter; dropout may differ.

    Raises:
        ConfigError: the settings differ; the message names them all with the values to set.
        ModelError: the adapter is missing, damaged, or for a base model of another shape.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    folder = find_adapter(folder)
    settings = adapter_settings.read_settings(folder)
    saved = {
        "lora.rank": settings.r,
        "lora.alpha": float(settings.lora_alpha),
        "lora.rslora": bool(settings.use_rslora),
        "lora.dora": bool(settings.use_dora),
    }
    if differing := {name: value for name, value in saved.items() if value != getattr(lora, name.split(".")[1])}:
        ours = ", ".join(f"{name} is {getattr(lora, name.split('.')[1])}" for name in differing)
        fix = ", ".join(f"{name} to {value}" for name, value in differing.items())
        raise ConfigError(f"The adapter in {folder} was trained with other settings: here {ours}", f"Set {fix}")
    try:
        weights = load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # a damaged file raises KeyError, OSError, SafetensorError and more
        raise adapter_settings.damaged(folder, error) from error
    expected = {name: tensor.shape for name, tensor in get_peft_model_state_dict(peft_model).items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected.keys() != found.keys():
        raise ConfigError(
            f"The adapter in {folder} changes {len(found) // 2} layers, but lora.components and lora.modules choose "
            f"{len(expected) // 2}, and they are not the same",
            "Set both to the values of that adapter's run",
        )
    if expected != found:
        raise ModelError(
            f"The adapter in {folder} is for a base model of another shape", "Choose the base model it was trained for"
        )
    set_peft_model_state_dict(peft_model, weights)
