"""Reads a saved adapter's folder and says what is wrong with it, before any model is touched."""

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
_CHANGING_THE_BASE = ("pissa", "olora", "corda", "loftq")  # ways to begin that take something out of the base


def read_settings(folder: Path) -> peft.LoraConfig:
    """The adapter's settings, once the folder is known to hold them and its weights. Raises ModelError if not."""
    import peft

    fix = "Give a folder that training wrote, such as runs/RUN/adapters/best"
    if not os.path.isdir(folder):  # unlike Path.is_dir, never raises: the name may be too long
        raise ModelError(f"Expected an adapter's folder, but there is none at {folder}", fix)
    if not (folder / SETTINGS).is_file():
        raise ModelError(f"Expected an adapter in {folder}, but it holds no {SETTINGS}", fix)
    try:
        settings = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # wrong values make PEFT stumble in ways without number
        raise ModelError(f"The {SETTINGS} in {folder} cannot be read, it may be half-written", _COPY_AGAIN) from error
    if not isinstance(settings, peft.LoraConfig):
        kind = getattr(settings.peft_type, "value", settings.peft_type)
        raise ModelError(f"Expected a LoRA adapter in {folder}, but it is of type '{kind}'", fix)
    if not isinstance(settings.lora_alpha, int | float) or not 0 < settings.lora_alpha < _MAX_ALPHA:
        raise ModelError(f"The {SETTINGS} in {folder} says lora_alpha: {settings.lora_alpha}", _COPY_AGAIN)
    if str(settings.init_lora_weights).lower().startswith(_CHANGING_THE_BASE):
        raise ModelError(
            f"The adapter in {folder} changes the base model's own weights ({settings.init_lora_weights}), so it could "
            "not be shown beside the base",
            "Convert it to a plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"Expected {WEIGHTS} in {folder}, but there is none (pickled weights are never opened)",
            "Copy the adapter again, or save it with PEFT as safetensors",
        )
    return settings


def check_fit(model: nn.Module, settings: peft.LoraConfig, folder: Path) -> None:
    """Compares the weights' shapes with the model's layers, before either is touched.

    PEFT changes the model before it finds out that an adapter does not fit, and only warns of missing weights.

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
        raise ModelError(f"The {SETTINGS} in {folder} names no layers in target_modules", _COPY_AGAIN) from None
    if missing := sorted(targets - complete):
        raise ModelError(
            f"The adapter in {folder} is incomplete: it has no weights for {len(missing)} of the {len(targets)} "
            f"layers it changes, {missing[0]} among them",
            "Copy it again or train a new one",
        )
    if not complete:
        raise ModelError(f"The adapter in {folder} changes no layer of this base model", "Choose another one")


def _check_matrices(
    name: str, parts: dict[str, list[int]], linear: nn.Linear | None, settings: peft.LoraConfig, folder: Path
) -> None:
    """Whether one layer's shapes fit the layer and the settings. Raises ModelError if not."""
    if any(len(shape) != 2 for part, shape in parts.items() if part != "lora_magnitude_vector"):
        raise ModelError(f"The {WEIGHTS} in {folder} is damaged: {name} holds no matrices", _COPY_AGAIN)
    if not {"lora_A", "lora_B"} <= parts.keys():
        return
    wanted = None if linear is None else (linear.in_features, linear.out_features)
    if wanted != (parts["lora_A"][-1], parts["lora_B"][0]):
        base = settings.base_model_name_or_path
        raise ModelError(
            f"The adapter in {folder} is for another base model: {name} "
            + ("is not in this one" if linear is None else f"has {wanted[0]} inputs and {wanted[1]} outputs here"),
            "Choose the base model it was trained for" + (f" ({base})" if base else ""),
        )
    rank = parts["lora_A"][0]
    if not settings.rank_pattern and rank != settings.r:
        raise ModelError(
            f"The weights in {folder} have the rank {rank}, but its {SETTINGS} says {settings.r}",
            "Copy both files again from one adapter",
        )


def check_weights(folder: Path) -> None:
    """Reads every number of the weights.

    Raises:
        ModelError: some are not finite: such an adapter answers nothing.
        SafetensorError: the file is damaged.
    """
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            if not file.get_tensor(key).isfinite().all():
                raise ModelError(
                    f"The adapter in {folder} holds numbers that are not finite, in {key} for one",
                    "Take the adapter of an earlier step, or train again with a lower learning rate",
                )


def _read_shapes(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Shapes in the weights' file: module -> {"lora_A": (rank, in), "lora_B": (out, rank), ...}."""
    from safetensors import safe_open

    shapes: dict[str, dict[str, list[int]]] = {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            if match := _KEY.fullmatch(key):
                shapes.setdefault(match["module"], {})[match["part"]] = file.get_slice(key).get_shape()
    return shapes
