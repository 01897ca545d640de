"""An adapter's adapter_config.json: read within limits, and every setting that acts is checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import MB, read_file
from sam3_lora.model.adapter_files.find_adapter import SETTINGS
from sam3_lora.text import short_repr

COPY_AGAIN = "Copy it again or train a new one"
_MAX_BYTES = 4 * MB
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initializations that also change the base's weights
# Settings that leave an adapter what it is taken for: updates of linear layers, added to them in full, in part or not.
_SCALABLE = frozenset(
    "r target_modules exclude_modules layers_to_transform layers_pattern lora_alpha rank_pattern alpha_pattern "
    "lora_dropout fan_in_fan_out use_rslora use_dora lora_bias init_lora_weights eva_config loftq_config "
    "runtime_config ensure_weight_tying qalora_group_size".split()
)
_SCALABLE_INITS = (True, False, None, "gaussian", "eva", "orthogonal")

Rank = Annotated[int, Meta(ge=1, le=1 << 16)]
Alpha = Annotated[float, Meta(gt=0, lt=1e6)]
_Index = Annotated[int, Meta(ge=0, le=1 << 20)]
_Pattern = Annotated[str, Meta(max_length=100_000)]  # the names of all layers of SAM 3 have 25,000 letters
_Names = Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=5000)]
_Key = Annotated[str, Meta(max_length=10_000)]


class AdapterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that act when an adapter is loaded, with PEFT's names, meanings and defaults.

    Regular expressions among them are only ever read by :mod:`sam3_lora.model.adapter_files.layers`.
    """

    base_model_name_or_path: Annotated[str, Meta(max_length=4096)] | None = None
    r: Rank = 8
    lora_alpha: Alpha = 8.0
    target_modules: _Pattern | _Names | None = None
    exclude_modules: _Pattern | _Names | None = None
    layers_to_transform: _Index | Annotated[list[_Index], Meta(max_length=5000)] | None = None
    layers_pattern: _Pattern | Annotated[list[_Key], Meta(max_length=100)] | None = None
    rank_pattern: Annotated[dict[_Key, Rank], Meta(max_length=2000)] | None = None
    alpha_pattern: Annotated[dict[_Key, Alpha], Meta(max_length=2000)] | None = None
    lora_dropout: Annotated[float, Meta(ge=0, le=1)] = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    init_lora_weights: bool | str | None = True


def read_settings(folder: Path, place: str | None = None) -> AdapterSettings:
    """The adapter's settings.

    Args:
        folder: what training or PEFT wrote, with adapter_config.json in it.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: they cannot be read, are not those of LoRA, have a value that PEFT does not write, or make the
            adapter more than an update of linear layers.
    """
    place = place or str(folder)
    values = _read(folder, place)
    if (kind := values.get("peft_type")) != "LORA":
        raise ModelError(
            f"Expected a LoRA adapter in {place}, but it is of type {short_repr(kind)}", "Choose another one"
        )
    try:
        settings = msgspec.convert(values, AdapterSettings)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"The {SETTINGS} in {place} has a setting that cannot be used: {first_line(error)}", COPY_AGAIN
        ) from None
    _check_combination(settings, place)
    if str(settings.init_lora_weights).lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"The adapter in {place} also changes the base model's weights ({short_repr(settings.init_lora_weights)}), "
            "so it cannot be compared with the base model",
            "Convert it to a plain LoRA with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if more := _more_than_lora(values):
        raise not_scalable(place, more)
    return settings


def base_model_of(folder: Path) -> str | None:
    """The base model that an adapter was trained for, as its settings name it; None if they do not.

    Raises:
        ModelError: they cannot be read.
    """
    name = _read(folder, str(folder)).get("base_model_name_or_path")
    if not isinstance(name, str | None):
        raise ModelError(
            f"The {SETTINGS} in {folder} is damaged: base_model_name_or_path is {short_repr(name)}", COPY_AGAIN
        )
    return name


def not_scalable(place: str, more: str) -> ModelError:
    """The error for an adapter without which the base is not the base again, or that cannot be added in part."""
    return ModelError(
        f"The adapter in {place} changes more than linear layers by LoRA or DoRA ({more}), so the base model beside it "
        "would not be the base model, and its strength could not be set",
        "Train an adapter without that, or merge this one into its base model with PEFT's merge_and_unload() and give "
        "the result as base model",
    )


def _read(folder: Path, place: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(read_file(folder / SETTINGS, _MAX_BYTES), type=dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or first_line(error)
        raise ModelError(
            f"The {SETTINGS} in {place} cannot be read, it may be half-written: {reason}", COPY_AGAIN
        ) from None


def _check_combination(settings: AdapterSettings, place: str) -> None:
    """Raises ModelError for settings that PEFT does not take together, so that no adapter was trained with them."""
    wrong = ""
    if settings.target_modules is None:
        wrong = "no target_modules"
    elif isinstance(settings.target_modules, str):
        both = [name for name in ("layers_to_transform", "layers_pattern") if getattr(settings, name) is not None]
        wrong = f"{both[0]} beside a target_modules that is no list" if both else ""
    elif settings.layers_pattern and settings.layers_to_transform is None:
        wrong = "layers_pattern without layers_to_transform"
    if settings.use_dora and settings.lora_bias:
        wrong = "lora_bias beside use_dora"
    if wrong:
        raise ModelError(f"The {SETTINGS} in {place} has {wrong}, with which PEFT trains no adapter", COPY_AGAIN)


def _more_than_lora(values: dict[str, Any]) -> str:
    """The settings by which an adapter changes more than linear layers, or otherwise than by adding to them."""
    import peft

    general = {field.name for field in dataclasses.fields(peft.PeftConfig)}
    default = peft.LoraConfig()
    names = [
        field.name
        for field in dataclasses.fields(default)
        if field.name not in general | _SCALABLE
        and values.get(field.name, getattr(default, field.name)) != getattr(default, field.name)
    ]
    names += ["init_lora_weights"] if values.get("init_lora_weights") not in _SCALABLE_INITS else []
    return ", ".join(f"{name}={short_repr(values[name])}" for name in names)
