"""Reads and checks a saved adapter's folder before any model is changed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from sam3_lora.errors import ModelError

if TYPE_CHECKING:
    import peft

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.weight)?")

_COPY_AGAIN = "Copy it again or train a new one"
_MAX_ALPHA = 1e6
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")  # initializations that also change the base's weights


def damaged(folder: Path, error: Exception) -> ModelError:
    """The error for files that cannot be read."""
    return ModelError(f"The adapter in {folder} is damaged or half-written: {error}", _COPY_AGAIN)


def read_settings(folder: Path, place: str | None = None) -> peft.LoraConfig:
    """The adapter's settings, from a folder that also contains weights.

    Args:
        folder: what training or PEFT wrote.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: the settings or the weights are missing, or the settings are not usable.
    """
    import peft

    place = place or str(folder)

    fix = "Give a folder that training wrote, such as runs/RUN/adapters/best"
    if not os.path.isdir(folder):  # unlike Path.is_dir, never raises: the name may be too long
        raise ModelError(f"Expected an adapter's folder, but there is none at {place}", fix)
    if not (folder / SETTINGS).is_file():
        raise ModelError(f"Expected an adapter in {place}, but it contains no {SETTINGS}", fix)
    try:
        settings = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # PEFT validates nothing: wrong values raise TypeError, KeyError, ValueError and more
        raise ModelError(f"The {SETTINGS} in {place} cannot be read, it may be half-written", _COPY_AGAIN) from error
    if not isinstance(settings, peft.LoraConfig):
        kind = getattr(settings.peft_type, "value", settings.peft_type)
        raise ModelError(f"Expected a LoRA adapter in {place}, but it is of type '{kind}'", fix)
    if not isinstance(settings.lora_alpha, int | float) or not 0 < settings.lora_alpha < _MAX_ALPHA:
        raise ModelError(f"The {SETTINGS} in {place} has lora_alpha: {settings.lora_alpha}", _COPY_AGAIN)
    if str(settings.init_lora_weights).lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"The adapter in {place} also changes the base model's weights ({settings.init_lora_weights}), "
            "so it cannot be compared with the base model",
            "Convert it to a plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"Expected {WEIGHTS} in {place}, but there is none (pickled weights are never opened)",
            "Copy the adapter again, or save it with PEFT as safetensors",
        )
    return settings


def check_fit(model: nn.Module, settings: peft.LoraConfig, folder: Path) -> None:
    """Compares the weights' shapes with the model's layers, before either is changed.

    PEFT changes the model before it notices that an adapter does not fit, and only warns of missing weights.

    Args:
        model: the base model; weights on the meta device are enough.
        settings: of the adapter.
        folder: of the adapter.

    Raises:
        ModelError: the adapter is for another base, or some of its weights are missing.
        SafetensorError: the file is damaged.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    shapes = _read_shapes(folder)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for name, parts in shapes.items():
        _check_matrices(name, parts, linears.get(name), settings, folder)
    needed = {"lora_A", "lora_B"} | ({"lora_magnitude_vector"} if settings.use_dora else set())
    complete = {name for name, parts in shapes.items() if needed <= parts.keys()}
    try:
        targets = {name for name in linears if check_target_module_exists(settings, name)}
    except (re.error, TypeError):
        raise ModelError(f"The target_modules in {folder}/{SETTINGS} cannot be used", _COPY_AGAIN) from None
    if missing := sorted(targets - complete):
        raise ModelError(
            f"The adapter in {folder} is incomplete: it has no weights for {len(missing)} of the {len(targets)} "
            f"layers it changes, such as {missing[0]}",
            _COPY_AGAIN,
        )
    if not complete:
        raise ModelError(f"The adapter in {folder} changes no layer of this base model", "Choose another one")


def _check_matrices(
    name: str, parts: dict[str, list[int]], linear: nn.Linear | None, settings: peft.LoraConfig, folder: Path
) -> None:
    """Raises ModelError unless one layer's shapes fit the layer and the settings."""
    if any(len(shape) != 2 for part, shape in parts.items() if part != "lora_magnitude_vector"):
        raise ModelError(f"The {WEIGHTS} in {folder} is damaged: {name} has no matrices", _COPY_AGAIN)
    if not {"lora_A", "lora_B"} <= parts.keys():
        return
    mismatch = ""
    if linear is None:
        mismatch = "is not in this one"
    elif (linear.in_features, linear.out_features) != (parts["lora_A"][-1], parts["lora_B"][0]):
        mismatch = f"has {linear.in_features} inputs and {linear.out_features} outputs here"
    if mismatch:
        base = settings.base_model_name_or_path
        raise ModelError(
            f"The adapter in {folder} is for another base model: {name} {mismatch}",
            "Choose the base model it was trained for" + (f" ({base})" if base else ""),
        )
    rank = parts["lora_A"][0]
    if not settings.rank_pattern and rank != settings.r:
        raise ModelError(
            f"The weights in {folder} have rank {rank}, but its {SETTINGS} says {settings.r}",
            "Copy both files again from the same adapter",
        )


def check_weights(folder: Path, place: str | None = None) -> None:
    """Reads all weights.

    Args:
        folder: of the adapter.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: some are not finite, so that the adapter would find nothing.
        SafetensorError: the file is damaged.
    """
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            if not file.get_tensor(key).isfinite().all():
                raise ModelError(
                    f"The adapter in {place or folder} has weights that are not finite, for example in {key}",
                    "Use the adapter of an earlier step, or train again with a lower learning rate",
                )


def _read_shapes(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Shapes in the weights file: module -> {"lora_A": (rank, in), "lora_B": (out, rank), ...}."""
    from safetensors import safe_open

    shapes: dict[str, dict[str, list[int]]] = {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            if match := _KEY.fullmatch(key):
                shapes.setdefault(match["module"], {})[match["part"]] = file.get_slice(key).get_shape()
    return shapes
