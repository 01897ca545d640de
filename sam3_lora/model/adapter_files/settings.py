"""Reads and checks a saved adapter's folder before any model is changed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from sam3_lora.errors import ModelError
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, WEIGHTS
from sam3_lora.text import short_repr

if TYPE_CHECKING:
    import peft

_KEY = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_B\.bias|(?:lora_A|lora_B|lora_magnitude_vector)(?=$|\.weight$))"
    r"(\.weight)?"
)

_COPY_AGAIN = "Copy it again or train a new one"
_MAX_ALPHA = 1e6
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initializations that also change the base's weights
# Settings that leave an adapter what it is taken for: updates of linear layers, added to them in full, in part or not.
_SCALABLE = frozenset(
    "r target_modules exclude_modules layers_to_transform layers_pattern lora_alpha rank_pattern alpha_pattern "
    "lora_dropout fan_in_fan_out use_rslora use_dora lora_bias init_lora_weights eva_config loftq_config "
    "runtime_config ensure_weight_tying qalora_group_size".split()
)
_SCALABLE_INITS = (True, False, None, "gaussian", "eva", "orthogonal")


def damaged(folder: Path, error: Exception) -> ModelError:
    """The error for files that cannot be read."""
    return ModelError(f"The adapter in {folder} is damaged or half-written: {error}", _COPY_AGAIN)


def read_settings(folder: Path, place: str | None = None) -> peft.LoraConfig:
    """The adapter's settings, from a folder that also contains weights.

    Args:
        folder: what training or PEFT wrote, with adapter_config.json in it.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: the weights are missing, or the settings are not usable.
    """
    import peft

    place = place or str(folder)
    try:
        settings = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # PEFT validates nothing: wrong values raise TypeError, KeyError, ValueError and more
        raise ModelError(f"The {SETTINGS} in {place} cannot be read, it may be half-written", _COPY_AGAIN) from error
    if not isinstance(settings, peft.LoraConfig):
        kind = getattr(settings.peft_type, "value", settings.peft_type)
        raise ModelError(f"Expected a LoRA adapter in {place}, but it is of type '{kind}'", "Choose another one")
    if not isinstance(settings.lora_alpha, int | float) or not 0 < settings.lora_alpha < _MAX_ALPHA:
        raise ModelError(f"The {SETTINGS} in {place} has lora_alpha: {settings.lora_alpha}", _COPY_AGAIN)
    if str(settings.init_lora_weights).lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"The adapter in {place} also changes the base model's weights ({settings.init_lora_weights}), "
            "so it cannot be compared with the base model",
            "Convert it to a plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if more := _more_than_lora(settings):
        raise _not_scalable(place, more)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"Expected {WEIGHTS} in {place}, but there is none (pickled weights are never opened)",
            "Copy the adapter again, or save it with PEFT as safetensors",
        )
    return settings


def _more_than_lora(settings: peft.LoraConfig) -> str:
    """The settings by which an adapter changes more than linear layers, or otherwise than by adding to them."""
    import peft

    general = {field.name for field in dataclasses.fields(peft.PeftConfig)}
    default = peft.LoraConfig()
    names = [
        field.name
        for field in dataclasses.fields(settings)
        if field.name not in general | _SCALABLE and getattr(settings, field.name) != getattr(default, field.name)
    ]
    names += ["init_lora_weights"] if settings.init_lora_weights not in _SCALABLE_INITS else []
    return ", ".join(f"{name}={short_repr(getattr(settings, name))}" for name in names)


def _not_scalable(place: str | Path, more: str) -> ModelError:
    """The error for an adapter without which the base is not the base again, or that cannot be added in part."""
    return ModelError(
        f"The adapter in {place} changes more than linear layers by LoRA or DoRA ({more}), so the base model beside it "
        "would not be the base model, and its strength could not be set",
        "Train an adapter without that, or merge this one into its base model with PEFT's merge_and_unload() and give "
        "the result as base model",
    )


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
    modules = dict(model.named_modules())
    linears = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    if other := [name for name in shapes if name in modules and name not in linears]:
        raise _not_scalable(folder, f"{other[0]} is of type {type(modules[other[0]]).__name__}")
    needed = {"lora_A", "lora_B"}
    needed |= {"lora_magnitude_vector"} if settings.use_dora else set()
    needed |= {"lora_B.bias"} if settings.lora_bias else set()
    for name, parts in shapes.items():
        _check_matrices(name, parts, linears.get(name), settings, folder)
        if unused := sorted(parts.keys() - needed):
            raise ModelError(
                f"The weights in {folder} have {unused[0]} for {name}, which its {SETTINGS} does not mention",
                "Copy both files again from the same adapter",
            )
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
    if any(len(parts[part]) != 2 for part in ("lora_A", "lora_B") if part in parts):
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
    """Shapes in the weights file: module -> {"lora_A": (rank, in), "lora_B": (out, rank), ...}.

    Raises:
        ModelError: it holds other weights, by which PEFT would replace those of the base.
    """
    from safetensors import safe_open

    shapes: dict[str, dict[str, list[int]]] = {}
    others = []
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118, not a mapping
            if match := _KEY.fullmatch(key):
                shapes.setdefault(match["module"], {})[match["part"]] = file.get_slice(key).get_shape()
            else:
                others.append(key)
    if others and not shapes:
        raise ModelError(
            f"The weights in {folder} do not have the names that PEFT gives those of LoRA ({short_repr(others[0])})",
            "Save the adapter with PEFT's save_pretrained()",
        )
    if others:
        raise _not_scalable(folder, f"its weights include {short_repr(others[0])}")
    return shapes
