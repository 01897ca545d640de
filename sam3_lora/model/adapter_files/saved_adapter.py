"""A saved adapter that is known to fit a base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sam3_lora.model.adapter_files import taught_phrases
from sam3_lora.model.adapter_files.layers import LayerUpdate, select_layers
from sam3_lora.model.adapter_files.settings import AdapterSettings, read_settings
from sam3_lora.model.adapter_files.weights import read_weights


@dataclass(frozen=True)
class SavedAdapter:
    """Settings and weights of an adapter, for one base model."""

    settings: AdapterSettings
    layers: Mapping[str, LayerUpdate]  # by the full name of the linear layer, in the model's order
    weights: dict[str, Tensor]  # by the names that PEFT gives them, on the CPU


def open_adapter(model: nn.Module, folder: Path, place: str | None = None) -> SavedAdapter:
    """Reads an adapter's folder and checks all of it.

    Args:
        model: the base model, without an adapter; weights on the meta device are enough.
        folder: of the adapter.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: a file is missing or damaged, it is no adapter of LoRA, it does not fit this model, or has a value
            that no training gives it.
    """
    place = place or str(folder)
    settings = read_settings(folder, place)
    layers = select_layers(model, settings, place)
    taught_phrases.read(folder, place)  # a damaged list is told now, not when somebody routes by it
    return SavedAdapter(settings, layers, read_weights(folder, model, settings, layers, place))
