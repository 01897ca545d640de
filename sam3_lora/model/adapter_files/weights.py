"""An adapter's adapter_model.safetensors: names, shapes and values are checked before any model is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sam3_lora.errors import ModelError, first_line
from sam3_lora.files import MB, open_regular
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, WEIGHTS
from sam3_lora.model.adapter_files.layers import LayerUpdate
from sam3_lora.model.adapter_files.settings import COPY_AGAIN, AdapterSettings, not_scalable
from sam3_lora.text import amount, short, short_repr

_KEY = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_B\.bias|(?:lora_A|lora_B|lora_magnitude_vector)(?=$|\.weight$))"
    r"(\.weight)?"
)
_SAME_ADAPTER = "Copy both files again from the same adapter"
_DTYPES = ("F16", "BF16", "F32", "F64")
_MAX_HEADER = 10 * MB  # SAM 3 has 538 linear layers: 0.3 MB
_MAX_VALUE = 65504  # the largest number of float16, in which an adapter may be computed
# A layer of a base model gives outputs about as large as its inputs, and an update is a fraction of that.
_MAX_GAIN = 1000


@dataclass(frozen=True)
class _Entry:
    """One tensor of the file."""

    key: str
    shape: tuple[int, ...]
    dtype: str  # safetensors' name


def read_weights(
    folder: Path, model: nn.Module, settings: AdapterSettings, layers: Mapping[str, LayerUpdate], place: str
) -> dict[str, Tensor]:
    """The weights, by the names that PEFT gives them, once they are known to fit.

    PEFT changes the model before it notices that an adapter does not fit, and only warns of missing weights.

    Args:
        folder: of the adapter.
        model: the base model; weights on the meta device are enough.
        settings: of the adapter.
        layers: that the settings select in this model.
        place: what messages call the adapter.

    Raises:
        ModelError: the file is damaged, the adapter is for another base, weights are missing or more than the
            settings select, or a value is not finite, no real number, or absurdly large.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(folder / WEIGHTS)
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            parts = _by_layer(file, place)
            _check_layers(parts, model, settings, layers, place)
            weights: dict[str, Tensor] = {}
            for name, entries in parts.items():
                tensors = {part: _read_tensor(file, entry, name, place) for part, entry in entries.items()}
                _check_gain(name, tensors, _scaling(layers[name], settings), place)
                weights |= {entries[part].key: tensor for part, tensor in tensors.items()}
            return weights
    except FileNotFoundError:
        raise ModelError(
            f"Expected {WEIGHTS} in {place}, but there is none (pickled weights are never opened)",
            "Copy the adapter again, or save it with PEFT as safetensors",
        ) from None
    except (OSError, SafetensorError) as error:
        raise damaged(place, first_line(error)) from error


def damaged(place: str | Path, reason: str) -> ModelError:
    """The error for files that cannot be read."""
    return ModelError(f"The adapter in {place} is damaged or half-written: {reason}", COPY_AGAIN)


def _check_header(path: Path) -> None:
    """Raises OSError for a file that is not regular, or whose list of tensors is longer than any adapter's."""
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise OSError(f"its header says it is {length / MB:,.0f} MB long")


def _by_layer(file: Any, place: str) -> dict[str, dict[str, _Entry]]:
    """Module -> part ("lora_A", "lora_B", ...) -> its tensor.

    Raises:
        ModelError: the file holds other weights, by which PEFT would replace those of the base, or other numbers.
    """
    parts: dict[str, dict[str, _Entry]] = {}
    matches = {key: _KEY.fullmatch(key) for key in file.keys()}  # noqa: SIM118, not a mapping
    others = [key for key, match in matches.items() if match is None]
    if len(others) == len(matches) > 0:
        raise ModelError(
            f"The weights in {place} do not have the names that PEFT gives those of LoRA ({short_repr(others[0])})",
            "Save the adapter with PEFT's save_pretrained()",
        )
    if others:
        raise not_scalable(place, f"its weights include {short_repr(others[0])}")
    for key, match in matches.items():
        assert match is not None
        name, part, tensor = match["module"], match["part"], file.get_slice(key)
        entry = _Entry(key, tuple(tensor.get_shape()), str(tensor.get_dtype()))
        if part in parts.setdefault(name, {}):
            raise damaged(place, f"it has {part} of {short(name)} twice")
        if entry.dtype not in _DTYPES:
            raise ModelError(
                f"The weights in {place} are not all floating-point numbers of 16 bits or more: {part} of "
                f"{short(name)} is of type {entry.dtype}",
                "Save the adapter in float32 with PEFT's save_pretrained()",
            )
        parts[name][part] = entry
    return parts


def _check_layers(
    parts: Mapping[str, Mapping[str, _Entry]],
    model: nn.Module,
    settings: AdapterSettings,
    layers: Mapping[str, LayerUpdate],
    place: str,
) -> None:
    """Raises ModelError unless there are weights for exactly the selected layers, in their shapes."""
    modules = dict(model.named_modules())
    needed = {"lora_A", "lora_B"}
    needed |= {"lora_magnitude_vector"} if settings.use_dora else set()
    needed |= {"lora_B.bias"} if settings.lora_bias else set()
    for name, entries in parts.items():
        if name not in modules:
            raise _for_another_base(name, "is not in this one", settings, place)
        _check_linear(name, modules[name], place)
        _check_shapes(name, entries, modules[name], settings, place)
        if unused := sorted(entries.keys() - needed):
            raise ModelError(
                f"The weights in {place} have {unused[0]} for {name}, which its {SETTINGS} does not mention",
                _SAME_ADAPTER,
            )
    if not layers and not parts:
        raise ModelError(f"The adapter in {place} changes no layer of this base model", "Choose another one")
    if unselected := sorted(parts.keys() - layers.keys()):
        raise ModelError(
            f"The adapter in {place} has weights for {len(unselected)} layers that its {SETTINGS} does not select, "
            f"such as {unselected[0]}",
            f"{_SAME_ADAPTER}, or correct target_modules, exclude_modules, layers_to_transform and layers_pattern",
        )
    for name in layers:
        _check_linear(name, modules[name], place)
    if missing := sorted(name for name in layers if not needed <= parts.get(name, {}).keys()):
        raise ModelError(
            f"The adapter in {place} is incomplete: it has no weights for {len(missing)} of the {len(layers)} "
            f"layers it changes, such as {missing[0]}",
            COPY_AGAIN,
        )
    for name, layer in layers.items():
        if (rank := parts[name]["lora_A"].shape[0]) != layer.rank:
            raise ModelError(
                f"The weights in {place} have rank {rank}, but its {SETTINGS} says {layer.rank} for {name}",
                _SAME_ADAPTER,
            )


def _check_linear(name: str, module: nn.Module, place: str) -> None:
    if not isinstance(module, nn.Linear):
        raise not_scalable(place, f"{name} is of type {type(module).__name__}")


def _check_shapes(
    name: str, entries: Mapping[str, _Entry], linear: nn.Module, settings: AdapterSettings, place: str
) -> None:
    """Raises ModelError unless one layer's tensors have shapes that fit it and each other."""
    assert isinstance(linear, nn.Linear)
    shapes = {part: entry.shape for part, entry in entries.items()}
    if any(len(shapes[part]) != 2 for part in ("lora_A", "lora_B") if part in shapes):
        raise damaged(place, f"{name} has no matrices")
    inputs = {shapes[part][1] for part in ("lora_A",) if part in shapes}
    outputs = {shapes[part][0] for part in ("lora_B", "lora_B.bias", "lora_magnitude_vector") if shapes.get(part)}
    if inputs - {linear.in_features} or outputs - {linear.out_features}:
        here = f"has {linear.in_features} inputs and {linear.out_features} outputs here"
        raise _for_another_base(name, here, settings, place)
    ranks = {shapes["lora_A"][0]} if "lora_A" in shapes else set()
    ranks |= {shapes["lora_B"][1]} if "lora_B" in shapes else set()
    vectors = [part for part in ("lora_B.bias", "lora_magnitude_vector") if len(shapes.get(part, (1,))) != 1]
    if len(ranks) > 1 or vectors:
        raise damaged(place, f"the shapes of {name} do not fit each other")


def _for_another_base(name: str, mismatch: str, settings: AdapterSettings, place: str) -> ModelError:
    base = settings.base_model_name_or_path
    return ModelError(
        f"The adapter in {place} is for another base model: {short(name)} {mismatch}",
        "Choose the base model it was trained for" + (f" ({short(base)})" if base else ""),
    )


def _read_tensor(file: Any, entry: _Entry, name: str, place: str) -> Tensor:
    """Reads one tensor. Raises ModelError for a value that is not finite or that 16 bits do not hold."""
    tensor: Tensor = file.get_tensor(entry.key)
    largest = tensor.abs().max().item()  # NaN if any is
    if largest <= _MAX_VALUE:
        return tensor
    if not tensor.isfinite().all():
        raise ModelError(
            f"The adapter in {place} has weights that are not finite, for example in {name}",
            "Use the adapter of an earlier step, or train again with a lower learning rate",
        )
    raise _too_large(name, f"a weight of {amount(largest)}, more than 16 bits hold ({amount(_MAX_VALUE)})", place)


def _scaling(layer: LayerUpdate, settings: AdapterSettings) -> float:
    """PEFT's factor of the update."""
    return layer.alpha / (sqrt(layer.rank) if settings.use_rslora else layer.rank)


def _check_gain(name: str, tensors: Mapping[str, Tensor], scaling: float, place: str) -> None:
    """Raises ModelError if a layer's update is out of all proportion to a base model's layer.

    The gain is the root mean square of the update's outputs for random inputs whose root mean square is 1.
    """
    first, second = tensors["lora_A"].float(), tensors["lora_B"].float()
    outputs = len(second)
    gains = [tensors[part].float().norm().item() for part in ("lora_magnitude_vector",) if part in tensors]
    gains += [scaling * tensors[part].float().norm().item() for part in ("lora_B.bias",) if part in tensors]
    bound = scaling * (first.norm() * second.norm()).item()
    if bound > _MAX_GAIN * sqrt(outputs):  # only then the product is needed, whose norm is the trace of small matrices
        product = ((second.T @ second).double() * (first @ first.T).double()).sum().clamp(min=0)
        bound = scaling * product.sqrt().item()
    gain = max(gains + [bound]) / sqrt(outputs)
    if gain > _MAX_GAIN:
        raise _too_large(
            name, f"an update that multiplies its inputs by {amount(gain)}; a base model's do by about 1", place
        )


def _too_large(name: str, what: str, place: str) -> ModelError:
    return ModelError(
        f"The adapter in {place} has absurdly large weights: {name} has {what}",
        "Use the adapter of an earlier step, or train again with a lower learning rate",
    )
