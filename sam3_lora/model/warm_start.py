"""Initializes a new adapter with the weights of a saved one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ConfigError
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.adapter_files.saved_adapter import open_adapter
from sam3_lora.model.base_files.architecture import skeleton

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
        ModelError: as :func:`sam3_lora.model.lora.load`.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    folder = find_adapter(folder)
    base: Any = peft_model.get_base_model()
    saved = open_adapter(skeleton(base.config), folder)
    ours = {"lora.rank": lora.rank, "lora.alpha": lora.alpha, "lora.rslora": lora.rslora, "lora.dora": lora.dora}
    theirs: dict[str, set[Any]] = {
        "lora.rank": {layer.rank for layer in saved.layers.values()},
        "lora.alpha": {layer.alpha for layer in saved.layers.values()},
        "lora.rslora": {saved.settings.use_rslora},
        "lora.dora": {saved.settings.use_dora},
    }
    if several := [name for name, values in theirs.items() if len(values) > 1]:
        raise ConfigError(
            f"The adapter in {folder} has several values of {several[0]} in its layers, and training knows one for all",
            "Choose another adapter, or leave model.adapter empty",
        )
    if differing := {name: values.pop() for name, values in theirs.items() if values != {ours[name]}}:
        here = ", ".join(f"{name} is {ours[name]}" for name in differing)
        fix = ", ".join(f"{name} to {value}" for name, value in differing.items())
        raise ConfigError(f"The adapter in {folder} was trained with other settings: here {here}", f"Set {fix}")
    expected = get_peft_model_state_dict(peft_model)
    if expected.keys() != saved.weights.keys():
        chosen = sum("lora_A" in name for name in expected)
        raise ConfigError(
            f"The adapter in {folder} changes {len(saved.layers)} layers, but lora.components and lora.modules choose "
            f"{chosen}, and they are not the same",
            "Set both to the values of that adapter's run",
        )
    set_peft_model_state_dict(peft_model, saved.weights)
