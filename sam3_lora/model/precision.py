"""The numeric precision of forward passes: what "auto" means on a device, autocast, and frozen weights in 16 bits."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sam3_lora.config import Precision
from sam3_lora.errors import ConfigError
from sam3_lora.model import kept_text

if TYPE_CHECKING:
    from transformers import Sam3Model

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CAST_BY_AUTOCAST = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
# The geometry encoder runs without autocast (RoIAlign has no bf16), in the text projection's type.
_IN_FLOAT32 = ("geometry_encoder.", "text_projection.")


def resolve_precision(name: str, device: torch.device) -> Precision:
    """The precision for "auto" (bf16 on a CUDA GPU that computes in it, else fp32), "fp32", "bf16" or "fp16".

    Args:
        name: one of these four.
        device: that will compute; a GPU without number is the current one.

    Raises:
        ConfigError: the device cannot compute in this precision, or there is no such precision.
    """
    if name == "auto":
        # Older GPUs emulate bf16, slower than they compute in fp32.
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if native else "fp32"
    if name not in DTYPES:
        raise ConfigError(f"Expected a precision among auto, {', '.join(DTYPES)}, but got '{name}'", "Choose auto")
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"fp16 needs a CUDA GPU, but the device is {device}", "Set training.precision to fp32 or bf16"
        )
    return name


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context whose forward passes compute in a precision; nothing changes for fp32.

    Args:
        device: of the tensors that are computed with.
        precision: of :func:`resolve_precision`.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=DTYPES[precision])


def is_converted(name: str, module: nn.Module) -> bool:
    """Whether :func:`convert_frozen` converts a module of the model without an adapter, by its name."""
    return isinstance(module, _CAST_BY_AUTOCAST) and not f"{name}.".startswith(_IN_FLOAT32)


def convert_frozen(model: Sam3Model, precision: Precision) -> None:
    """Holds, from now on, those frozen weights in 16 bits that autocast would convert at every use; nothing for fp32.

    Loss and gradients under :func:`autocast` stay the same to the bit; without it the model no longer runs. Converted
    are weights and biases of linear layers and convolutions. Float32 remain: whatever is trained, LoRA layers, norms,
    embeddings, geometry encoder, text projection, a text encoder that no adapter changes (its features are kept in
    float32), and layers with a DoRA adapter, where PEFT takes norms of the weights themselves. LoRA layers take their
    input as it comes from now on: PEFT would convert it to float32, and autocast back.

    Args:
        model: in float32, its adapter attached; it is changed in place.
        precision: of the autocast that the model runs under.
    """
    from peft.tuners.lora import LoraLayer

    if precision == "fp32":
        return
    kept = [f"{name}." for name in kept_text.MODULES if kept_text.is_frozen(model)]
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and not name.startswith(_IN_FLOAT32):
            if module.lora_variant:
                kept.append(f"{name}.")
            else:
                module.cast_input_dtype_enabled = False
    for name, module in model.named_modules():
        if not is_converted(name, module) or ".lora_" in name or f"{name}.".startswith(tuple(kept)):
            continue
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(DTYPES[precision])
