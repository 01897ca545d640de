"""The numeric precision of forward passes: what "auto" means on a device, and autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch

from sam3_lora.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    if name not in ("fp32", *_DTYPES):
        raise ConfigError(f"Expected a precision among auto, fp32, bf16, fp16, but got '{name}'", "Choose auto")
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"fp16 needs a CUDA GPU, but the device is {device}", "Set training.precision to fp32 or bf16"
        )
    return cast(Precision, name)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """A context whose forward passes compute in a precision; nothing changes for fp32.

    Args:
        device: of the tensors that are computed with.
        precision: of :func:`resolve_precision`.
    """
    dtype = _DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
